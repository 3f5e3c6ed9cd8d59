"""From run folders to the results page, with results that are made up."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from engines.errors import LvmError
from engines.manifest import Thresholds
from export.data.candidates import QueryRules
from export.data.checks import read_data_folder
from export.data.query_writer import write_queries
from export.data.world_set import make_world_video, write_worlds
from export.evaluation.evaluate import Evaluation
from export.evaluation.markdown import render_page, render_table_1
from export.evaluation.report import TABLE_CELLS
from export.evaluation.results import EventResult, Result, SpanResult
from export.evaluation.run_folders import save_evaluation
from export.evaluation.summary import Runs, make_recall_by_seed, summarise_runs
from tests.evaluation.test_report import result
from tests.support.evaluation_runs import make_run
from tools.papers.tables import count_frame_loads, main


def made_up(seed: int, hits: int) -> list[Result]:
    """Of four queries of each cell in each of two videos, the first `hits` are right; and one negative."""
    found: list[Result] = []
    for kind, duration in TABLE_CELLS:
        for video in "ab":
            for number in range(4):
                tiou = float(number < hits)
                more: dict[str, Any] = {
                    "qid": f"{video}/{kind}/{duration}/{number}",
                    "seed": seed,
                    "type": kind,
                    "duration": duration,
                    "presence_logit": 1.0 + number,
                    "evidence": number,
                    "evidence_gap_s": 0.5,
                }
                if kind == "activity":
                    more |= {"hit1": tiou, "hit3": 1.0, "class_logits": (1.0, 0.0), "labels": (number % 2,)}
                elif kind == "object":
                    more |= {"viou": tiou}
                else:
                    more |= {"window": None, "spans": {"pointer": {"tiou": tiou, "confidence": 0.5}}}
                found.append(result(video, number, **more))
            never = f"{video}/{kind}/{duration}/never"
            found.append(
                result(
                    video,
                    9,
                    qid=never,
                    seed=seed,
                    type=kind,
                    duration=duration,
                    happened=False,
                    presence_logit=0.0,
                )
            )
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    folders = [make_run(root / f"own-{seed}", seed) for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        events = [EventResult(video=video, seed=seed, event=0, evidence=2) for video in "ab"]
        for system, hits in (("lvm-net", 3), ("tubedetr", 2), ("random", 1)):
            save_evaluation(
                Evaluation(made_up(seed, hits), events if system != "tubedetr" else []),
                folder,
                "test",
                system,
            )
    other = make_run(root / "none-0", 0)
    save_evaluation(Evaluation(made_up(0, 2), []), other, "test", "lvm-net")
    return [*folders, other]


@pytest.fixture(scope="module")
def own(runs: list[Path]) -> dict[str, Any]:
    return summarise_runs(Runs(runs[:2]))


def test_findings_are_the_intervals_of_all_seeds(own: dict[str, Any]) -> None:
    found = own
    assert (found["seeds"], found["videos"], found["queries"], found["negatives"]) == ([0, 1], 2, 90, 18)
    assert found["recall_1x"]["lvm-net"]["object/long"] == [0.75, 0.75, 0.75]
    assert found["against"]["tubedetr"]["recall_1x"]["activity/short"]["difference"][0] == 0.25
    assert found["against"]["random"]["recall_1x"]["time/medium"]["ratio"][0] == 3
    assert found["coverage"]["lvm-net"] == {"at_least_1": [1, 1, 1], "at_least_4": [0, 0, 0]}
    assert found["auroc"]["all"][0] == 1 and "without-ocl" not in found["recall_1x"]
    assert json.loads(json.dumps(found)) == found


def test_what_is_withheld_is_lost_to_a_person_and_right_where_nothing_happened(runs: list[Path]) -> None:
    folder = runs[0].with_name("withholding")
    make_run(folder, 7)
    told = [
        one.model_copy(update={"abstained": not one.happened or one.qid.endswith("/0")})
        for one in made_up(7, 3)
    ]
    save_evaluation(Evaluation(told, []), folder, "test", "lvm-net")
    found = summarise_runs(Runs([folder]))
    assert found["recall_1x"]["lvm-net"]["activity/short"][0] == 0.75
    assert {name: one[0] for name, one in found["as_told"].items()} == {
        f"{a}/{b}": 0.5 for a, b in TABLE_CELLS
    }
    for kind in ("activity", "object", "time"):
        assert found["withheld"][kind]["happened"][0] == 0.25 and found["withheld"][kind]["never"][0] == 1
    assert "| object | 50.0 [50.0, 50.0] |" in render_page(found)


def test_how_tightly_the_time_is_given_is_told_of_the_baseline_too(own: dict[str, Any]) -> None:
    assert set(own["windows"]) == {"lvm-net", "tubedetr"}
    assert "| lvm-net, tight | lvm-net, loose | tubedetr, tight | tubedetr, loose |" in render_page(own)


def test_runs_that_differ_in_one_thing_are_compared_with_ours(runs: list[Path], own: dict[str, Any]) -> None:
    found = summarise_runs(Runs(runs[:2], without_ocl=runs[2:]))
    assert found["against"]["without-ocl"]["recall_1x"]["activity/long"]["ratio"][0] == 1.5
    assert "Table 4" in render_page(found) and "Table 4" not in render_page(own)


def test_a_run_of_which_bins_tell_the_time_is_read_by_its_bins(runs: list[Path]) -> None:
    other = make_run(runs[0].with_name("bins-0"), 0, thresholds=Thresholds(time_head="bins"))
    wrong = SpanResult(tiou=0.0, confidence=0.5)
    told = [
        one
        if not one.spans
        else one.model_copy(update={"spans": {"bins": one.spans["pointer"], "pointer": wrong}})
        for one in made_up(0, 3)
    ]
    save_evaluation(Evaluation(told, []), other, "test", "lvm-net")
    found = summarise_runs(Runs(runs[:1], without_ocl=[other]))
    assert found["recall_1x"]["without-ocl"]["time/short"][0] == 0.75
    assert found["against"]["without-ocl"]["recall_1x"]["time/short"]["difference"] == [0, 0, 0]


def test_answers_of_a_seed_that_no_run_has_are_refused() -> None:
    with pytest.raises(LvmError, match=r"answers of seed 1 need a run of that seed, got those of \[0\]"):
        make_recall_by_seed({0: "bins"})(made_up(1, 1)[0])


def test_a_memory_that_was_trained_as_random_replaces_the_swapped_sampler(runs: list[Path]) -> None:
    found = summarise_runs(Runs(runs[:2], random=runs[2:]))
    assert found["random_is_trained"] and found["recall_1x"]["random"]["activity/short"][0] == 0.5


def test_the_page_shows_printed_figures_beside_ours(own: dict[str, Any]) -> None:
    text = render_page(own)
    assert "| short | activity | 75.0 [75.0, 75.0] | 50.0 [50.0, 50.0] | +25.0 [+25.0, +25.0] |" in text
    assert "32.4 / 45.3 / 48.1" in text and "32.38 (56.78) / 21.42 (43.2), 1.51×" in text
    for line in text.splitlines():
        assert not line.startswith("|") or line.count("|") >= 3


def test_every_table_has_as_many_cells_in_each_row(own: dict[str, Any]) -> None:
    for block in render_page(own).split("\n\n"):
        widths = {line.count("|") for line in block.splitlines() if line.startswith("|")}
        assert len(widths) <= 1, block


def test_speed_stands_beside_the_printed_minutes() -> None:
    cell = {
        "minutes": {"lvm-net": 1.0, "tubedetr": 120.0, "tubedetr cached": 12.0},
        "speed_up": [120.0, 110.0, 130.0],
        "speed_up_cached": [12.0, 11.0, 13.0],
    }
    speed = {
        "machine": {"cpu": "x86_64"}, "threads": 2, "backend": "onnxruntime", "window": "query",
        "stage_one_ms_a_frame": 5.0, "backbone_ms_a_frame": 4.0, "cells": {"activity/short": cell},
    }  # fmt: skip
    text = render_table_1(speed)
    assert "| 1 | 120 | 12 | 120× [110, 130] | 12× [11, 13] | 264 / 14 (18.9×) |" in text
    assert text.count("\n| ") == 11


def test_a_run_without_results_names_the_remedy(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(LvmError, match="write them with lvm-train evaluate"):
        summarise_runs(Runs([tmp_path]))
    with pytest.raises(LvmError, match="for split val"):
        summarise_runs(Runs(runs[:2], split="val"))


def test_frame_loads_count_what_each_query_reads(tmp_path: Path) -> None:
    write_worlds(tmp_path, [make_world_video(4, minutes=0.5, split="test")])
    write_queries(tmp_path, rules=QueryRules(per_cell=4))
    data = read_data_folder(tmp_path)
    found = count_frame_loads(data, "test", 1.0)
    counts = {
        kind: sum(query.type == kind for query in data.queries) for kind in ("activity", "object", "time")
    }
    assert {name: one["ratio"] for name, one in found.items()} == {
        f"{kind}/short": count for kind, count in counts.items() if count
    }
    assert all(one["frames_a_query"] == 30 for one in found.values())
    assert all(one["rest_ratio"] == pytest.approx(1500 * 30 / 1620) for one in found.values())


def test_the_tool_writes_the_page_and_ends_with_one_json_object(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page_file = tmp_path / "docs" / "results.md"
    command = ["tables", "--runs", *map(str, runs[:2]), "--output", str(page_file)]
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 0
    assert page_file.read_text().startswith("# Results\n\n2 training seeds, 2 unseen videos")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["seeds"] == [0, 1]
    monkeypatch.setattr(sys, "argv", [*command, "--split", "val"])
    with pytest.raises(LvmError, match="no results of lvm-net"):
        main()


def test_a_speed_that_throughput_did_not_write_is_named_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd.json").write_text("[1]")
    for name, text in (("odd.json", "it has no cells"), ("none.json", "No such file")):
        monkeypatch.setattr(sys, "argv", ["tables", "--runs", "nowhere", "--speed", str(tmp_path / name)])
        with pytest.raises(LvmError, match=f"--speed must be what tools.papers.throughput wrote .*{text}"):
            main()
