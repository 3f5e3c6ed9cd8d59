"""Too few examples are said before a training or a result is believed; one recording stays in one split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engines.errors import LvmError
from export.data.checks import find_problems, read_data_folder
from export.data.example_counts import ENOUGH_EVENTS, list_scarce_classes
from export.data.files import write_annotations
from export.data.records import Classes, EventRecord, NamedActivity, Split, Video
from export.data.user_dataset import write_user_dataset
from tests.support.annotations import import_file, make_clock
from tests.support.media import write_video

HEADER = "video,activity,product,start,end,split,source\n"


def write_folder(root: Path, videos: list[tuple[Split, str | None, int]]) -> Path:
    """Write drawn videos, each with its split, source and number of events of the first of two classes."""
    names = [f"v{number}" for number in range(len(videos))]
    write_annotations(
        root,
        [
            Video(
                video=name, seed=number, source=source, fps=25.0, width=64, height=64, duration_s=900.0,
                split=split,
            )
            for number, (name, (split, source, _)) in enumerate(zip(names, videos, strict=True))
        ],
        [
            EventRecord(video=name, event=f"e{at}", activity=0, instance=0, t_s=10.0 * at, t_e=10.0 * at + 5)
            for name, (_, _, count) in zip(names, videos, strict=True)
            for at in range(count)
        ],
        [],
        Classes(activities=(NamedActivity(id=0, name="take", doing="taking it"),)),
    )  # fmt: skip
    return root


@pytest.mark.parametrize(
    ("videos", "said"),
    [
        ([("train", None, 7), ("train", None, 7), ("train", None, 6)], None),
        ([("train", None, 7), ("train", None, 7), ("train", None, 5)], "19 events of 3 recordings"),
        ([("train", "a", 10), ("train", "a", 10), ("train", "b", 10)], "30 events of 2 recordings"),
        ([("train", None, 0)], "no event"),
        ([("train", None, 1)], "1 event of 1 recording"),
    ],
)
def test_a_class_with_too_few_examples_to_learn_from_is_named(tmp_path, videos, said):
    sentences = list_scarce_classes(read_data_folder(write_folder(tmp_path, videos)))
    if said is None:
        assert sentences == []
    else:
        (sentence,) = sentences
        assert sentence.startswith(f"train has {said} of class 'take'; at least 20 of 3 recordings")


@pytest.mark.parametrize("split", ["val", "test"])
def test_too_few_to_judge_by_are_said_of_the_split_that_judges(tmp_path, split):
    enough = ENOUGH_EVENTS[split]
    few = [("train", None, 10)] * 3 + [(split, None, enough - 1)]
    data = read_data_folder(write_folder(tmp_path / "few", few))
    (sentence,) = list_scarce_classes(data)
    assert sentence.startswith(f"{split} has {enough - 1} events of 1 recording of class 'take'")
    assert list_scarce_classes(data, ["train"]) == []
    many = [("train", None, 10)] * 3 + [(split, None, enough)]
    assert list_scarce_classes(read_data_folder(write_folder(tmp_path / "many", many))) == []


def test_clips_of_one_recording_in_two_splits_are_a_problem(tmp_path):
    root = write_folder(tmp_path, [("train", "monday", 1), ("train", "tuesday", 1), ("test", "monday", 1)])
    (problem,) = find_problems(root)
    assert (problem.file, problem.line) == ("videos.jsonl", 3)
    assert "'v2' in test is of recording 'monday', as is 'v0' in train" in problem.message
    with pytest.raises(LvmError, match="recording 'monday'"):
        read_data_folder(root)


@pytest.mark.parametrize("way", ["column", "names"])
def test_a_list_says_which_recording_a_clip_is_cut_from(tmp_path, way):
    names = ("mon_1.mp4", "mon_2.mp4", "tue_1.mp4", "other.mp4")
    for name in names:
        write_video(tmp_path / name, range(0, 3000, 200))
    sources = ("mon", "mon", "tue", "") if way == "column" else ("",) * 4
    splits = ("train", "val", "train", "test")
    lines = [f"{n},take,tea,1,2,{s},{o}\n" for n, s, o in zip(names, splits, sources, strict=True)]
    (tmp_path / "events.csv").write_text(HEADER + "".join(lines))
    pattern = r"^(mon|tue)_\d" if way == "names" else None
    write_user_dataset(tmp_path / "data", tmp_path / "events.csv", group_by=pattern)
    records = [json.loads(line) for line in (tmp_path / "data/videos.jsonl").read_text().splitlines()]
    assert [record.get("source") for record in records] == ["mon", "mon", "tue", None]
    assert ["mon_2.mp4" in problem.message for problem in find_problems(tmp_path / "data")] == [True]


def test_a_video_is_of_one_recording(tmp_path):
    write_video(tmp_path / "a.mp4", range(0, 3000, 200))
    lines = "a.mp4,take,tea,1,2,train,mon\na.mp4,take,tea,2,3,train,tue\n"
    (tmp_path / "events.csv").write_text(HEADER + lines)
    with pytest.raises(LvmError, match="events.csv:3: a.mp4 is of recording 'tue' here and of 'mon' above"):
        write_user_dataset(tmp_path / "data", tmp_path / "events.csv")


def test_imported_videos_are_of_the_recording_that_their_names_say(tmp_path):
    database = {
        name: {"subset": "training", "annotations": [{"label": "wave", "segment": [1.5, 3]}]}
        for name in ("mon_1", "tue_1")
    }
    (tmp_path / "a.json").write_text(json.dumps({"database": database}))
    clocks = [make_clock(name=name) for name in ("mon_1.mp4", "tue_1.mp4")]
    imported, _ = import_file("activitynet", tmp_path / "a.json", *clocks, group_by=r"^(\w+)_")
    assert [video.source for video in imported.videos] == ["mon", "tue"]
    with pytest.raises(LvmError, match="--group-by must be a regular expression"):
        import_file("activitynet", tmp_path / "a.json", *clocks, group_by="(")
