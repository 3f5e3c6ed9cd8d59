"""A data folder: what is right is read as it was written, what is wrong is told with file and line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from engines.errors import LvmError
from export.data import derived_labels
from export.data.checks import find_problems, read_data_folder
from export.data.derived_labels import split_activity
from export.data.files import check_overwritable, write_records
from export.data.records import EventRecord, TrackRecord
from tests.support.tracks import make_tracks

CLASSES = {
    "activities": [
        {"id": 0, "name": "take", "doing": "taking it"},
        {"id": 1, "name": "return", "doing": "returning it"},
    ]
}
VIDEO = {"video": "a", "seed": 1, "fps": 5, "width": 64, "height": 36, "duration_s": 600, "split": "train"}
EVENT = {"video": "a", "event": "e0", "activity": 0, "instance": 2, "t_s": 10, "t_e": 20}
TRACK = {
    "video": "a",
    "instance": 2,
    "category": "tea",
    "tick5": 60,
    "box": [0.1, 0.2, 0.3, 0.4],
    "active": 1,
}
ACTIVITY = {
    "qid": "q0", "video": "a", "type": "activity", "duration": "short", "q_s": 0, "q_e": 300, "t_s": 10,
    "t_e": 20, "activities": [0], "instance": 2, "crop": {"view": 3},
}  # fmt: skip


def folder(root: Path, **files: object) -> Path:
    """A sound data folder but for the `files` given, lists of records or of raw lines."""
    content: dict[str, object] = {
        "videos": [VIDEO], "events": [EVENT], "tracks": [TRACK], "queries": [ACTIVITY], **files,
    }  # fmt: skip
    for name, records in content.items():
        assert isinstance(records, list)
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        (root / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (root / "classes.json").write_text(json.dumps(CLASSES))
    return root


def test_a_sound_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    data = read_data_folder(folder(tmp_path))
    assert find_problems(tmp_path) == []
    assert data.events["a"][0].instance == 2 and data.queries[0].activities == (0,)
    assert data.tracks["a"].box == pytest.approx(np.array([[0.1, 0.2, 0.3, 0.4]]))
    assert [one.doing for one in data.classes] == ["taking it", "returning it"]


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"events": [EVENT, "{not json"]}, "events.jsonl:2: Invalid JSON"),
        ({"events": [{**EVENT, "colour": 1}]}, "events.jsonl:1: colour: Extra inputs .* got 1"),
        ({"events": [{**EVENT, "t_e": 5}]}, "events.jsonl:1: t_e must be after t_s=10.0, got 5.0"),
        ({"events": [{**EVENT, "video": "b"}]}, "events.jsonl:1: video 'b' is unknown"),
        ({"events": [{**EVENT, "activity": 2}]}, r"events.jsonl:1: activity must be in 0..1 .* got 2"),
        ({"events": [{**EVENT, "t_e": 700}]}, "events.jsonl:1: t_e is 700 s, beyond the end of 'a' at 600 s"),
        ({"events": [EVENT, {**EVENT, "t_s": 19, "t_e": 30}]}, "events.jsonl:2: event 'e0' .* listed twice"),
        (
            {"events": [EVENT, {**EVENT, "event": "e1", "t_s": 19, "t_e": 30}]},
            "events.jsonl:2: event 'e1' overlaps 'e0'",
        ),
        ({"tracks": [{**TRACK, "box": [0.1, 0.2, 1.3, 0.4]}]}, "tracks.jsonl:1: box.2: .* got 1.3"),
        ({"tracks": [{**TRACK, "box": [0.3, 0.2, 0.1, 0.4]}]}, "tracks.jsonl:1: box must be x1 < x2"),
        ({"tracks": [TRACK, {**TRACK, "tick5": 5}]}, "tracks.jsonl:2: ticks .* not fall, got 5 after 60"),
        (
            {"tracks": [TRACK, {**TRACK, "active": 0}, TRACK]},
            "tracks.jsonl:3: instance 2 is active in two places at tick 60",
        ),
        ({"tracks": [{**TRACK, "tick5": 9999}]}, r"tracks.jsonl:1: tick5 / 5 is 1999.8 s, beyond the end"),
        ({"queries": [{**ACTIVITY, "instance": 7}]}, "queries.jsonl:1: instance 7 is unknown"),
        ({"queries": [{**ACTIVITY, "crop": None}]}, "queries.jsonl:1: crop and instance are missing"),
        ({"queries": [{**ACTIVITY, "activities": []}]}, "queries.jsonl:1: activities must be the truth"),
        ({"queries": [{**ACTIVITY, "crop": {"path": "no.png"}}]}, "queries.jsonl:1: there is no crop no.png"),
        ({"queries": [{**ACTIVITY, "t_e": 400}]}, r"queries.jsonl:1: t_s=10, t_e=400 must be"),
        ({"queries": [ACTIVITY, ACTIVITY]}, "queries.jsonl:2: query 'q0' is listed twice"),
        ({"videos": [VIDEO, VIDEO]}, "videos.jsonl:2: video 'a' is listed twice"),
        ({"videos": [VIDEO, {**VIDEO, "video": "b", "split": "test"}]}, "videos.jsonl:2: 'b' in test is the"),
        ({"videos": [VIDEO, {**VIDEO, "video": "b", "path": "x"}]}, "videos.jsonl:2: a video has either"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_file_and_line(
    tmp_path: Path, files: dict[str, object], complaint: str
) -> None:
    (problem, *_) = find_problems(folder(tmp_path, **files))
    assert re.match(complaint, str(problem)), str(problem)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    folder(tmp_path, videos=[{**VIDEO, "seed": None, "path": "gone.mp4"}])
    assert str(find_problems(tmp_path)[0]).startswith("videos.jsonl:1: there is no file gone.mp4")
    (tmp_path / "events.jsonl").unlink()
    assert any(str(one).startswith("events.jsonl: there is no such file") for one in find_problems(tmp_path))
    (tmp_path / "classes.json").unlink()
    assert str(find_problems(tmp_path)[0]).startswith("classes.json: there is no such file")
    with pytest.raises(LvmError, match="no data folder at"):
        find_problems(tmp_path / "elsewhere")


def test_problems_are_collected_up_to_the_number_asked_for(tmp_path: Path) -> None:
    folder(tmp_path, events=[{**EVENT, "event": f"e{number}", "activity": 9} for number in range(50)])
    assert [problem.line for problem in find_problems(tmp_path, limit=7)] == [1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(LvmError, match=r"events.jsonl:1: .* 19 more.*export.data check"):
        read_data_folder(tmp_path)


def test_tracks_and_queries_may_be_missing(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "tracks.jsonl").unlink()
    (tmp_path / "queries.jsonl").unlink()
    data = read_data_folder(tmp_path)
    assert len(data.tracks["a"].tick5) == 0 and data.queries == ()


def test_tracks_are_found_by_instance_and_tick() -> None:
    records = [
        TrackRecord.model_validate({**TRACK, "instance": i, "tick5": t}) for t in (9, 3) for i in (2, 1)
    ]
    tracks = make_tracks(records)
    assert tracks.select(1).tick5.tolist() == [3, 9]
    assert tracks.between(3, 9).instance.tolist() == [1, 2]
    assert len(tracks.select(5).tick5) == 0


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "events.jsonl"
    event = EventRecord.model_validate(EVENT)
    assert write_records(place, [event, event]) == 2

    def failing() -> object:
        yield event
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_records(place, failing())  # type: ignore[arg-type]
    assert len(place.read_text().splitlines()) == 2


def test_a_folder_with_other_files_is_not_written_into(tmp_path: Path) -> None:
    check_overwritable(folder(tmp_path))
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(LvmError, match="holiday.jpg"):
        check_overwritable(tmp_path)


def test_what_was_done_without_something_before_it_gets_a_class_of_its_own(tmp_path: Path) -> None:
    """take 1 follows a return that ended 5 s before it, take 2 begins 30 s after it, take 0 is the first."""
    times = [("take0", 0, 0, 4), ("return", 1, 6, 10), ("take1", 0, 15, 20), ("take2", 0, 40, 41)]
    events = [EVENT | {"event": e, "activity": a, "t_s": s, "t_e": t} for e, a, s, t in times]
    other = [VIDEO | {"video": "b"}], [EVENT | {"video": "b", "event": "take3", "t_s": 15, "t_e": 20}]
    root = folder(tmp_path, videos=[VIDEO, *other[0]], events=[*events, *other[1]])
    with pytest.raises(LvmError, match="remove it and ask anew"):
        split_activity(root, "take", "return", 30.0, "steal", "taking it for good")
    (root / "queries.jsonl").unlink()
    assert split_activity(root, "take", "return", 30.0, "steal", "taking it for good") == {
        "take": 1,
        "steal": 3,
    }
    assert find_problems(root) == []
    data = read_data_folder(root)
    assert [one.activity for one in data.events["a"]] == [2, 1, 0, 2]
    assert [one.activity for one in data.events["b"]] == [2]  # what happens elsewhere tells nothing
    assert data.names.activities[2].doing == "taking it for good" and len(data.tracks["a"].tick5) == 1
    with pytest.raises(LvmError, match="a new name is needed, got 'steal'"):
        split_activity(root, "take", "return", 30.0, "steal", "again")
    with pytest.raises(LvmError, match="activities of .* are take, return, steal, got 'scan'"):
        split_activity(root, "take", "scan", 30.0, "other", "other")


def test_what_was_killed_between_two_files_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, records: object) -> int:
        raise KeyboardInterrupt

    root = folder(tmp_path)
    (root / "queries.jsonl").unlink()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(derived_labels, "write_records", killed)
        split_activity(root, "take", "return", 30.0, "steal", "taking it for good")
    assert split_activity(root, "take", "return", 30.0, "steal", "taking it for good") == {
        "take": 0,
        "steal": 1,
    }
    assert find_problems(root) == [] and [one.name for one in read_data_folder(root).classes] == [
        "take",
        "return",
        "steal",
    ]
