"""Lines of JSON: written whole, read back, refused by name and line."""

from pathlib import Path

import pytest

from engines.errors import LvmError
from export.evaluation.results import (
    EventResult,
    Result,
    SpanResult,
    load_events,
    load_results,
    require_same_queries,
    save_lines,
)


def result(**changes: object) -> Result:
    body: dict[str, object] = {
        "qid": "q",
        "video": "v",
        "seed": 0,
        "type": "time",
        "duration": "long",
        "window": None,
        "happened": True,
        "abstained": False,
    }
    return Result.model_validate({**body, **changes})


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    spans = {"bins": SpanResult(tiou=0.5, confidence=0.1), "pointer": SpanResult(tiou=None, confidence=0.2)}
    some = [result(spans=spans), result(qid="é", presence_logit=-1.5, class_logits=(0.25, 3.0), evidence=0)]
    save_lines(some, tmp_path / "deep" / "run.jsonl")
    assert load_results(tmp_path / "deep" / "run.jsonl") == some
    events = [EventResult(video="v", seed=1, event=0, evidence=4)]
    save_lines(events, tmp_path / "events.jsonl")
    assert load_events(tmp_path / "events.jsonl") == events


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    save_lines([result(), result()], path)
    path.write_text(path.read_text() + '{"qid": 1}\n')
    with pytest.raises(LvmError, match=r"run\.jsonl:3: qid: "):
        load_results(path)


def test_missing_results_are_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(LvmError, match="do not exist: write them with lvm-train evaluate"):
        load_results(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("found", "score"),
    [
        ({"type": "activity", "hit1": 0.5}, 0.5),
        ({"type": "object", "viou": 0.31}, 1.0),
        ({"type": "object", "viou": 0.3}, 0.0),
        ({"spans": {"pointer": {"tiou": 0.31, "confidence": 1}}}, 1.0),
        ({"spans": {"bins": {"tiou": 0.31, "confidence": 1}}}, 0.0),
        ({"happened": False}, None),
    ],
)
def test_the_score_is_the_share_that_was_found(found: dict[str, object], score: float | None) -> None:
    assert result(**found).score("pointer") == score


def test_runs_on_other_queries_are_not_compared() -> None:
    require_same_queries([result()], [result(seed=1)])
    with pytest.raises(LvmError, match="1 are only in one, such as r"):
        require_same_queries([result()], [result(), result(qid="r")])
