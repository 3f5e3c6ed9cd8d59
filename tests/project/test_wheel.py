"""The wheel, installed into an environment of its own without torch, runs there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """`bin` of a fresh environment with the wheel and its base dependencies only. Needs the package index."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next((folder / "dist").glob("*.whl"))
    venv.create(folder / "env", with_pip=True)
    bin_ = folder / "env" / "bin"
    subprocess.run([bin_ / "pip", "install", "--quiet", str(wheel)], check=True, capture_output=True)
    return bin_


def test_the_papers_methods_stay_out_of_the_wheel(installed, tmp_path):
    code = "from importlib.util import find_spec; print(find_spec('export.cli'), find_spec('export.papers'))"
    done = _run(installed, str(installed / "python"), "-c", code, cwd=tmp_path)
    assert "cli.py" in done.stdout and done.stdout.strip().endswith("None")


def test_nothing_in_the_wheel_imports_the_papers_methods():
    files = [path for name in ("engines", "edge_runtime", "export") for path in (ROOT / name).rglob("*.py")]
    shipped = [path for path in files if ROOT / "export/papers" not in path.parents]
    assert [path for path in shipped if "export.papers" in path.read_text(encoding="utf-8")] == []


def _run(bin_: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [*words], cwd=cwd, env=env | {"PATH": f"{bin_}:{env['PATH']}"}, capture_output=True, text=True
    )


def test_neither_torch_nor_openvino_comes_along(installed, tmp_path):
    done = _run(installed, str(installed / "pip"), "list", "--format=json", cwd=tmp_path)
    names = {one["name"].lower() for one in json.loads(done.stdout)}
    assert not names & {"torch", "torchvision", "timm", "onnx", "openvino", "tensorrt"}


def test_it_watches_remembers_and_answers(installed, tmp_path):
    command = str(installed / "lvm-edge")
    run = [command, "run", "--source", "demo", "--for", "90", "--state", "s", "--no-http", "--json"]
    done = _run(installed, *run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["frames"] == 90 and summary["tokens"] > 0
    asked = _run(
        installed, command, "ask", "time", "--activity", "scan", "--box", "0.2,0.2,0.6,0.6@30",
        "--state", "s", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["coverage"]["to"] == 90


def test_the_shipped_configurations_are_found(installed, tmp_path):
    code = (
        "from edge_runtime.config.paths import configs; "
        "print(sorted(p.name for p in configs().glob('*.yaml')))"
    )
    done = _run(installed, str(installed / "python"), "-c", code, cwd=tmp_path)
    assert "kiosk.yaml" in done.stdout and "jetson.yaml" in done.stdout


def test_exporting_without_torch_is_one_sentence(installed, tmp_path):
    done = _run(installed, str(installed / "lvm-export"), "--precision", "fp32", cwd=tmp_path)
    assert done.returncode == 4
    assert 'pip install "lvm-edge[export]"' in done.stderr and "Traceback" not in done.stderr
