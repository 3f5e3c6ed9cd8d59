"""Each tool runs from a checkout with tiny settings and ends with one JSON object."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from engines.errors import LvmError, Unavailable
from tools.console import run_tool

ROOT = Path(__file__).parents[2]

TOOLS = {
    "quality.activities": (
        ["--worlds", "1", "--minutes", "1", "--backend", "onnxruntime"],
        {"ways", "clip_average_precision", "ingest_ms_a_clip"},
    ),
}


def _run(name, options):
    command = [sys.executable, "-m", f"tools.{name}", *options]
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=env, cwd=ROOT, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("name", "options", "keys"), [(n, *rest) for n, rest in TOOLS.items()], ids=TOOLS)
def test_a_tool_ends_with_one_json_object(name, options, keys):
    result = _run(name, options)
    assert keys <= set(result), sorted(result)


WRONG = {
    "quality.catalogue": ["--products", "nowhere"],
    "papers.detection": ["--data", "nowhere", "--output", "found"],
    "papers.distil_sampler": ["--bundle", "nowhere", "--data", "data", "--cache", "cache", "--output", "run"],
    "quality.drift": ["--bundle", "nowhere"],
    "papers.longform": ["--bundle", "nowhere", "--cache", "cache", "--output", "found.json"],
    "papers.memory_table": ["--data", "nowhere", "--output", "found", "--attention", "a"],
    "papers.tables": ["--runs", "a", "--speed", "nowhere"],
    "papers.throughput": ["--run", "nowhere", "--bundle", "b", "--data", "data"],
    "papers.tinymem": ["--data", "nowhere", "--output", "found"],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_path_that_is_not_there_is_one_line_and_status_2(name, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *WRONG[name]])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"tools.{name}", run_name="__main__", alter_sys=True)
    message = capfd.readouterr().err.strip()
    assert ended.value.code == 2, message
    assert len(message.splitlines()) == 1 and message.startswith(f"tools.{name}: ") and "nowhere" in message
    assert not list(tmp_path.iterdir()), "nothing is left"


def _raising(error):
    def main():
        raise error

    return main


def test_a_tool_ends_with_the_status_of_its_error_and_a_defect_stays_a_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "tools" / "quality" / "thing.py")])
    for error, status in ((Unavailable("a\nb"), 4), (FileNotFoundError(2, "not there", "f"), 2)):
        with pytest.raises(SystemExit) as ended:
            run_tool(_raising(error))
        assert ended.value.code == status
    assert capsys.readouterr().err == "tools.quality.thing: a b\ntools.quality.thing: f: not there\n"
    for error in (KeyError("a"), BrokenPipeError()):
        with pytest.raises(type(error)):
            run_tool(_raising(error))


def test_the_drift_tool_passes_the_shipped_bundle_and_fails_with_status_3(tmp_path, capsys):
    from tools.quality.drift import main

    gates, report = tmp_path / "gates.yaml", tmp_path / "drift.html"
    few = ["--frames", "62", "--every", "31", "--questions", "18", "--source", "demo?size=112x112"]
    few += ["--backend", "onnxruntime", "--gates", str(gates), "--report", str(report), "--threads", "1"]
    gates.write_text("gates: {asked: 9}\n")
    assert main(few) == 0, capsys.readouterr().err
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["ok"] and result["drift"]["demo?size=112x112"]["frames"] == 62
    assert "Passed" in report.read_text()

    gates.write_text("gates: {asked: 9, limits: {fp32: {error: 1.0e-12}}}\n")
    assert main(few) == 3
    printed = capsys.readouterr()
    result = json.loads(printed.out.splitlines()[-1])
    assert {finding["graph"] for finding in result["findings"]} == {"backbone", "sampler", "reader"}
    assert "backbone, demo?size=112x112 after 31 frames: output tokens differs by" in printed.err
    assert "Failed" in report.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "0"], "--frames: Input should be greater than or equal to 1"),
        (["--source", "rtsp://host/x"], "is live"),
        (["--bundle", "nowhere"], "bundle nowhere does not exist"),
    ],
)
def test_the_drift_tool_says_what_it_cannot_do(options, message):
    from tools.quality.drift import main

    with pytest.raises(LvmError, match=re.escape(message)):
        main(options)
