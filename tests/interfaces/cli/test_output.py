"""What commands print for people: tables, times, and how a run fares on a terminal, in a file, at its end."""

import io
import json
import time

import pytest
from rich.console import Console
from rich.table import Table

from edge_runtime.activity.row import Row
from edge_runtime.config.schema import Config
from edge_runtime.interfaces.cli import activities as activities_module
from edge_runtime.interfaces.cli.panel import RATE_S, Panel, Rate
from edge_runtime.interfaces.cli.query_text import QueryText, parse_line
from edge_runtime.interfaces.cli.run_console import RunConsole
from edge_runtime.interfaces.cli.tables import print_table
from edge_runtime.persistence import StateFolder
from edge_runtime.query.timestamps import format_moments
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import EnginePool
from edge_runtime.service.run import Run
from edge_runtime.system.errors import QueryError
from engines.errors import LvmError
from tests.support.cameras import ScriptedSource, ServiceThread, fake_engines

CELLS = ["/x" * 90, "/videos/[front]/[2024] a.mp4", "tea :milk: [red]", "a b " * 60 + "end"]


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_is_printed_whole_and_as_it_is(cell, capsys):
    table = Table.grid(padding=(0, 3))
    table.add_row("source", cell)
    table.add_row("state", "s")
    print_table(table)
    assert capsys.readouterr().out == f"source   {cell}\nstate    s\n"


def test_times_that_are_written_alike_are_said_once():
    assert format_moments([3.04, 1.0, 1.01], None) == "1, 3 s"
    written = format_moments([0.0, 0.3, 61.0], float(int(time.time()) - 600))
    assert written.count(",") == 1 and ":" in written and " s" not in written


# -- activities ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [None, 0, 3, -5.5])
def test_activities_have_the_times_that_answers_have(hours, capsys, monkeypatch):
    """Of a recording seconds, of a camera its clock's; of one in another zone with the offset."""
    epoch = None if hours is None else 1_795_370_000.0
    row = Row(1, "lane1", "scan", "", 240.5, 249.5, 0.96, ongoing=False, epoch=epoch)
    going = Row(2, "lane1", "bag", "", 260.0, 262.0, 0.5, epoch=epoch)
    rows = [json.loads(json.dumps(one.as_json())) for one in (going, row)]
    if hours:
        for one in rows:
            one["clock_from"] = one["clock_to"] = (
                f"2026-11-22T01:00:00{hours:+03.0f}:{'30' if hours % 1 else '00'}"
            )
    activities_module._print_table(rows, more=True)
    head, first, second, more = capsys.readouterr().out.splitlines()
    assert "goes on" in first and "96 %" in second and more == "and more; --limit shows more than 2"
    if hours is None:
        assert "240.5 s" in second and "249.5 s" in second
    else:
        assert second.count("2026-11-2") == 2 and "240.5" not in second
        assert ("+03:00" in second) == (hours == 3)


# -- how a run fares -------------------------------------------------------------------------------------


def test_the_rate_is_that_of_the_last_seconds_and_then_of_the_time_that_it_ran():
    now = [100.0]
    rate = Rate(lambda: now[0])

    def update(seconds: float, frames: int, condition: str) -> float:
        now[0] += seconds
        return rate.update(frames, condition)

    update(0, 500, "waiting")
    assert update(30, 500, "starting") == 0, "nothing has come, also of what was remembered before"
    assert update(1, 500, "running") == 0
    for second in range(1, 21):
        lately = update(1, 500 + 10 * second, "running")
    assert lately == pytest.approx(10)
    for second in range(1, 21):
        lately = update(1, 700 + 30 * second, "running")
    assert lately == pytest.approx(30), f"of the last {RATE_S:g} s"
    ended = update(0.2, 1300, "ended")
    assert ended == pytest.approx(800 / 41.2, rel=0.01)
    assert [update(60, 1300, "ended") for _ in range(5)] == [ended] * 5, "it does not decay"


@pytest.mark.parametrize("condition", ["ended", "stopped", "failed"])
def test_what_ran_between_two_looks_has_a_rate(condition):
    now = [0.0]
    rate = Rate(lambda: now[0])
    rate.update(0, "starting")
    now[0] = 0.5
    assert rate.update(10, condition) == pytest.approx(20)


def test_a_pause_is_no_time_that_it_ran():
    now = [0.0]
    rate = Rate(lambda: now[0])
    for t, frames, condition in (
        (0, 0, "running"),
        (10, 100, "running"),
        (10, 100, "paused"),
        (90, 100, "paused"),
    ):
        now[0] = float(t)
        rate.update(frames, condition)
    assert rate.update(100, "stopped") == pytest.approx(10)


@pytest.fixture
def console_of():
    """Makes the console of a service, whose standard error is a terminal or a file, and the text of it."""

    def make(service, *, terminal: bool, stay: bool):
        text = io.StringIO()
        console = RunConsole(Run(service, Config(), None), as_json=False)
        console._err = Console(
            file=text, force_terminal=terminal, soft_wrap=True, no_color=True, highlight=False
        )
        console._report_every_s = 0.1 if terminal else 600.0
        console._goes_on = stay
        return console, text

    return make


@pytest.mark.parametrize("terminal", [True, False])
def test_the_end_of_a_camera_is_said_once(watch, settings, sources, console_of, terminal):
    sources["a"] = lambda start: ScriptedSource(30, start=start, before=lambda k: time.sleep(0.01))
    sources["b"] = lambda start: ScriptedSource(10**6, start=start, before=lambda k: time.sleep(0.01))
    service = watch()
    a, _ = service.add(settings("a")), service.add(settings("b"))
    console, text = console_of(service, terminal=terminal, stay=True)
    run = ServiceThread(service, on_progress=console._print_progress)
    run.until(lambda: a.condition == "ended", "the end of a")
    time.sleep(1.0)
    run.stop()
    lines = text.getvalue().splitlines()
    ended = [line for line in lines if line.startswith("a: ended, 30 frames, ")]
    assert len(ended) == 1 and "watched to 30.0 s" in ended[0], lines
    told = [line for line in lines if line.startswith("b: ")]
    assert bool(told) == terminal, "in a file only what has changed"


def test_a_pause_and_its_end_are_said_in_a_file(watch, settings, sources, console_of):
    sources["a"] = lambda start: ScriptedSource(10**6, start=start, before=lambda k: time.sleep(0.01))
    service = watch()
    camera = service.add(settings("a"))
    console, text = console_of(service, terminal=False, stay=False)
    run = ServiceThread(service, on_progress=console._print_progress)
    run.until(lambda: camera.version.frames, "a frame")
    for number in range(1, 5):
        (service.pause if number % 2 else service.resume)("a")
        run.until(lambda count=number: text.getvalue().count("\n") == count, "the line")
    run.stop()
    lines = text.getvalue().splitlines()
    assert [line.startswith("paused, ") for line in lines] == [True, False] * 2, lines


# -- questions in words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question, words",
    [
        (QueryText("activity"), "of type activity needs --object PHOTO, --box"),
        (
            QueryText("time"),
            "of type time needs --object PHOTO, --box X1,Y1,X2,Y2@T or --product NAME or --act",
        ),
        (QueryText("object"), "of type object needs --activity NAME"),
        (QueryText("object", activity="scan", product="milk"), "of type object takes no --object PHOTO"),
        (QueryText("activity", product="milk", activity="scan"), "of type activity takes no --activity NAME"),
        (QueryText("wher\x1b"), "type must be activity, object or time, got 'wher"),
    ],
)
def test_a_question_that_lacks_something_says_which_option(question, words):
    with pytest.raises(QueryError) as caught:
        question.body()
    assert words in str(caught.value) and str(caught.value).isprintable()


def test_a_typed_question_is_told_the_same():
    with pytest.raises(LvmError, match="needs --activity NAME"):
        parse_line("ask object")


def test_the_panel_of_one_camera_says_that_it_has_ended(watch, settings, sources):
    sources["a"] = lambda start: ScriptedSource(5, start=start)
    service = watch()
    camera = service.add(settings("a"))
    run = ServiceThread(service, stay=True)
    run.until(lambda: camera.condition == "ended", "its end")
    shown = Console(file=io.StringIO(), width=100)
    shown.print(Panel(service))
    run.stop()
    assert "lvm-edge · a · ended · fake" in shown.file.getvalue()


@pytest.mark.parametrize(
    ("span", "words"),
    [
        ({"from": 1.0, "to": None, "clock_from": "2026-11-25T10:00:00+01:00"},
         "a: 2026-11-25T10:00:00+01:00 to the end"),
        ({"from": 1.0, "to": 9.5, "clock_from": "2026-11-25T10:00:00+01:00",
          "clock_to": "2026-11-25T10:00:08+01:00"},
         "a: 2026-11-25T10:00:00+01:00 to 2026-11-25T10:00:08+01:00"),
        ({"from": None, "to": 7.0}, "a: the beginning to 7.0 s"),
    ],
)  # fmt: skip
def test_activities_say_how_the_times_were_understood(span, words, capsys):
    activities_module._print_spans({"a": span})
    assert capsys.readouterr().out == f"{words}\n"


@pytest.mark.parametrize("seen", [(), ("a",), ("a", "b")])
def test_activities_are_listed_though_one_camera_has_no_memory_yet(seen, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in seen:
        with StateFolder(tmp_path / "states" / name) as folder:
            CameraRun(
                EnginePool(fake_engines()), CameraSettings(f"{name}.mp4", folder.folder, name), folder
            ).save()
    config = tmp_path / "kiosk.yaml"
    config.write_text(
        "version: 1\nstate: {directory: states}\ncameras: {a: {source: a.mp4}, b: {source: b.mp4}}\n"
    )
    if seen:
        activities_module.activities(config=config)
        assert capsys.readouterr().out == "no such activity is logged\n"
        activities_module.activities(config=config, start="3", end="7", format="json")
        asked = json.loads(capsys.readouterr().out)["asked"]
        assert asked == {name: {"from": 3.0, "to": 7.0} for name in seen}
    else:
        with pytest.raises(LvmError, match="no memory in .*a; run lvm-edge run"):
            activities_module.activities(config=config)
