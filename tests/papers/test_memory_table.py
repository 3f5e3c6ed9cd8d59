"""The combination table, with untrained networks and a minute of a world that they answer about."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.errors import LvmError
from export.data.candidates import QueryRules
from export.data.checks import read_data_folder
from export.data.files import EVENTS, QUERIES, write_records
from export.data.query_writer import write_queries
from export.data.records import CropInVideo, QueryRecord
from export.data.world_set import make_world_video, write_worlds
from export.evaluation.evaluate import Evaluation
from export.evaluation.results import EventResult
from export.evaluation.run_folders import TrainedRun, save_evaluation
from tests.evaluation.test_report import result
from tests.support.evaluation_runs import make_run
from tools.papers import memory_table
from tools.papers.memory_table import (
    MemoryComparison,
    MemoryVariant,
    _select_queries,
    compare_variants,
    digest_answerer,
    group_by_context,
    read_activity,
    render_page,
    render_table,
)
from tools.papers.tables import main


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    return {
        "plain": make_run(root / "plain"),
        "text": make_run(root / "text", context=("svd", "text")),  # each of them is exported: seconds
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_worlds(root, [make_world_video(4, minutes=1, split="test")])
    write_queries(root, rules=QueryRules(per_cell=4))
    asked = list(read_data_folder(root).queries)
    at = next(n for n, one in enumerate(asked) if one.type == "activity")
    # As in own videos, which have no photographs of a catalogue.
    asked[at] = asked[at].model_copy(update={"crop": CropInVideo(tick5=10, box=(0.1, 0.1, 0.4, 0.5))})
    write_records(root / QUERIES, asked)
    return root


@pytest.fixture(scope="module")
def command(data: Path, runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    output = tmp_path_factory.mktemp("found")
    head = {
        "map": [0.5, 0.4, 0.6],
        "by_activity": {activity.name: 0.5 for activity in read_data_folder(data).classes},
    }
    (output / "detection.json").write_text(json.dumps({"heads": {"text-6-1": head}}))
    contexts = [str(runs["text"]), str(runs["plain"])]
    return [
        "tables", "memories", "--data", str(data), "--output", str(output), "--questions", "1",
        "--attention", str(runs["plain"]), "--s5", str(runs["plain"]), "--contexts", *contexts,
        "--activity", f"svd+text={output}:text-6-1",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def found(command: list[str]) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command)
        assert main() == 0
    output = Path(command[command.index("--output") + 1])
    return json.loads((output / "memories.json").read_text())


def test_every_sampler_and_every_context_answers_the_same_questions(found: dict[str, Any]) -> None:
    assert list(found["samplers"]) == ["neural", "s5", "svd-novelty", "random", "fifo"]
    assert list(found["contexts"]) == ["svd", "svd+text"]
    assert found["samplers"]["neural"]["recall_1x"] == found["contexts"]["svd"]["recall_1x"]
    assert set(found["contexts"]["svd+text"]["gain"]) == {"activity", "object", "time", "all"}
    assert "gain" not in found["samplers"]["neural"]


def test_queues_cost_bytes_and_everything_costs_time(found: dict[str, Any]) -> None:
    samplers, contexts = found["samplers_costs"], found["contexts_costs"]
    assert contexts["svd+text"]["state_bytes"] > contexts["svd"]["state_bytes"]
    assert samplers["fifo"]["state_bytes"] == samplers["neural"]["state_bytes"]
    assert all(one["clip_ms"] > 0 and one["question_ms"] > 0 for one in samplers.values())


def test_the_page_has_a_row_for_each_way(found: dict[str, Any]) -> None:
    rows = [line.split(" | ")[0] for line in render_page(found).splitlines() if line.startswith("| ")]
    names = ["neural", "s5", "svd-novelty", "random", "fifo", "svd", "svd+text"]
    assert [row.removeprefix("| ") for row in rows if row != "| ---"][1:6] == names[:5]
    assert sum("| 50.0 [40.0, 60.0] |" in line for line in render_page(found).splitlines()) == 1
    assert len({line.count("|") for line in render_page(found).splitlines() if line.startswith("|")}) == 1


def test_what_was_answered_is_not_asked_again(
    found: dict[str, Any], command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(memory_table, "answer_queries", lambda *_: pytest.fail("asked again"))
    assert main() == 0


def test_a_seed_that_comes_twice_is_refused(
    command: list[str], runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [*command, "--s5", str(runs["plain"]), str(runs["plain"])])
    with pytest.raises(LvmError, match="s5: one run for each training seed expected, got seeds 0, 0"):
        main()


def test_contexts_are_held_against_the_plain_one(runs: dict[str, Path]) -> None:
    assert list(group_by_context([runs["text"], runs["plain"]])) == ["svd", "svd+text"]
    with pytest.raises(LvmError, match="needs a run with the context svd"):
        group_by_context([runs["text"]])


@pytest.mark.parametrize("given", ["text", "text=somewhere"])
def test_activity_names_context_folder_and_head(given: str) -> None:
    with pytest.raises(LvmError, match="must look like text=RESULTS:text-6-1"):
        read_activity([given], ["text"], [])


def test_a_head_that_was_not_measured_is_named(tmp_path: Path) -> None:
    with pytest.raises(LvmError, match=r"detection\.json does not exist"):
        read_activity([f"text={tmp_path}:text-6-1"], ["text"], [])
    (tmp_path / "detection.json").write_text('{"heads": {"none": {"map": [0.5, 0.4, 0.6]}}}')
    with pytest.raises(LvmError, match="has heads none, got text-6-1"):
        read_activity([f"text={tmp_path}:text-6-1"], ["text"], [])


def test_a_context_that_is_none_of_the_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(LvmError, match=r"contexts of the table are svd, svd\+text, got 'text'"):
        read_activity([f"text={tmp_path}:text-6-1"], ["svd", "svd+text"], [])


def _detected(folder: Path, **said: Any) -> str:
    """--activity's folder and head, whose detection.json says `said` too."""
    folder.mkdir(exist_ok=True)
    head = {"map": [0.5, 0.4, 0.6], "by_activity": {"a": 0.5}}
    (folder / "detection.json").write_text(json.dumps({"heads": {"none": head}, **said}))
    return f"{folder}:none"


@pytest.mark.parametrize("said", [{"classes": ["a", "b"], "asked": ["a"]}, {}])
def test_a_precision_over_some_activities_names_them(tmp_path: Path, said: dict[str, Any]) -> None:
    found, over = read_activity([f"text={_detected(tmp_path, **said)}"], ["text"], ["a", "b"])
    assert (found, over) == ({"text": [0.5, 0.4, 0.6]}, ["a"])
    found, over = read_activity([f"text={_detected(tmp_path, asked=['b', 'a'])}"], ["text"], ["a", "b", "c"])
    assert over == ["b", "a"]
    all_of_them = {"classes": ["a", "b"], "asked": ["a", "b"]}  # b never happens
    found, over = read_activity([f"text={_detected(tmp_path, **all_of_them)}"], ["text"], [])
    assert (found, over) == ({"text": [0.5, 0.4, 0.6]}, [])


def test_the_column_says_which_activities_a_precision_is_over(found: dict[str, Any]) -> None:
    assert found["activity_of"] == "all" and "| activity mAP, % |" in render_page(found)
    some = render_page(found | {"activity_of": ["bag", "bag_unscanned"]})
    assert "| mAP of bag, bag_unscanned, % |" in some and "activity mAP" not in some


def test_precisions_of_one_column_are_over_the_same_activities(tmp_path: Path) -> None:
    classes = ["a", "b"]
    one = f"svd={_detected(tmp_path / 'one', classes=classes, asked=classes)}"
    two = f"text={_detected(tmp_path / 'two', classes=classes, asked=['a'])}"
    with pytest.raises(LvmError, match="mAP over a, the one before over a, b: write both .* same --activiti"):
        read_activity([one, two], ["svd", "text"], classes)
    assert len(read_activity([two, two.replace("text=", "svd=")], ["svd", "text"], classes)[0]) == 2


def test_answers_are_those_of_a_configuration_and_thresholds_too(runs: dict[str, Path]) -> None:
    one, same, slots, sure = (TrainedRun.open(runs["plain"]) for _ in range(4))
    slots.network.config = slots.config.model_copy(update={"memory_tokens": slots.config.memory_tokens - 1})
    thresholds = sure.card.thresholds.model_copy(update={"time_head": "bins"})
    sure = replace(sure, card=replace(sure.card, thresholds=thresholds))
    assert one.card.thresholds != thresholds
    assert (
        digest_answerer(one) == digest_answerer(same)
        and len({digest_answerer(r) for r in (one, slots, sure)}) == 3
    )


def test_answers_are_those_of_the_events_too(data: Path, tmp_path: Path) -> None:
    places = []
    for more in ("", "\n"):
        for file in data.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / EVENTS).write_text((data / EVENTS).read_text() + more)
        places.append(MemoryComparison(read_data_folder(tmp_path), "test", tmp_path, tmp_path)._questions)
    assert places[0] != places[1]


def test_a_kind_of_which_there_are_few_does_not_cut_the_others() -> None:
    kinds = ["activity"] * 3 + ["time"] * 1 + ["object"] * 4
    asked = [QueryRecord.model_construct(qid=str(number), type=kind) for number, kind in enumerate(kinds)]
    assert [one.type for one in _select_queries(asked, 3)] == [
        "activity", "time", "object", "activity", "object", "activity", "object",
    ]  # fmt: skip


def make_variant(folder: Path, name: str, hits: int) -> MemoryVariant:
    """Of four queries in each of two videos, the first `hits` are right; of two events one is remembered."""
    results = [result(video, n, hit1=float(n < hits)) for video in "ab" for n in range(4)]
    events = [EventResult(video=video, seed=0, event=n, evidence=n) for video in "ab" for n in range(2)]
    save_evaluation(Evaluation(results, events), folder / name, "test", "lvm-net")
    return MemoryVariant(name, [folder / name], "lvm-net", {0: "pointer"})


def test_gains_are_over_the_first_way(tmp_path: Path) -> None:
    rows = compare_variants([make_variant(tmp_path, "one", 2), make_variant(tmp_path, "two", 3)], "test")
    assert rows["one"]["recall_1x"]["activity"] == [0.5, 0.5, 0.5] and rows["one"]["coverage"][0] == 0.5
    assert rows["two"]["gain"]["all"] == [0.25, 0.25, 0.25] and rows["two"]["ratio"]["all"][0] == 1.5
    lines = render_table("T", "", rows, {}, {}).splitlines()
    assert "| two | 75.0 [75.0, 75.0] | – | – | 75.0 [75.0, 75.0] | +25.0 [+25.0, +25.0] |" in lines[-1]


def test_a_way_without_answers_is_named(tmp_path: Path) -> None:
    with pytest.raises(LvmError, match="s5: answers of lvm-net to split test expected"):
        compare_variants([MemoryVariant("s5", [tmp_path], "lvm-net", {})], "test")
