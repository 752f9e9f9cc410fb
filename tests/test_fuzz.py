"""Thousands of damaged files: a model or one of our errors, quickly, in little memory.

500 of each here; `make test-long` opens 10,000 (DDPM_HUB_FUZZ).
"""

import json
import os
import subprocess
import sys

import pytest
from support import HERE

CASES = os.environ.get("DDPM_HUB_FUZZ", "500")


@pytest.mark.parametrize("kind", ["configs", "weights"])
def test_a_damaged_file_is_a_model_or_one_of_our_errors_and_never_a_hang(kind):
    paths = os.pathsep.join([str(HERE.parent), str(HERE)])
    done = subprocess.run(
        [sys.executable, HERE / "fuzz.py", kind, CASES],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout)
    print(figures)
    assert figures["refused"] > figures["cases"] / 3 and figures["opened"] > 0
    assert figures["peak_mb"] < 300
