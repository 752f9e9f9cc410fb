"""What every test shares: one thread per network, since they are tiny and the cores are few."""

import signal

import torch

torch.set_num_threads(1)
# a shell that starts the suite in the background has it ignore Ctrl-C, and its children with it
signal.signal(signal.SIGINT, signal.default_int_handler)
