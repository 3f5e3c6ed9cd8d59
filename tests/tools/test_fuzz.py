"""Ten thousand hostile cases for every target, and every case that was once a finding, again.

The same tool runs millions of them (docs/hostile-input.md). Here its supervisor and its checks are tested
too, by targets that crash, hang, take too much memory or print more than a sentence.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines.errors import LvmError
from tools.fuzzing.case_check import find_problem
from tools.fuzzing.minimise import find_finding, minimise_finding, shrink
from tools.fuzzing.targets import NAMES

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parents[1] / "fuzz_corpus"
CASES = 10_000


def _fuzz(*options: str) -> tuple[int, dict]:
    command = [sys.executable, "-m", "tools.fuzzing", *options]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout, done.stderr[-3000:]
    return done.returncode, json.loads(done.stdout.splitlines()[-1]) | {"stories": done.stderr[-6000:]}


@pytest.mark.skipif(sys.platform != "linux", reason="the fuzzer watches memory as Linux tells it")
@pytest.mark.parametrize("target", NAMES)
def test_ten_thousand_cases_end_cleanly_or_in_one_sentence(target):
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
    status, result = _fuzz("--target", target, "--cases", str(CASES), "--seed", "0")
    assert not result["kinds"], (result["kinds"], result["stories"])
    assert result["cases"] >= CASES and result["corpus"] > 5
    assert result["crashes"] == result["hangs"] == result["memory"] == 0
    assert status == 0


@pytest.mark.parametrize(
    "file", sorted(CORPUS.glob("*/*.bin")), ids=lambda file: f"{file.parent.name}/{file.stem}"
)
def test_former_findings_are_handled(file):
    assert find_finding(file.parent.name, file.read_bytes()) is None


def test_the_http_target_covers_every_documented_path(tmp_path, monkeypatch):
    """A list by hand had missed the thumbnails, where `t=nan` was a 500."""
    from edge_runtime.privacy.thumbnails import Thumbnails
    from tools.fuzzing.targets.http import Target

    target = Target(tmp_path)
    seeds = {seed.split(b" ")[1]: seed for seed in target.seeds()}
    assert b"/api/v1/activities?from=nan" in seeds and b"/api/v1/forget" in seeds
    hostile = seeds[b"/api/v1/cameras/demo/thumbnail.jpg?t=nan"]
    target.run(hostile)
    monkeypatch.setattr(Thumbnails, "read", lambda self, t: self._files()[round(t)])
    with pytest.raises(AssertionError, match="cannot convert float NaN|\\b500\\b"):
        target.run(hostile)


# -- the checks of a case ----------------------------------------------------------------------------------


def _raises(error):
    def run(data):
        raise error

    return run


@pytest.mark.parametrize(
    "error, signature",
    [
        (KeyError("x"), "KeyError in test_fuzz.py:run"),
        (RecursionError(), "RecursionError"),
        (MemoryError(), "MemoryError"),
        (LvmError(""), "sentence is empty"),
        (LvmError("a\nb"), "sentence is more than one line"),
        (LvmError("\x1b[31m"), "sentence is more than one line, or has control characters"),
        (LvmError("x" * 2000), "sentence is longer"),
    ],
)
def test_everything_but_a_one_line_refusal_is_a_problem(error, signature):
    problem = find_problem(_raises(error), b"")
    assert problem is not None and problem[0].startswith(signature)


def test_answers_and_refusals_are_no_problem():
    assert find_problem(lambda data: None, b"") is None
    assert find_problem(_raises(LvmError("expected a picture, got none")), b"") is None


# -- the supervisor ----------------------------------------------------------------------------------------

BROKEN = """
import os, time
from engines.errors import LvmError
class Target:
    max_bytes = 8
    def __init__(self, folder): pass
    def seeds(self): return [b"ok", b"no", {seed!r}]
    def mutate(self, data, rng): return None
    def run(self, data):
        if data == b"no": raise LvmError("no")
        if data == {seed!r}: {act}
"""
ACTS = {
    "exceptions": "raise KeyError('x')",
    "crashes": "os.abort()",
    "hangs": "time.sleep(100)",
    "memory": "self.kept = b'x' * (300 << 20)",
}


@pytest.mark.parametrize("kind", ACTS)
def test_the_supervisor_survives_and_counts_what_kills_its_worker(kind, tmp_path, monkeypatch):
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
    from tools.fuzzing import campaign

    folder = tmp_path / "tools" / "fuzzing" / "targets"
    folder.mkdir(parents=True)
    for file in (ROOT / "tools" / "fuzzing").glob("*.py"):
        (folder.parent / file.name).write_text(file.read_text())
    (folder / "__init__.py").write_text((ROOT / "tools/fuzzing/targets/__init__.py").read_text())
    (folder / "query.py").write_text(BROKEN.format(seed=b"bad", act=ACTS[kind]))
    monkeypatch.setattr(campaign, "ROOT", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setattr(campaign, "WALL_S", 3.0)
    monkeypatch.setattr(campaign, "MEMORY_BYTES", 200 << 20)
    monkeypatch.setattr(campaign, "MAX_DEATHS", 1)
    monkeypatch.setattr(campaign, "read_max_bytes", lambda name: 8)
    totals = campaign.Campaign("query", tmp_path / "out", 0, lambda totals: None).run(50)
    assert getattr(totals, kind) >= 1 and not totals.clean
    others = {"exceptions", "crashes", "hangs", "memory"} - {kind}
    assert all(getattr(totals, other) == 0 for other in others)
    saved = [file.read_bytes() for file in (tmp_path / "out" / "findings").glob("*.bin")]
    assert b"bad" in saved


def test_a_run_goes_on_where_it_was(tmp_path):
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
    options = ("--target", "yaml", "--cases", "300", "--out", str(tmp_path))
    first, again = _fuzz(*options)[1], _fuzz(*options)[1]
    assert first["cases"] >= 300 and again["cases"] >= first["cases"] + 300
    assert again["corpus"] >= first["corpus"] and again["seconds"] > first["seconds"]


# -- making findings small ---------------------------------------------------------------------------------


def test_a_finding_becomes_as_small_as_it_can_be():
    data = bytes(range(256)) + b"BUG" + bytes(500)
    assert shrink(data, lambda less: b"BUG" in less) == b"BUG"


def test_what_is_no_finding_stays_as_it_is():
    assert minimise_finding("yaml", b"version: 1\n") == (b"version: 1\n", None)
