"""Annotations and answers go to CVAT and come back as what they were, to a frame."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_runtime.activity.row import Row
from edge_runtime.query.answers import ActivityCandidate, Answer, Covered, SpanCandidate, TimedBox, Window
from engines.errors import LvmError
from export.data.checks import find_problems, read_data_folder
from export.data.exporting import MAP_FILE, export_cvat
from export.data.formats.forms import Report
from export.data.importing import ImportRules, import_annotations, make_video_finder, read_annotations
from export.data.label_map import read_label_map
from export.data.user_dataset import write_user_dataset
from export.data.video_files import VideoFolder
from tests.support.annotations import list_events
from tests.support.media import write_video

UNEVEN = [0, 90, 120, 400, *range(480, 9000, 60)]


@pytest.fixture(params=["even", "uneven"])
def shop(request, tmp_path: Path) -> Path:
    """A data folder of one video, at an even rate or not."""
    write_video(tmp_path / "shelf.mp4", range(0, 9000, 40) if request.param == "even" else UNEVEN)
    (tmp_path / "events.csv").write_text(
        "video,activity,product,start,end\nshelf.mp4,take,milk,1,3\nshelf.mp4,give_back,milk,5,9\n"
        "shelf.mp4,take,bread & <butter>,4.2,6\n"
    )
    boxes = [
        f"shelf.mp4,milk,{t / 5},{t / 100},0.1,{t / 100 + 0.3},0.4" for t in (0, 1, 2, 3, 10, 11, 12, 40)
    ]
    boxes += ["shelf.mp4,milk,0.4,0.6,0.5,0.8,0.9", "shelf.mp4,bread & <butter>,5,0.6,0.5,0.8,0.9"]
    (tmp_path / "boxes.csv").write_text("\n".join(["video,product,t,x1,y1,x2,y2", *boxes]) + "\n")
    write_user_dataset(
        tmp_path / "data", tmp_path / "events.csv", boxes=tmp_path / "boxes.csv", doing={"take": "taking it"}
    )
    return tmp_path


def come_back(folder: Path) -> tuple[Path, Report]:
    """Import what was exported to folder/cvat into folder/back."""
    report = Report()
    read = read_annotations("cvat", sorted((folder / "cvat").glob("*.xml")), report)
    labels = read_label_map(folder / "cvat" / MAP_FILE)
    imported = import_annotations(read, make_video_finder(VideoFolder(folder)), labels, ImportRules(), report)
    imported.write(folder / "back")
    return folder / "back", report


def test_a_folder_comes_back_from_cvat_as_it_was(shop):
    assert export_cvat(shop / "data", shop / "cvat") == ["shelf.mp4.xml"]
    back, report = come_back(shop)
    assert find_problems(back) == [] and not report.problems and not report.notes
    before, after = read_data_folder(shop / "data"), read_data_folder(back)

    def tell(data):
        names = {one.id: one.name for one in data.names.instances}
        events = sorted(
            (data.classes[one.activity].name, names[one.instance], one.t_s, one.t_e)
            for one in data.events["shelf.mp4"]
        )
        tracks = data.tracks["shelf.mp4"]
        rows = zip(tracks.instance, tracks.tick5, tracks.active, tracks.box.tolist(), strict=True)
        return events, sorted(
            (names[i], tick, active, [round(side, 2) for side in box]) for i, tick, active, box in rows
        )

    (events, boxes), (events_back, boxes_back) = tell(before), tell(after)
    assert boxes_back == boxes and len(boxes) == 10
    for one, other in zip(events, events_back, strict=True):
        assert one[:2] == other[:2]
        assert one[2:] == pytest.approx(other[2:], abs=0.031)  # half a frame
    export_cvat(back, shop / "again")  # a second time nothing moves
    assert (shop / "again/shelf.mp4.xml").read_bytes() == (shop / "cvat/shelf.mp4.xml").read_bytes()


def answer(kind: str, *, asked: tuple[float, float] | None = None, **content) -> dict:
    """Return an answer as `lvm-edge ask --json` prints it."""
    window = Window(start=asked[0], end=asked[1]) if asked else None
    made = Answer(
        type=kind, answer="…", confidence=0.9, abstained=content.pop("abstained", False), asked=window,
        coverage=Covered(start=0.0, end=9.0), trained=True, memory_version=3, milliseconds=1.5, **content,
    )  # fmt: skip
    return json.loads(made.model_dump_json())


def span(start: float, end: float, confidence: float) -> SpanCandidate:
    return SpanCandidate(start=start, end=end, confidence=confidence)


ANSWERS = [
    answer("time", spans=(span(2, 3, 0.9), span(5, 6, 0.1))),
    answer("time", activity="weigh", spans=(span(3, 4, 0.9),)),
    answer("activity", activities=(ActivityCandidate(activity="scan", confidence=0.8),), asked=(4.0, 5.0)),
    answer(
        "object",
        boxes=(
            TimedBox(t=1, box=(0.1, 0.1, 0.3, 0.4)),
            TimedBox(t=2, box=(0.3, 0.1, 0.5, 0.4), interpolated=True),
            TimedBox(t=7, box=(0.3, 0.1, 0.5, 0.4)),
        ),
    ),
    answer("time", abstained=True, reason="what was asked was not seen"),
]
LOG = {"activities": [Row(1, "c", "bag", "putting it into a bag", 6.0, 7.0, 0.7).as_json()], "more": False}


@pytest.mark.parametrize("form", ["each a file", "lines"])
def test_answers_become_annotations_of_their_video(tmp_path, form):
    video = write_video(tmp_path / "shelf.mp4", range(0, 9000, 40))
    contents = [*ANSWERS, LOG]
    files = [tmp_path / f"{at}.json" for at in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_text(json.dumps(content, indent=1))
    if form == "lines":
        files = [tmp_path / "all.jsonl"]
        files[0].write_text("\n".join(json.dumps(content) for content in contents))
    export_cvat(video, tmp_path / "cvat", files, "look")
    back, report = come_back(tmp_path)
    assert not report.problems
    data = read_data_folder(back)
    events = sorted((data.classes[one.activity].name, one.t_s, one.t_e) for one in data.events["shelf.mp4"])
    assert events == [
        ("bag", 6.0, 7.0), ("look", 1.0, 3.0), ("look", 2.0, 3.0), ("look", 7.0, 8.0), ("scan", 4.0, 5.0),
        ("weigh", 3.0, 4.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"type": "time", "spans": [{"from": 3, "to": -1}]}', "1: spans.0.to: .*greater than or equal to 0"),
        ('{"type": "time",\n "spans": }', "2: is no JSON"),
        ('{"activities": [{"activity": "a", "from": 3, "to": 1}]}', "1: to must not be before from"),
    ],
)
def test_what_is_no_answer_is_refused_with_its_line(tmp_path, text, message):
    video = write_video(tmp_path / "shelf.mp4", range(0, 400, 40))
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(LvmError, match=message):
        export_cvat(video, tmp_path / "cvat", [tmp_path / "a.json"])


def test_a_name_that_is_activity_and_product_is_refused(tmp_path):
    write_video(tmp_path / "shelf.mp4", range(0, 4000, 40))
    (tmp_path / "events.csv").write_text("video,activity,product,start,end\nshelf.mp4,milk,milk,1,3\n")
    write_user_dataset(tmp_path / "data", tmp_path / "events.csv")
    with pytest.raises(LvmError, match="'milk' is both an activity and an instance"):
        export_cvat(tmp_path / "data", tmp_path / "cvat")


def test_a_log_without_a_map_is_read_back_too(tmp_path):
    video = write_video(tmp_path / "shelf.mp4", range(0, 4000, 40))
    (tmp_path / "log.json").write_text(
        json.dumps(LOG | {"activities": [{"activity": "bag", "from": 1, "to": 2}]})
    )
    export_cvat(video, tmp_path / "cvat", [tmp_path / "log.json"])
    report = Report()
    read = read_annotations("cvat", [tmp_path / "cvat/shelf.mp4.xml"], report)
    find = make_video_finder(VideoFolder(tmp_path))
    imported = import_annotations(read, find, read_label_map(None), ImportRules(), report)
    assert list_events(imported) == [("bag", "scene", 1.0, 2.0)]
