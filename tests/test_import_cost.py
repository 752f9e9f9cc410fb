"""What importing the package loads: nothing heavy before it is needed. Counted, not timed."""

import subprocess
import sys

import pytest


def loaded(program):
    """Top-level modules that a fresh interpreter holds after `program`."""
    code = f"{program}\nimport sys\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_gradio_nor_the_hubs_client_nor_torch():
    heavy = {"gradio", "huggingface_hub", "torch", "numpy", "PIL", "diffusers", "scipy", "einops"}
    assert not loaded("import ddpm_hub") & heavy


@pytest.mark.parametrize("name", ["Unet", "GaussianDiffusion", "SAMPLERS", "SCHEDULES", "Step"])
def test_no_public_name_of_the_core_loads_gradio_or_a_peer(name):
    have = loaded(f"from ddpm_hub import {name}")
    assert not have & {"gradio", "diffusers", "torchvision", "scipy", "pandas", "fastapi"}


@pytest.mark.parametrize("name", ["SAMPLERS", "SCHEDULES", "Step", "PRESETS", "DDPMHubError"])
def test_names_that_need_no_hub_do_not_load_its_client(name):
    assert "huggingface_hub" not in loaded(f"from ddpm_hub import {name}")


def test_the_names_of_the_contract_are_public():
    import ddpm_hub

    for name in ("Unet", "GaussianDiffusion", "Step", "SAMPLERS", "SCHEDULES", "PRESETS", "train"):
        assert name in dir(ddpm_hub)
        assert name in ddpm_hub.__all__
        assert getattr(ddpm_hub, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ddpm_hub.no_such_name
