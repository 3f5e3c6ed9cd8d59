from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.fakes.source_watcher import ReceivedFrame
from tools.reliability import source_faults
from tools.reliability.source_faults import FaultRecord, count_lost_frames

ROOT = Path(__file__).parents[2]


def make_frames(*times, late=100.0):
    return [ReceivedFrame(t + late, t, 0, (1, 1)) for t in times]


def test_what_is_missing_while_the_camera_was_there_is_lost():
    whole = make_frames(*(k / 5 for k in range(20)))
    assert count_lost_frames(whole, [], 5.0) == 0
    hole = whole[:5] + whole[10:]  # 1.0 to 1.8 s
    assert count_lost_frames(hole, [], 5.0) == 5
    assert count_lost_frames(hole, [(100.9, 101.9)], 5.0) == 0
    assert count_lost_frames(hole, [(100.9, 101.3)], 5.0) == 3
    assert count_lost_frames(hole, [(101.35, 101.95)], 5.0) == 2
    # A burst of old pictures after an outage is no frame of later.
    burst = whole[:5] + [ReceivedFrame(102.0, 1.0, 0, (1, 1))] + whole[10:]
    assert count_lost_frames(burst, [(100.9, 101.9)], 5.0) == 0


def test_the_tool_injects_and_ends_with_a_table_and_one_json_object():
    command = [sys.executable, "-m", "tools.reliability.source_faults", "--times", "1"]
    command += ["--only", "Broken", "CutShort", "ClockSet"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.splitlines()
    result = json.loads(last)
    assert result["ok"], result
    assert [row["injected"] for row in result["faults"]] == [1, 1, 1]
    assert len(table) == 5 and table[2].startswith("| RTSP connection broken | 1 |")


@pytest.mark.parametrize("took, slowdown, status", [(1.9, 1.0, 0), (2.1, 1.0, 3), (2.1, 1.2, 0)])
def test_a_recovery_beyond_its_bound_fails_the_run(monkeypatch, capsys, took, slowdown, status):
    def fake_injection(kind, times, seed, stop, control):
        record = FaultRecord(kind.__name__)
        record.outages.append((0.0, 1.0))
        record.add_recovery(took, slowdown)
        return record

    monkeypatch.setattr(source_faults, "inject_faults", fake_injection)
    monkeypatch.setattr(sys, "argv", ["source_faults", "--only", "Broken"])
    assert source_faults.main() == status
    output = capsys.readouterr()
    assert json.loads(output.out.splitlines()[-1])["ok"] == (status == 0)
    message = "not recovered in time: Broken: 2.10 s, allowed were 2 s times 1.00"
    assert (message in output.err) == bool(status)


def test_a_camera_that_never_came_back_fails_the_run():
    record = FaultRecord("gone")
    assert record.ok
    record.not_recovered = 1
    assert not record.ok
