"""The floors of the house, on the source: who may import whom, and how long a file may be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ddpm_hub"
FLOORS = [
    {"version", "errors", "config", "assignment"},
    {"schedules", "spacings", "gaussians", "images", "runtime", "config_file", "files"}
    | {"randomness", "distributed", "pickles", "memory"},
    {"checkpoint", "weights"},
    {"card"},
    {"hub"},
    {"interop"},
    {"hub_model"},
    {"nets", "data"},
    {"inputs", "fast"},
    {"diffusion"},
    {"loss", "likelihood", "samplers"},
    {"streams"},
    {"sampling"},
    {"editing"},
    {"model"},
    {"training", "evaluate"},
    {"cli", "app"},
]
FLOOR = {room: n for n, rooms in enumerate(FLOORS) for room in rooms}
DOORS = {"__init__", "__main__"}  # the public names, and `python -m ddpm_hub`: they see all floors
ONLY_IN = {
    "gradio": {"app"},
    "huggingface_hub": {"hub_model", "data", "hub", "card"},
    "typer": {"cli"},
    "argparse": {"cli"},
    "diffusers": set(),
    "torchvision": set(),
    "scipy": set(),
    "torch_fidelity": {"evaluate"},
}
LONGEST = 300
SOURCES = sorted(PACKAGE.rglob("*.py"))


def room_of(path, package=PACKAGE):
    return path.relative_to(package).parts[0].removesuffix(".py")


def type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def nodes(tree):
    """Every node but those that only a type checker reads."""
    for child in ast.iter_child_nodes(tree):
        if not type_checking(child):
            yield child
            yield from nodes(child)


def imports(path, package=PACKAGE):
    """Absolute dotted names of all that a file imports, at its top or inside a function."""
    for node in nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inside = path.relative_to(package.parent).with_suffix("").parts
            base = ".".join(inside[: -node.level]) if node.level else ""
            stem = ".".join(part for part in (base, node.module or "") if part)
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def faults(path, package=PACKAGE):
    """What this file imports from its own floor or above, or from a package kept to few rooms."""
    room = room_of(path, package)
    for name in imports(path, package):
        top, *rest = name.split(".")
        if top == package.name and rest and rest[0] in FLOOR and rest[0] != room:
            if room not in DOORS and FLOOR[rest[0]] >= FLOOR[room]:
                yield f"{path.name}, floor {FLOOR[room]}, imports {name}, floor {FLOOR[rest[0]]}"
        elif room not in ONLY_IN.get(top, {room}):
            yield f"{path.name} imports {name}"


def test_every_room_has_a_floor():
    assert {room_of(path) for path in SOURCES} <= FLOOR.keys() | DOORS


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_from_the_floors_below_it(path):
    assert list(faults(path)) == []


def test_the_demo_is_the_only_other_file_that_imports_gradio():
    importers = {
        path.relative_to(ROOT).parts[0]
        for folder in (ROOT / "ddpm_hub", ROOT / "benchmarks", ROOT / "space_config")
        for path in folder.rglob("*.py")
        if "gradio" in {name.split(".")[0] for name in imports(path, ROOT)}
    }
    assert importers <= {"ddpm_hub", "space_config"}


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("app/tabs/**/*.py")), ids=lambda p: p.name)
def test_a_tab_does_not_import_torch(path):
    assert "torch" not in {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("app/tabs/**/*.py")), ids=lambda p: p.name)
def test_a_function_of_a_tab_has_at_most_forty_lines(path):
    """Docstrings left out: those of endpoints are their manual."""
    functions = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]
    for node in functions:
        body = node.body[1:] if ast.get_docstring(node) else node.body
        length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
        assert length <= 40, f"{node.name} has {length} lines"


def test_the_demo_builds_and_launches_and_does_nothing_else():
    assert len((ROOT / "app.py").read_text().splitlines()) <= 40


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_says_what_is_in_the_room_and_a_long_one_says_why_it_is_long(path):
    text = path.read_text()
    says = ast.get_docstring(ast.parse(text))
    if path.name != "__init__.py" or text.strip():
        assert says, f"{path.name} has no docstring"
    if len(text.splitlines()) > LONGEST:
        assert "lines" in says or "long" in says.lower(), f"{path.name} does not say why it is long"


def test_every_function_of_the_library_can_be_seen_at_once():
    """Median under 12 lines of code, docstrings left out."""
    lengths = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body:
                    lengths.append(body[-1].end_lineno - body[0].lineno + 1)
    assert sorted(lengths)[len(lengths) // 2] < 12


def test_the_library_prints_nothing_and_never_sleeps():
    for path in SOURCES:
        if room_of(path) in {"cli", "app", "__main__"}:
            continue
        calls = [
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        ]
        assert not {"print", "time.sleep", "sleep", "input"} & set(calls), path.name


def test_the_checker_itself_finds_what_is_wrong(tmp_path):
    package = tmp_path / "ddpm_hub"
    (package / "nets").mkdir(parents=True)
    path = package / "diffusion.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "from ddpm_hub.schedules import f\nfrom ddpm_hub import errors\n"
        "if TYPE_CHECKING:\n    from ddpm_hub.model import X\n"
    )
    assert list(faults(path, package)) == []
    path.write_text("def f():\n    from ddpm_hub.samplers import X\n    import gradio as gr\n")
    assert len(list(faults(path, package))) == 2
    path = package / "nets" / "unet.py"
    path.write_text("from ..diffusion import X\nfrom .. import model\nfrom .blocks import Y\n")
    assert len(list(faults(path, package))) == 2
