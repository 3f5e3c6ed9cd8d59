"""The real process is killed and resumed, and continues in RAM on a full disk."""

import json
import resource
import subprocess
import sys

from edge_runtime.persistence import FILE, load_snapshot
from tools.reliability.kill import PACED_DEMO, run_kills


def test_killed_runs_end_where_an_uninterrupted_run_does(tmp_path):
    result = run_kills(3, tmp_path, PACED_DEMO, seed=3, longest_s=0.5)
    assert result["passed"] and result["states_wrong"] == [] and result["states_shrunk"] == 0
    assert result["silent"] < 3 and result["frames"] >= 3 - result["silent"]
    assert result["answers"]["asked"] == result["answers"]["equal"] > 20
    assert set(result["frames_lost"]) <= {"0", "1"}


def test_a_run_whose_files_may_not_grow_remembers_in_ram_and_says_so_in_the_end(tmp_path):
    small = 100_000  # less than a snapshot of the default bundle
    command = [sys.executable, "-m", "edge_runtime.interfaces.cli.main", "run", "--source", "demo?size=64x48"]
    command += ["--for", "40", "--state", str(tmp_path / "s"), "--no-http", "--json"]
    command += ["--backend", "onnxruntime"]
    done = subprocess.run(
        command,
        input=b'{"type": "object", "activity": "scan"}\n',
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (small, small)),
    )
    said = done.stderr.decode()
    assert done.returncode == 2 and "Traceback" not in said
    assert said.strip().splitlines()[-1].endswith("cannot be saved: File too large")
    assert said.count("in RAM only") == 1
    assert json.loads(done.stdout.splitlines()[0])["type"] == "object"  # it went on answering
    assert not (tmp_path / "s" / FILE).exists() and load_snapshot(tmp_path / "s") is None
