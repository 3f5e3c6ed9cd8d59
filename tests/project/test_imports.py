"""Who may import whom: engines <- edge_runtime <- export <- tools; no torch in engines and edge_runtime."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSES = ("engines", "edge_runtime", "export", "tools")
WORKBENCH = {"torch", "torchvision", "timm", "onnx", "onnxscript", "nncf"}
ONLY_IN = {
    "openvino": {"engines/openvino_engine.py", "export"},
    "tensorrt": {"engines/tensorrt_versions.py"},
    "cuda": {"engines/cuda.py"},
    "pycuda": {"engines/cuda.py"},
    "fastapi": {"edge_runtime/interfaces/http"},
    "uvicorn": {"edge_runtime/interfaces/http"},
    "cryptography": {"edge_runtime/persistence/encryption.py"},
    "aiomqtt": {"edge_runtime/interfaces/mqtt/connection.py"},
    "paho": {"edge_runtime/interfaces/mqtt/connection.py"},
    "gi": {"edge_runtime/sources/gstreamer.py"},
}


LAYERS = (
    "frame system imaging simulation sources memory ingest persistence catalogue query "
    "config privacy activity teaching service benchmarks interfaces"
).split()
"""Rooms of `edge_runtime`, low to high: an import runs from a higher to a lower one."""
FACADE = "edge_runtime"
"""`edge_runtime/__init__.py` offers `Memory` lazily: the door of the whole package, above everything."""


def _imports(path: Path) -> set[str]:
    """Return the dotted names that a file imports, those within functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in _imports(path)}


def _files(house: str) -> list[Path]:
    return sorted((ROOT / house).rglob("*.py"))


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _node(path: Path) -> str:
    """Return the folder of a module; a module that lies beside folders of code is a node of its own."""
    beside = any(path.parent.glob("*/*.py"))
    return _module(path) if beside else ".".join(path.parent.relative_to(ROOT).parts)


def _edges() -> dict[str, set[str]]:
    nodes = {_module(path): _node(path) for house in HOUSES for path in _files(house)}
    edges: dict[str, set[str]] = {node: set() for node in nodes.values()}
    for house in HOUSES:
        for path in _files(house):
            known = {nodes[name] for name in _imports(path) if name in nodes}
            edges[_node(path)] |= known - {_node(path)}
    return edges


def _circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return what is left after nodes without imports, or that nobody imports, are taken away."""
    left = {node: set(targets) for node, targets in edges.items()}
    while True:
        used = set().union(*left.values()) if left else set()
        ends = {node for node, targets in left.items() if not targets or node not in used}
        if not ends:
            return sorted([node, *sorted(targets)] for node, targets in left.items())
        left = {node: targets - ends for node, targets in left.items() if node not in ends}


def test_circles_are_found():
    assert _circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"], ["c", "b"]]


def test_no_imports_run_in_a_circle():
    edges = _edges()
    assert len(edges) > 50 and _circles(edges) == []


def test_no_module_imports_itself_or_defines_something_after_it_ran():
    for package in HOUSES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree, name = ast.parse(path.read_text()), ".".join(path.relative_to(ROOT).with_suffix("").parts)
            imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
            assert name not in imported, f"{path} imports itself"
            guards = [node for node in tree.body[:-1] if _is_main_guard(node)]
            assert not guards, f"{path} defines something after it ran as a program"


def _is_main_guard(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def test_no_module_imports_one_that_imports_it():
    nodes = {_module(path): path for house in HOUSES for path in _files(house)}
    edges = {name: (_imports(path) & nodes.keys()) - {name} for name, path in nodes.items()}
    for name in edges:  # `from package import module` is an import of the module
        edges[name] -= {one for one in edges[name] if any(more.startswith(one + ".") for more in edges[name])}
    assert _circles(edges) == []


def test_imports_of_the_device_run_from_higher_rooms_to_lower_ones():
    upward = []
    for path in _files("edge_runtime"):
        if _module(path) == FACADE:
            continue
        room = _module(path).split(".")[1]
        for name in _imports(path):
            target = name.split(".")[1] if name.startswith("edge_runtime.") else room
            if target in LAYERS and LAYERS.index(target) > LAYERS.index(room):
                upward.append(f"{_module(path)} imports {name}")
    assert upward == []


def test_every_room_of_the_device_has_its_layer():
    rooms = {_module(path).split(".")[1] for path in _files("edge_runtime") if _module(path) != FACADE}
    assert rooms == set(LAYERS)


def test_few_modules_lie_at_the_root_of_the_device():
    assert len(list((ROOT / "edge_runtime").glob("*.py"))) <= 8


@pytest.mark.parametrize("house", HOUSES[:3])
def test_houses_import_only_what_stands_below_them(house):
    above = set(HOUSES[HOUSES.index(house) + 1 :])
    broken = {str(file.relative_to(ROOT)): _packages(file) & above for file in _files(house)}
    assert {name: found for name, found in broken.items() if found} == {}


@pytest.mark.parametrize("house", ["engines", "edge_runtime"])
def test_the_device_never_imports_the_workbench(house):
    broken = {str(file.relative_to(ROOT)): _packages(file) & WORKBENCH for file in _files(house)}
    assert {name: found for name, found in broken.items() if found} == {}


@pytest.mark.parametrize(("package", "rooms"), ONLY_IN.items())
def test_heavy_packages_live_in_their_own_room(package, rooms):
    for house in HOUSES[:3]:
        for file in _files(house):
            name = str(file.relative_to(ROOT))
            if package in _packages(file):
                places = {name, house, *map(str, file.relative_to(ROOT).parents)}
                assert places & rooms, f"{name} imports {package}"


def test_the_command_line_starts_without_any_heavy_package():
    code = (
        "import sys; import edge_runtime.interfaces.cli.main; "
        "heavy = {'torch', 'openvino', 'tensorrt', 'cuda', 'fastapi', 'uvicorn', 'onnx', 'gi', "
        "'cryptography', 'aiomqtt', 'paho'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
