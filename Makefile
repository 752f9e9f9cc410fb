# Every target does its own set-up in .venv, inside this clone.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install -qq --disable-pip-version-check
# the reference implementation, a peer for tests and benchmarks only: without its dependencies,
# since tests/peers.py stands in for those that its network and its sampler never call
PEERS := denoising-diffusion-pytorch==2.3.4 ema-pytorch==0.8.3
TORCH_IN_RANGE := from importlib.metadata import version; \
  v = tuple(map(int, version("torch").split("+")[0].split("."))); \
  raise SystemExit(not (2, 10) <= v <= (2, 13, 0))

.PHONY: help demo test test-long test-gpu check bench bench-gpu browser clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.app ## open the browser demo
	$(PY) app.py

test: check browser ## the whole test suite: ruff, then pytest (with a real browser)
	$(PY) -m pytest

test-long: $(VENV)/.test ## kill a training 50 times instead of 10, open 10,000 damaged files instead of 500
	DDPM_HUB_KILLS=50 DDPM_HUB_FUZZ=10000 $(PY) -m pytest tests/test_resume.py tests/test_fuzz.py

test-gpu: $(VENV)/.test ## on a CUDA GPU: its graphs answer as the network does
	$(PY) -m pytest tests/gpu.py

check: $(VENV)/.test ## the style check alone
	$(PY) -m ruff check .

bench: $(VENV)/.bench ## speed beside the peers' and the machine's limit: networks, training, runs, streaming
	$(PY) benchmarks/floors.py
	$(PY) benchmarks/unet.py
	$(PY) benchmarks/unet2d.py
	$(PY) benchmarks/sampling.py
	$(PY) benchmarks/opening.py
	$(PY) benchmarks/loading.py
	$(PY) benchmarks/keeping.py
	$(PY) benchmarks/training.py
	$(PY) benchmarks/streaming.py

bench-gpu: $(VENV)/.bench ## the same on a CUDA GPU: networks, training, the share of its matrix rate
	$(PY) benchmarks/floors.py --device cuda
	$(PY) benchmarks/unet.py --device cuda
	$(PY) benchmarks/unet2d.py --device cuda --batch 128
	$(PY) benchmarks/training.py --device cuda --batch 32

browser: $(VENV)/.test ## the browser that the end-to-end tests drive
	@bash .ci/browser $(PY)

clean: ## remove the virtual environment and the caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build *.egg-info

# torch first and by exact version, so that a CPU build offered beside the registry's is taken
$(VENV)/.torch:
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -c '$(TORCH_IN_RANGE)' 2>/dev/null || { \
	  echo "installing torch 2.13.0"; $(PIP) torch==2.13.0; }
	@touch $@

$(VENV)/.app: $(VENV)/.torch pyproject.toml requirements.txt
	$(PIP) -r requirements.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/.app
	$(PIP) -e '.[test]'
	$(PIP) --no-deps $(PEERS)
	$(PIP) --no-deps --upgrade --target build/eval torch-fidelity==0.4.0 torchvision==0.28.0
	@touch $@

# what the reference's Trainer imports: without their dependencies, and out of the tests' way
$(VENV)/.bench: $(VENV)/.test
	$(PIP) --no-deps --target build/bench accelerate==1.15.0 torchvision==0.28.0
	@touch $@
