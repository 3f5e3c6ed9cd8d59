"""COCO's JSON, as COCO-VID, CVAT's export and YouTube-VIS have it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from engines.errors import LvmError
from tests.support.annotations import import_file, list_boxes, list_events, make_clock

CATEGORIES = [{"id": 1, "name": "milk", "supercategory": ""}, {"id": 2, "name": "bread"}]


def write(folder: Path, **content) -> Path:
    file = folder / "instances_default.json"
    tree = {"licenses": [], "info": {}, "categories": CATEGORIES} | content
    file.write_text(json.dumps(tree, indent=1))
    return file


def image(number: int, name: str = "shelf/{:06d}.jpg", **more) -> dict:
    return {"id": number + 1, "file_name": name.format(number), "width": 200, "height": 100} | more


def note(image: int, number: int, x: float = 20, **more) -> dict:
    """Return the annotation `number` of frame `image`."""
    return {
        "id": number, "image_id": image + 1, "category_id": 1, "segmentation": [], "area": 2000.0,
        "bbox": [x, 10, 40, 50], "iscrowd": 0,
    } | more  # fmt: skip


@pytest.fixture
def labels(tmp_path):
    (tmp_path / "map.yaml").write_text("products: {milk: }\nactivities: {bread: }\n")
    return tmp_path / "map.yaml"


@pytest.mark.parametrize("key", ["track_id", "instance_id", "attributes"])
def test_objects_are_followed_and_move_between_annotated_frames(tmp_path, labels, key):
    follow = {"attributes": {"occluded": False, "track_id": 7}} if key == "attributes" else {key: 7}
    images = [image(frame) for frame in range(0, 100, 10)]
    notes = [note(frame, frame + 1, x=frame, **follow) for frame in (0, 10, 20, 50)]
    notes.append(note(40, 99, category_id=2, track_id=8))
    imported, report = import_file("coco", write(tmp_path, images=images, annotations=notes), labels=labels)
    boxes = list_boxes(imported, "milk")
    assert sorted(boxes) == [0, 1, 2, 3, 4, 10]  # frames 0 to 20, then 50 alone
    assert boxes[1] == pytest.approx((5 / 200, 0.1, 45 / 200, 0.6))  # 0.2 s is frame 5
    assert list_events(imported) == [("bread", "bread 8", 1.6, 1.8)]
    assert not report.problems


def test_videos_of_coco_vid_have_frame_numbers_of_their_own(tmp_path, labels):
    videos = [{"id": 5, "name": "shelf"}, {"id": 6, "name": "till.mp4"}]
    images = [
        image(0, "a.jpg", video_id=5, frame_id=50),
        image(1, "b.jpg", video_id=6, frame_index=75),
        image(2, "c.jpg", video_id=6, frame_id=76),
    ]
    notes = [note(at, at, category_id=2, track_id=1) for at in range(3)]
    file = write(tmp_path, videos=videos, images=images, annotations=notes)
    imported, _ = import_file("coco", file, make_clock(), make_clock(name="till.mp4"), labels=labels)
    assert [(one.video, one.t_s, one.t_e) for one in imported.events] == [
        ("shelf.mp4", 2.0, 2.2), ("till.mp4", 3.0, 3.2),
    ]  # fmt: skip


def test_tubes_of_whole_videos_are_read(tmp_path, labels):
    names = [f"shelf/{frame:05d}.jpg" for frame in range(0, 50, 5)]
    videos = [{"id": 1, "width": 200, "height": 100, "length": 10, "file_names": names}]
    bboxes = [None, None, [0, 10, 40, 50], [50, 10, 40, 50], None, None, None, None, None, None]
    notes = [
        {"id": 1, "video_id": 1, "category_id": 1, "bboxes": bboxes},
        {"id": 2, "video_id": 1, "category_id": 2, "bboxes": bboxes[::-1]},
    ]
    imported, _ = import_file("coco", write(tmp_path, videos=videos, annotations=notes), labels=labels)
    assert sorted(list_boxes(imported, "milk")) == [2, 3]  # frames 10 to 19
    assert list_events(imported)[0][2:] == (1.2, 1.6)  # frames 30 and 35, gone at 40


def test_untracked_boxes_of_one_label_stand_for_themselves(tmp_path, labels):
    notes = [note(0, 1), note(0, 2, x=100), note(50, 3), note(50, 4, category_id=2), note(50, 5, iscrowd=1)]
    file = write(tmp_path, images=[image(frame) for frame in range(0, 75, 25)], annotations=notes)
    imported, report = import_file("coco", file, labels=labels)
    assert [one.tick5 for one in imported.tracks if one.category == "milk"] == [0, 0, 10]
    assert any("iscrowd" in text for text in report.notes)


def test_the_number_of_the_first_frame_can_be_said(tmp_path):
    file = write(tmp_path, images=[image(26)], annotations=[note(26, 1)])
    assert list_events(import_file("coco", file, first_frame=1)[0])[0][2] == 1.0


@pytest.mark.parametrize(
    "notes, line, message",
    [
        ([note(0, 1, bbox=[float("nan"), 1, 2, 3])], 24, "bbox.0: .*finite"),
        ([note(0, 1, bbox=[1, 2, -3, 4])], 24, "bbox.2: .*greater than 0"),
        ([note(0, 1, bbox=[1, 2, 3])], 24, "bbox.3: Field required"),
        ([note(0, 1, x=500)], 24, "outside the picture"),
        ([note(0, 1), note(0, 1)], 38, "annotation id 1 is there twice"),
        ([note(0, 1, category_id=9)], 24, "category_id 9 is not among the categories"),
        ([note(8, 1)], 24, "image_id 9 is not among the images"),
        ([note(0, 1, track_id=1), note(0, 2, track_id=1)], 39, "milk 1 has two boxes at frame 0"),
        ([{"id": 3, "category_id": 1}], 24, "either a bbox or bboxes"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(tmp_path, notes, line, message):
    file = write(tmp_path, images=[image(0)], annotations=notes)
    _, report = import_file("coco", file)
    (problem,) = report.problems
    assert problem.startswith(f"{file}:{line}: ") and re.search(message, problem), problem


@pytest.mark.parametrize(
    "text, message",
    [
        ("[]", ":1: expected COCO's object"),
        ('{"annotations": [\n{"id": }]}', ":2: is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('\n{"annotations": 4}', ":2: expected a list or an object, got 4"),
        (b"\n\xff\xfe", ":2: is no text in UTF-8"),
    ],
)
def test_what_is_no_such_json_is_refused_at_once(tmp_path, text, message):
    file = tmp_path / "a.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LvmError) as caught:
        import_file("coco", file)
    assert message in str(caught.value)
