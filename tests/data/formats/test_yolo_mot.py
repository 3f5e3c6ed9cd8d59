"""YOLO's folders, as Ultralytics and CVAT write them, and the MOT challenge's ground truth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engines.errors import LvmError
from tests.support.annotations import import_file, list_boxes, list_events, make_clock

LINE = "0 0.2 0.35 0.2 0.5"


def write_yolo(folder: Path, files: dict[str, str], names: str = "names:\n  0: milk\n  1: bread\n") -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "data.yaml").write_text(names)
    return folder


@pytest.mark.parametrize(
    "name, first",
    [
        ("labels/shelf_{}.txt", 1),
        ("obj_train_data/shelf/frame_{:06d}.txt", 0),
        ("labels/train/shelf/{:05d}.txt", 0),
    ],
)
def test_frames_are_numbered_by_names(tmp_path, name, first):
    files = {name.format(number + first): LINE + "\n" for number in range(25, 30)}
    imported, report = import_file("yolo", write_yolo(tmp_path / "data", files))
    assert list_events(imported) == [("milk", "milk", 1.0, 1.2)]
    assert list_boxes(imported, "milk")[5] == pytest.approx((0.1, 0.1, 0.3, 0.6))
    assert not report.problems and any(f"to be number {first};" in text for text in report.notes)


def test_tracks_confidences_and_outlines_are_told_apart(tmp_path):
    files = {
        "labels/shelf_1.txt": LINE + " 0.8 3\n" + LINE.replace("0 ", "1 ", 1) + " 0.9\n",
        "labels/shelf_6.txt": "0 0.4 0.35 0.2 0.5 3\n",
        "labels/shelf_11.txt": "1 0.1 0.1 0.3 0.1 0.3 0.6 0.1 0.6\n",
    }
    imported, _ = import_file("yolo", write_yolo(tmp_path, files))
    boxes = list_boxes(imported, "milk 3")
    assert boxes[0] == pytest.approx((0.1, 0.1, 0.3, 0.6)) and boxes[1] == pytest.approx((0.3, 0.1, 0.5, 0.6))


@pytest.mark.parametrize("names", ["names: [milk, bread]\n", "path: .\nnames: {0: milk, 1: bread}\n"])
def test_names_come_from_any_of_their_files(tmp_path, names):
    folder = write_yolo(tmp_path, {"shelf_1.txt": "1 0.5 0.5 0.1 0.1"}, names)
    assert list_events(import_file("yolo", folder)[0])[0][0] == "bread"
    (folder / "data.yaml").unlink()
    assert list_events(import_file("yolo", folder)[0])[0][0] == "class 1"
    (folder / "obj.names").write_text("milk\nloaf\n")
    assert list_events(import_file("yolo", folder)[0])[0][0] == "loaf"


def test_folders_say_the_split(tmp_path):
    files = {"labels/train/shelf_1.txt": LINE, "labels/val/till_1.txt": LINE}
    imported, _ = import_file("yolo", write_yolo(tmp_path, files), make_clock(), make_clock(name="till.mp4"))
    assert {one.video: one.split for one in imported.videos} == {"shelf.mp4": "train", "till.mp4": "val"}


@pytest.mark.parametrize(
    "text, line, message",
    [
        (LINE + "\n0 nan 0.3 0.2 0.5", 2, "expected class x y width height"),
        ("0 0.5 0.5 0.1", 1, "expected class x y width height"),
        ("x 0.5 0.5 0.1 0.1", 1, "expected class x y width height"),
        ("5 0.5 0.5 0.1 0.1", 1, "class 5 has no name; known are 0 to 1"),
        ("0 0.5 0.5 -0.1 0.1", 1, "must have x1 < x2"),
        ("0 1.5 0.5 0.1 0.1", 1, "outside the picture"),
        ("0 .5 .5 .1 .1 .9 3\n0 .5 .5 .1 .1 .9 3", 2, "track 3 has two boxes at frame 1"),
        ("0 .1 .1 .2 .2 .3 .3 .4", 1, "pairs x y of an outline"),
    ],
)
def test_a_wrong_line_of_yolo_is_refused(tmp_path, text, line, message):
    folder = write_yolo(tmp_path, {"labels/shelf_1.txt": text, "labels/shelf_2.txt": LINE})
    _, report = import_file("yolo", folder)
    (problem,) = report.problems
    assert problem.startswith(f"{folder}/labels/shelf_1.txt:{line}: ") and message in problem


def test_a_file_without_a_number_and_an_empty_folder_are_refused(tmp_path):
    _, report = import_file("yolo", write_yolo(tmp_path, {"a/shelf.txt": LINE, "a/shelf_1.txt": LINE}))
    assert "shelf.txt: its name ends in no frame number" in report.problems[0]
    (tmp_path / "b").mkdir()
    with pytest.raises(LvmError, match="holds no label file"):
        import_file("yolo", tmp_path / "b")


# -- MOT ---------------------------------------------------------------------------------------------------

SEQUENCE = (
    "[Sequence]\nname=shelf\nimDir=img1\nframeRate=25\nseqLength=250\nimWidth=200\nimHeight=100\nimExt=.jpg\n"
)


def write_mot(folder: Path, lines: list[str], names: str | None = "milk\nbread\n") -> Path:
    (folder / "shelf/gt").mkdir(parents=True)
    (folder / "shelf/seqinfo.ini").write_text(SEQUENCE)
    (folder / "shelf/gt/gt.txt").write_text("\n".join(lines) + "\n")
    if names:
        (folder / "shelf/gt/labels.txt").write_text(names)
    return folder


def test_frames_are_counted_from_one_and_hidden_objects_are_occluded(tmp_path):
    rows = [f"{frame},1,{frame},10,40,50,1,1,{0.3 if frame > 30 else 1.0}" for frame in range(1, 51)]
    rows += [f"{frame},2,120,10,40,50,1,2,1.0" for frame in range(26, 51)] + ["3,5,1,1,1,1,0,2,1"]
    (tmp_path / "map.yaml").write_text("products: {milk: }\n")
    folder = write_mot(tmp_path / "data", rows)
    imported, report = import_file("mot", folder, labels=tmp_path / "map.yaml")
    assert list_events(imported) == [("bread", "bread 2", 1.0, 2.0)]
    boxes = list_boxes(imported, "milk")
    assert sorted(boxes) == list(range(6))  # frames 1 to 30 are seen well
    assert boxes[5] == pytest.approx((26 / 200, 0.1, 66 / 200, 0.6))
    assert any("not to be considered" in text for text in report.notes) and not report.problems


def test_a_sequence_at_another_rate_than_the_video_is_resolved_by_its_own(tmp_path):
    folder = write_mot(tmp_path, [f"{frame},1,20,10,40,50,1,1,1" for frame in range(11, 21)])
    ini = folder / "shelf/seqinfo.ini"
    ini.write_text(ini.read_text().replace("frameRate=25\nseqLength=250", "frameRate=10\nseqLength=100"))
    assert list_events(import_file("mot", folder)[0]) == [("milk", "milk 1", 1.0, 2.0)]


@pytest.mark.parametrize(
    "row, label", [("1,1,20,10,40,50,1,1,1", "pedestrian"), ("1,1,20,10,40,50,1,-1,-1", "object")]
)
def test_classes_have_the_names_of_the_challenge(tmp_path, row, label):
    assert list_events(import_file("mot", write_mot(tmp_path, [row], None))[0])[0][0] == label


@pytest.mark.parametrize(
    "row, message",
    [
        ("1,1,nan,10,40,50,1,1,1", "left: .*finite"),
        ("0,1,20,10,40,50,1,1,1", "frame 0 is before the first, which is number 1"),
        ("251,1,20,10,40,50,1,1,1", "frame 251 is beyond the end: the video has 250 frames, 1 to 250"),
        ("1,1,20,10,0,50,1,1,1", "width: .*greater than 0"),
        ("1,1,20,10", "width: Field required"),
        ("2,7,20,10,40,50,1,1,1", "object 7 has two boxes at frame 2"),
        ("3,7,20,10,40,50,1,2,1", "object 7 is a bread here and was a milk before"),
        ("1,1,20,10,40,50,1,9,1", "class 9 has no name"),
    ],
)
def test_a_wrong_line_of_mot_is_refused(tmp_path, row, message):
    folder = write_mot(tmp_path, ["2,7,20,10,40,50,1,1,1", row])
    _, report = import_file("mot", folder)
    (problem,) = report.problems
    assert problem.startswith(f"{folder}/shelf/gt/gt.txt:2: ") and re.search(message, problem)
