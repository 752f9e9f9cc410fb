"""What only a GPU can show: `make test-gpu` runs it on one, and it fails where there is none."""

import pytest
import torch

from ddpm_hub import GaussianDiffusion, Unet, fast
from ddpm_hub.nets import trained
from ddpm_hub.nets.graphed import graphed
from ddpm_hub.nets.half import half
from ddpm_hub.runtime import channels_last


@torch.no_grad()
def test_a_recording_answers_as_its_network_does():
    torch.manual_seed(0)
    net = half(Unet(dim=32, dim_mults=(1, 2), num_classes=3)).cuda()
    replayed = graphed(half(Unet(dim=32, dim_mults=(1, 2), num_classes=3)).cuda())
    for mine, other in zip(replayed.parameters(), net.parameters(), strict=True):
        mine.copy_(other)
    for batch in (2, 3, 2, 2):
        x = torch.randn(batch, 3, 32, 32, device="cuda", dtype=torch.bfloat16)
        t = torch.randint(1000, (batch,), device="cuda")
        classes = torch.randint(3, (batch,), device="cuda")
        assert torch.equal(replayed(x, t), net(x, t))
        assert torch.equal(replayed(x, t, classes=classes), net(x, t, classes=classes))


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("precise", [True, False])
def test_layers_with_gradients_by_hand_agree_with_the_plain_ones(full, precise, monkeypatch):
    torch.manual_seed(0)
    net = channels_last(Unet(32, dim_mults=(1, 2), channels=3, full_attn=full).cuda())
    x, t = torch.randn(4, 3, 32, 32, device="cuda"), torch.tensor([3, 90, 500, 900], device="cuda")
    weights = [*net.parameters()]

    def gradients(bf16):
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            loss = net(x, t).float().square().mean()
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])

    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        fast = gradients(not precise)
        monkeypatch.setattr(trained, "pays", lambda x: False)
        want = gradients(False)
        plain = gradients(not precise)
    bound = 1e-4 if precise else 1.2 * (plain - want).norm() / want.norm()
    assert not torch.equal(fast, plain) and (fast - want).norm() <= bound * want.norm()


def test_a_gpu_draws_by_the_way_that_is_fastest_there(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    torch.manual_seed(0)
    diffusion = GaussianDiffusion(Unet(dim=32, dim_mults=(1, 2)), image_size=32).cuda()
    asked = {"sampler": "unipc", "steps": 5, "seed": 1, "progress": False}
    want = diffusion.sample(4, **asked)
    for way in ("auto", "half", "graphed"):
        quick = diffusion.accelerated(way, batch_size=4)
        assert quick.runtime.runtime in fast.RACED["cuda"]
        assert (quick.sample(4, **asked) - want).abs().mean() < 0.02
