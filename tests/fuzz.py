"""Strangers' files by the thousand: mutated configs and weights, opened as a visitor would.

    python tests/fuzz.py configs 10000        # or weights; a seed may follow
    {"cases": 10000, "opened": ..., "refused": ..., "slowest_ms": ..., "peak_mb": ...}

The slowest case is in CPU time, the memory is above idle. A case that ends in anything but a model
or an error of `ddpm_hub.errors`, or has no end within a second of CPU time, ends the run and says
which it is. In the room: how files are damaged.
Not in the room: what must hold of the figures (`test_fuzz.py`).
"""

import gc
import json
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
from pathlib import Path

import torch
from memory import peak
from support import HERE, random_diffusion

from ddpm_hub import GaussianDiffusion
from ddpm_hub.errors import DDPMHubError

LONGEST = 1.0, 60.0  # seconds of CPU, of the clock: the machine may be busy with other things
PIPELINE = HERE / "golden" / "diffusers_pipeline"
NASTY = [
    -1, 0, 1, 2, 3, 2**31, 2**63, 10**400, -(2**63), 0.5, -0.5, 1e308, float("nan"),
    float("inf"), True, False, None, "", "x", "../../etc/passwd", "Unet", "UNet2D", "cosine",
    "<img onerror=alert(1)>", "\u0000", "9" * 5000, [], [0], [[]], [1] * 5000, [2**63] * 3, {},
    {"a": 1}, {"_class_name": "Unet"}, [True, False], [8, 8], [10**9, 10**9],
]  # fmt: skip


def main(kind: str, cases: int, seed: int = 0) -> dict:
    """Open `cases` mutations; the figures."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        homes = _homes(Path(folder))
        for home in homes:
            GaussianDiffusion.from_pretrained(home)  # what is loaded lazily is loaded
        gc.collect()
        gc.freeze()  # a sweep over all of torch takes 100 ms and is no case's fault
        before, figures = peak(), {"cases": cases, "opened": 0, "refused": 0, "slowest_ms": 0.0}
        for case in range(cases):
            rng = random.Random(f"{seed} {case}")
            home = rng.choice(homes)
            path = rng.choice(sorted(home.rglob("*.json" if kind == "configs" else "*.safet*")))
            good = path.read_bytes()
            path.write_bytes((mutated_config if kind == "configs" else mutated_weights)(good, rng))
            try:
                spent, opened = _open(home)
            except BaseException:
                print(f"case {case} of seed {seed}: {path.name} of {home.name}", file=sys.stderr)
                shutil.copy(path, Path(tempfile.gettempdir()) / f"fuzz-{case}-{path.name}")
                raise
            path.write_bytes(good)
            figures["opened" if opened else "refused"] += 1
            figures["slowest_ms"] = max(figures["slowest_ms"], round(1000 * spent, 1))
        return figures | {"peak_mb": round((peak() - before) / 2**20, 1)}


def _homes(folder: Path) -> list[Path]:
    """Three models to damage: ours with either network, and one as diffusers stores it."""
    unet = {"attn_heads": [2, 1], "num_classes": 3}
    options = {"auto_normalize": True, "schedule_fn_kwargs": {"start": -3.0}}
    random_diffusion(unet=unet, **options).save_pretrained(folder / "unet")
    shutil.copytree(PIPELINE, folder / "pipeline")
    GaussianDiffusion.from_pretrained(folder / "pipeline").save_pretrained(folder / "unet2d")
    return sorted(path for path in folder.iterdir())


def _open(home: Path) -> tuple[float, bool]:
    """(CPU seconds, whether it opened)."""
    started = time.process_time()
    _alarm(*LONGEST)
    try:
        GaussianDiffusion.from_pretrained(home)
        return time.process_time() - started, True
    except DDPMHubError as error:
        assert len(str(error)) < 1000, error
        return time.process_time() - started, False
    finally:
        _alarm(0, 0)


def mutated_config(text: bytes, rng: random.Random) -> bytes:
    """Damaged bytes, or valid JSON that says something else."""
    if rng.random() < 0.3:
        return _damaged(text, rng)
    config = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        _change(config, rng)
    try:
        return json.dumps(config).encode()
    except ValueError:  # an int too long to print: written by hand
        return b'{"format_version": 1' + b"0" * 5000 + b"}"


def _change(config: dict, rng: random.Random) -> None:
    """One value anywhere in the tree is replaced, dropped, renamed or added."""
    place = config
    while (
        inner := [v for v in place.values() if isinstance(v, dict) and v]
    ) and rng.random() < 0.7:
        place = rng.choice(inner)
    key = rng.choice(sorted(place)) if place else "x"
    action = rng.randrange(4)
    if action == 0:
        place[key] = rng.choice(NASTY)
    elif action == 1:
        place.pop(key, None)
    elif action == 2:
        place[rng.choice(["x", "self", "model", "__class__", key + "_"])] = place.pop(key, 1)
    elif isinstance(place.get(key), list) and place[key]:
        place[key][rng.randrange(len(place[key]))] = rng.choice(NASTY)
    else:
        place[key] = [place.get(key)] * rng.randint(0, 3)


def mutated_weights(file: bytes, rng: random.Random) -> bytes:
    """Damaged bytes, a header of the wrong length, or a valid header of something else."""
    kind = rng.random()
    length = struct.unpack("<Q", file[:8])[0]
    if kind < 0.3:
        return _damaged(file, rng)
    if kind < 0.5:
        start = file[8 : 8 + length]
        return struct.pack("<Q", length) + _damaged(start, rng) + file[8 + length :]
    if kind < 0.6:
        return (
            struct.pack("<Q", rng.choice([0, 1, length - 1, length + 1, 2**40, 2**64 - 1]))
            + file[8:]
        )
    header = json.loads(file[8 : 8 + length])
    name = rng.choice([name for name in header if name != "__metadata__"])
    field, value = rng.choice(
        [("dtype", rng.choice(["F16", "I64", "BOOL", "F8_E4M3", "C64", "", 3])),
         ("shape", rng.choice([[], [0], [2**63, 2], [-1], [1, 1], "x", [10**9] * 3])),
         ("data_offsets", rng.choice([[0, 0], [4, 0], [0, 2**63], [-4, 0], [0, 4, 8], None]))]
    )  # fmt: skip
    action = rng.randrange(4)
    if action == 0:
        header[name][field] = value
    elif action == 1:
        header[name + "x"] = header.pop(name)
    elif action == 2:
        header.pop(name)
    else:
        header["__metadata__"] = rng.choice([{}, {"a": 1}, None, [], {"x" * 9999: "y"}])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + file[8 + length :]


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, a stretch cut out, doubled or overwritten, the end missing or too long."""
    data, at = bytearray(data), rng.randrange(len(data))
    far = min(len(data), at + rng.randint(1, 64))
    action = rng.randrange(6)
    if action == 0:
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif action == 1:
        del data[at:far]
    elif action == 2:
        data[at:at] = data[at:far]
    elif action == 3:
        data[at:far] = rng.randbytes(far - at)
    elif action == 4:
        del data[at:]
    else:
        data += rng.randbytes(rng.randint(1, 999))
    return bytes(data)


def _alarm(cpu: float, clock: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, cpu)
    signal.setitimer(signal.ITIMER_REAL, clock)


def _hang(*_: object) -> None:
    raise TimeoutError("this case has no end")


if __name__ == "__main__":
    for alarm in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(alarm, _hang)
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:]))))
