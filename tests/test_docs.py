"""The tables equation -> function, in docs/paper_to_code.md and in the README, against the code."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from ddpm_hub import PRESETS

ROOT = Path(__file__).parent.parent
LABEL = re.compile(
    r"Eqs?\. \d+(?:-\d+)?|Algorithm \d|[Ss]ection \d(?:\.\d)?|Figure \d+|appendix [A-Z]"
    r"|\w+ (?:& \w+ |et al\. )\d{4}"
)


def rows(path):
    """(labels, dotted name) of each table row that names a function of ours."""
    for line in path.read_text().splitlines():
        names = re.findall(r"`(ddpm_hub\.[\w.]+)(?:\(\))?`", line)
        if line.startswith("|") and names:
            first_cell = line.strip("|").split("|")[0]
            labels = LABEL.findall(first_cell)
            assert labels, f"no equation named in: {line}"
            yield from ((labels, name) for name in names)


def resolve(name):
    """The object behind a dotted name, `ddpm_hub.module.Class.method`."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"{name} does not exist")


DOCS = [*rows(ROOT / "docs" / "paper_to_code.md")]
README = [*rows(ROOT / "README.md")] if (ROOT / "README.md").exists() else []


@pytest.mark.parametrize(("labels", "name"), [*DOCS, *README], ids=str)
def test_a_function_in_the_table_exists_and_its_docstring_begins_with_the_equation(labels, name):
    first_line = (resolve(name).__doc__ or "").strip().split("\n")[0].lower()
    said = [label for label in labels if label.lower() in first_line]
    assert said, f"{name}: {first_line!r} names none of {labels}"
    equations = [label for label in labels if label.startswith("Eq")]
    assert set(equations) <= set(said)


def test_both_tables_name_the_equations_of_the_paper():
    for table in (DOCS, README):
        named = {label for labels, _ in table for label in labels}
        assert {"Eq. 4", "Eqs. 6-7", "Eq. 14", "Algorithm 1", "Algorithm 2"} <= named


def test_every_method_whose_docstring_names_an_equation_is_in_the_table():
    from ddpm_hub.diffusion import GaussianProcess

    listed = {name.split(".")[-1] for _, name in DOCS}
    for name, method in vars(GaussianProcess).items():
        first_line = (getattr(method, "__doc__", None) or "").strip().split("\n")[0]
        if re.match(r"Eqs?\. \d|Algorithm \d", first_line):
            assert name in listed, f"{name} ({first_line}) is not in docs/paper_to_code.md"


def test_the_presets_of_the_training_guide_are_those_of_the_code_with_their_cost():
    guide = (ROOT / "docs" / "training.md").read_text().split("## Presets")[1]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", guide, re.M)
    assert dict(rows) == {name: preset.cost for name, preset in PRESETS.items()}


LIMIT = re.compile(r"\| ([\d,]+) \| `(\w+)\.(\w+)` \|")


def test_the_limits_that_the_guide_of_the_demo_names_are_those_of_the_demo():
    found = LIMIT.findall((ROOT / "docs" / "demo.md").read_text())
    assert len(found) >= 12
    for said, module, name in found:
        value = getattr(import_module(f"ddpm_hub.app.{module}"), name)
        assert float(said.replace(",", "")) == value, f"{module}.{name} is {value}, not {said}"
