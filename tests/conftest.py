"""What every test shares: one thread per network, since they are tiny and the cores are few."""

import torch

torch.set_num_threads(1)
