"""Who may import whom: engines <- edge_runtime <- export <- tools; torch only in export."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSES = ("engines", "edge_runtime", "export", "tools")
WORKBENCH = {"torch", "torchvision", "timm", "onnx", "onnxscript", "nncf"}
ONLY_IN = {
    "openvino": {"engines/openvino_engine.py", "export"},
    "tensorrt": {"engines/tensorrt_versions.py"},
    "cuda": {"engines/cuda.py"},
    "pycuda": {"engines/cuda.py"},
    "fastapi": {
        "edge_runtime/http",
        "edge_runtime/page",
        "edge_runtime/catalogue/doors.py",
        "edge_runtime/privacy/doors.py",
    },
    "uvicorn": {"edge_runtime/http"},
    "cryptography": {"edge_runtime/privacy/sealing.py"},
    "aiomqtt": {"edge_runtime/mqtt/wire.py"},
    "paho": {"edge_runtime/mqtt/wire.py"},
    "gi": {"edge_runtime/sources/gstreamer.py"},
}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def _files(house: str) -> list[Path]:
    return sorted((ROOT / house).rglob("*.py"))


@pytest.mark.parametrize("house", HOUSES[:3])
def test_houses_import_only_what_stands_below_them(house):
    above = set(HOUSES[HOUSES.index(house) + 1 :])
    broken = {str(file.relative_to(ROOT)): _imports(file) & above for file in _files(house)}
    assert {name: found for name, found in broken.items() if found} == {}


@pytest.mark.parametrize("house", ["engines", "edge_runtime"])
def test_the_device_never_imports_the_workbench(house):
    broken = {str(file.relative_to(ROOT)): _imports(file) & WORKBENCH for file in _files(house)}
    assert {name: found for name, found in broken.items() if found} == {}


@pytest.mark.parametrize(("package", "rooms"), ONLY_IN.items())
def test_heavy_packages_live_in_their_own_room(package, rooms):
    for house in HOUSES[:3]:
        for file in _files(house):
            name = str(file.relative_to(ROOT))
            if package in _imports(file):
                places = {name, house, *map(str, file.relative_to(ROOT).parents)}
                assert places & rooms, f"{name} imports {package}"


def test_the_command_line_starts_without_any_heavy_package():
    code = (
        "import sys; import edge_runtime.cli.main; "
        "heavy = {'torch', 'openvino', 'tensorrt', 'cuda', 'fastapi', 'uvicorn', 'onnx', 'gi', "
        "'cryptography', 'aiomqtt', 'paho'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_no_file_has_become_a_hall():
    long = {
        str(file.relative_to(ROOT)): lines
        for house in HOUSES
        for file in _files(house)
        if (lines := len(file.read_text().splitlines())) > 350
    }
    assert long == {}
