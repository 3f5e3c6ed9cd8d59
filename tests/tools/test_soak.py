"""The soak's own oracle, and a soak of seconds with the real process."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engines.errors import LvmError
from tools.reliability.__main__ import describe_machine, read_part
from tools.reliability.page import render_page
from tools.reliability.soaking.faults import FaultInjector, FaultOutcome
from tools.reliability.soaking.oracle import Oracle, evaluate_samples
from tools.reliability.soaking.process import find_problem
from tools.reliability.soaking.record import SoakRecord
from tools.reliability.soaking.schedule import SoakBounds, load_schedule

ROOT = Path(__file__).parents[2]
LOOSE = "back_s: 25, remembered_s: 25, stop_s: 30, start_s: 60, quiet_s: 30, answer_s: 10"


def _soak(folder: Path, bounds: str, seconds: float = 9, cycle: str = "[{fault: kill}]") -> tuple[int, dict]:
    """Run a soak at speed 40; bounds are loose where only a slow machine would break them."""
    folder.mkdir(exist_ok=True)
    schedule = folder / "schedule.yaml"
    schedule.write_text(f"version: 1\nwarm_s: 1\npeace_s: 0.2\ncycle: {cycle}\nbounds: {{{bounds}}}\n")
    command = [sys.executable, "-m", "tools.reliability.soak", "--hours", str(seconds * 40 / 3600)]
    command += ["--speed", "40", "--faults", str(schedule), "--folder", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout, done.stderr[-1000:]
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_soak_kills_the_real_process_finds_its_states_equal_and_goes_on_where_it_was(tmp_path):
    steps = "[{fault: http-cut}, {fault: kill}]"
    status, first = _soak(tmp_path, f"{LOOSE}, answer_p50_grows: 50, answer_p99_grows: 50", 10, steps)
    assert status == 0 and first["ok"], first["objections"]
    assert first["lives_lived"] >= 2 and first["frames"]["demo"] > 20 and first["frames"]["steady"] > 1
    assert first["states"]["compared"] >= 1 and first["states"]["wrong"] == []
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["fault"] for event in events][:2] == ["http-cut", "kill"]
    assert "<polyline" in (tmp_path / "report.html").read_text()
    # Started again with more hours and a bound that is always exceeded, it continues and objects.
    status, second = _soak(tmp_path, "resident_mb: 1", 19, steps)
    assert status == 3 and any("resident is" in what for what in second["objections"])
    assert second["faults"] >= first["faults"] and second["frames"]["demo"] > first["frames"]["demo"]


STILL = {"heap": 7e7, "blocks": 4e5}


def _demo(t: float, speed: float = 80.0) -> dict:
    return {"cameras": {"demo": {"frames": round(t * speed)}}}


def test_growth_and_slower_answers_are_objected_to():
    def samples(grows: float, slower: float, machine: float = 0.0) -> list[dict]:
        """With `machine` the answers are slow because the machine is, which the control has measured."""
        return [
            {
                "t": float(t), "life": 1, "resident": 2e8 + grows * 1e6 * t, **STILL, **_demo(t),
                "slowdown": 1 + machine * t, "ask": {"ms": (10 + slower * t) * (1 + machine * t)},
            }
            for t in range(540)
        ]  # fmt: skip

    whole, objections = evaluate_samples(samples(0, 0), SoakBounds())
    assert objections == [] and whole["lives"][0]["resident"] == [200, 0, 0]
    assert [o.split()[0] for o in evaluate_samples(samples(0.1, 0), SoakBounds())[1]] == ["resident"]
    assert any("p50 went from" in o for o in evaluate_samples(samples(0, 0.1), SoakBounds())[1])
    assert evaluate_samples(samples(0, 0, 0.1), SoakBounds())[1] == []
    assert any("p50 went from" in o for o in evaluate_samples(samples(0, 0.1, 0.1), SoakBounds())[1])


@pytest.mark.parametrize(
    "what, message", [("heap", "malloc gave out grew by 2.1 MB"), ("blocks", "blocks grew by 12.0 thousand")]
)
def test_a_leak_is_objected_to_where_resident_memory_hides_it(what, message):
    rows = [
        {"t": float(t), "life": 1, "resident": 2e8, **STILL, **_demo(t), "ask": {"ms": 10.0}}
        for t in range(540)
    ]
    for row in rows:
        row[what] *= 1 + 1e-4 * row["t"]
    (objection,) = evaluate_samples(rows, SoakBounds())[1]
    assert message in objection


def test_a_long_soak_of_which_no_memory_was_judged_is_objected_to():
    rows = [
        {"t": float(t), "life": 1, "resident": 2e8, **STILL, **_demo(t, 5.0), "ask": {"ms": 10.0}}
        for t in range(1000)
    ]
    assert "no life was long enough" in evaluate_samples(rows, SoakBounds())[1][0]
    assert evaluate_samples(rows[:600], SoakBounds())[1] == []


def test_an_error_of_the_oracle_is_raised_where_the_soak_waits():
    class Nothing:
        lives, stopping, running = 1, False, True

    oracle = Oracle(Nothing(), None, None, SoakBounds(), lambda: 0.0, lambda: False, lambda since: 1.0)
    oracle.check()
    with pytest.raises(AttributeError), oracle:
        while True:
            time.sleep(0.01)
            oracle.check()


def test_memory_is_judged_from_where_each_fault_has_happened_once():
    def sample(t: int, resident: float) -> dict:
        return {"t": float(t), "life": 1, "resident": resident, **STILL, **_demo(t), "ask": {"ms": 10.0}}

    events = [
        {"fault": fault, "began": t - 5.0, "t": float(t)}
        for t, fault in ((20, "http-cut"), (380, "disk-full"), (480, "http-cut"), (540, "disk-full"))
    ]
    once = [sample(t, 2e8 + (1e7 if t > 378 else 0)) for t in range(600)]
    assert evaluate_samples(once, SoakBounds(), events)[1] == []
    assert evaluate_samples(once, SoakBounds())[1] != []
    twice = [sample(t, 2e8 + (1e7 if t > 378 else 0) + (1e7 if t > 490 else 0)) for t in range(600)]
    assert [o.split()[0] for o in evaluate_samples(twice, SoakBounds(), events)[1]] == ["resident"]


def test_memory_is_judged_from_where_the_demo_has_its_size():
    def life(speed: float) -> list[dict]:
        """Memory grows for as long as the demo's world caches more."""
        return [
            {"t": float(t), "life": 1, "resident": 2e8 + 1e3 * min(t * speed, 16_000.0), **STILL,
             **_demo(t, speed), "ask": {"ms": 10.0}}
            for t in range(600)
        ]  # fmt: skip

    assert evaluate_samples(life(40.0), SoakBounds())[1] == []
    assert evaluate_samples(life(20.0), SoakBounds())[0]["lives"] == []


def test_a_bound_in_seconds_is_that_of_an_idle_machine():
    outcome = FaultOutcome("", recover_s=2.4, slowdown=1.3)
    FaultInjector._check_bound(outcome, "recover_s", 2.0, "a picture")
    assert outcome.objections == []
    outcome.slowdown = 1.1
    FaultInjector._check_bound(outcome, "recover_s", 2.0, "a picture")
    assert outcome.objections == ["a picture took 2.40 s, allowed are 2 s times 1.10, the machine's slowdown"]


def test_what_is_no_answer_is_told_from_one():
    assert "not an answer" in find_problem("time", 200, b'{"type": "time"}', False)
    assert "status 422" in find_problem("time", 422, b'{"error": "engines"}', False)
    assert find_problem("time", 422, b'{"error": "engines"}', True) is None
    assert "status 500" in find_problem("time", 500, b"oops", True)


def test_a_torn_last_line_is_left_out_and_written_over(tmp_path):
    record = SoakRecord(tmp_path)
    record.append("events", {"t": 1.0})
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"t": 2')
    again = SoakRecord(tmp_path)
    again.append("events", {"t": 3.0})
    assert [row["t"] for row in SoakRecord(tmp_path).rows("events")] == [1.0, 3.0] and again.until == 3.0


def test_the_schedule_that_ships_is_read_and_a_wrong_one_names_its_line(tmp_path):
    cycle = load_schedule(ROOT / "tools" / "reliability" / "soak.yaml").cycle
    assert {planned.fault for planned in cycle} >= {"kill", "disk-full"}
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("version: 1\ncycle:\n  - {fault: earthquake}\n")
    with pytest.raises(LvmError, match=r"wrong\.yaml:3: .*rtsp-stopped.*earthquake"):
        load_schedule(wrong)
    wrong.write_text("version: 1\ncycle: []\n")
    with pytest.raises(LvmError, match=r"wrong\.yaml:2: cycle: .*at least 1 item"):
        load_schedule(wrong)


def test_the_page_tells_what_was_lost_what_failed_and_what_was_not_run(tmp_path):
    message = {
        "kills": 5, "frames_lost": {"0": 4, "2": 1}, "states_wrong": [3], "recover_s": None,
        "answers": {"asked": 34, "equal": 33},
    }  # fmt: skip
    (tmp_path / "kills.out").write_text(f"$ python -m tools.reliability.kill\n{json.dumps(message)}\n= 3\n")
    text = render_page(
        {"kills": read_part("kills", tmp_path / "kills.out")}, [], describe_machine(), ["soak"]
    )
    assert "| 5 | at most 2 frames, 1 states differ² | – | – |" in text and "33 of 34" in text
    assert "no, status 3" in text and "Not run: soak." in text
    (tmp_path / "kills.out").write_text("nothing\n")
    with pytest.raises(ValueError, match="must begin with its command"):
        read_part("kills", tmp_path / "kills.out")


def test_engines_that_are_loaded_again_are_no_growth():
    samples = [
        {"t": float(t), "life": 1, "resident": 2e8 + (1e7 if t > 500 else 0), **STILL, **_demo(t),
         "ask": {"ms": 10.0}}
        for t in range(600)
    ]  # fmt: skip
    fault = {"fault": "engine-fault", "began": 498.0, "t": 510.0}
    assert evaluate_samples(samples, SoakBounds(), [fault])[1] == []
    assert evaluate_samples(samples, SoakBounds(), [fault | {"began": 590.0}])[1] != []
