"""Formats that say what goes on when: Label Studio, ActivityNet, AVA, VIA 3 and ELAN."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pympi.Elan import Eaf

from engines.errors import LvmError
from tests.support.annotations import import_file, list_boxes, list_events, make_clock

MAP = "activities: {take: [picking up]}\nproducts: {milk: [carton]}\n"


@pytest.fixture
def labels(tmp_path):
    (tmp_path / "map.yaml").write_text(MAP)
    return tmp_path / "map.yaml"


def write(file: Path, content: object) -> Path:
    file.write_text(json.dumps(content, indent=1))
    return file


def check_refused(kind: str, file: Path, message: str) -> None:
    """Check that the file is refused in one sentence, with its line."""
    try:
        _, report = import_file(kind, file)
    except LvmError as error:
        said = str(error)
    else:
        (said,) = report.problems
    assert re.match(re.escape(str(file)) + r":\d+: ", said) and re.search(message, said), said
    assert said.isprintable()


# -- Label Studio ------------------------------------------------------------------------------------------


def region(name: str, label: str, *keys: tuple[int, float, bool], **more) -> dict:
    sequence = [
        {
            "frame": frame,
            "enabled": on,
            "rotation": 0,
            "x": x,
            "y": 10,
            "width": 20,
            "height": 50,
            "time": frame / 25,
        }
        for frame, x, on in keys
    ]
    value = {"framesCount": 250, "duration": 10.0, "sequence": sequence, "labels": [label]} | more
    return {
        "id": name, "type": "videorectangle", "from_name": "box", "to_name": "video", "origin": "manual",
        "value": value,
    }  # fmt: skip


def timeline(start: int, end: int, *names: str) -> dict:
    value = {"ranges": [{"start": start, "end": end}], "timelinelabels": list(names)}
    return {"id": f"t{start}", "type": "timelinelabels", "from_name": "t", "to_name": "video", "value": value}


def task(*results: dict, video: str = "/data/upload/3/1f2e3d4c-shelf.mp4", **more) -> dict:
    return {
        "id": 4, "data": {"video": video}, "file_upload": "1f2e3d4c-shelf.mp4", "predictions": [],
        "annotations": [{"id": 9, "was_cancelled": False, "result": list(results)}],
    } | more  # fmt: skip


def find_shelf(kind: str, file: Path, **options):
    return import_file(kind, file, make_clock(name="1f2e3d4c-shelf.mp4"), **options)


def test_frames_of_label_studio_are_counted_from_one(tmp_path, labels):
    results = [
        region("aB3x", "carton", (1, 0, True), (51, 50, False), (101, 20, True), (126, 20, False)),
        timeline(26, 35, "picking up", "carton"),
    ]
    imported, report = find_shelf("label-studio", write(tmp_path / "a.json", [task(*results)]), labels=labels)
    boxes = list_boxes(imported, "milk")
    assert sorted(boxes) == [*range(0, 11), *range(20, 26)]  # the key frame that ends it still shows it
    assert boxes[5] == pytest.approx((0.25, 0.1, 0.45, 0.6))
    assert list_events(imported) == [("take", "milk", 1.0, 1.4)]
    assert {one.tick5 for one in imported.tracks if one.active} == {5, 6}
    assert not report.problems and not report.notes


def test_frames_that_the_browser_guessed_are_resolved_by_its_rate(tmp_path):
    """Without `framerate` in the setup it counts 24 a second, whatever the video has."""
    results = [region("a", "wave", (25, 0, True), (49, 0, False), framesCount=240)]
    imported, _ = find_shelf("label-studio", write(tmp_path / "a.json", [task(*results)]))
    assert list_events(imported) == [("wave", "wave a", 1.0, pytest.approx(2 + 1 / 24, abs=1e-4))]
    imported, _ = find_shelf(
        "label-studio", write(tmp_path / "a.json", [task(timeline(25, 48, "wave"))]), fps=24.0
    )
    assert list_events(imported)[0][2:] == (1.0, 2.0)


def test_the_newest_annotation_counts_and_a_cancelled_one_does_not(tmp_path):
    entry = task()
    entry["annotations"] = [
        {"was_cancelled": cancelled, "result": [timeline(start, start + 24, "wave")]}
        for cancelled, start in ((False, 1), (False, 26), (True, 51))
    ]
    imported, report = find_shelf("label-studio", write(tmp_path / "a.json", [entry]))
    assert list_events(imported) == [("wave", "scene", 1.0, 2.0)] and len(report.notes) == 1


@pytest.mark.parametrize(
    "results, message",
    [
        ([timeline(9, 3, "a")], "end 3 is before start 9"),
        ([timeline(-1, 3, "a")], "start: .*greater than or equal"),
        ([timeline(0, 3, "a")], "frame 0 is before the first, which is number 1"),
        ([timeline(251, 260, "a")], "frame 251 is beyond the end"),
        ([region("x", "a", (1, float("nan"), True))], "x: .*finite"),
        ([region("x", "a", (1, 90, True))] * 2, "region 'x' is there twice"),
        ([region("x", "a", (1, 0, True), (1, 5, True))], "two key frames at 1"),
        ([region("x", "a", (1, 120, True))], "outside the picture"),
    ],
)
def test_what_is_wrong_in_label_studio_is_refused(tmp_path, results, message):
    file = write(tmp_path / "a.json", [task(*results, video="shelf.mp4")])
    check_refused("label-studio", file, message)


def test_json_min_is_refused(tmp_path):
    check_refused(
        "label-studio", write(tmp_path / "a.json", [{"video": "shelf.mp4", "box": []}]), "not as JSON-MIN"
    )
    check_refused(
        "label-studio", write(tmp_path / "a.json", {"a": 1}), "expected Label Studio's list of tasks"
    )


# -- ActivityNet -------------------------------------------------------------------------------------------


def activity_net(*segments: tuple[str, float, float], subset: str = "training", name: str = "shelf") -> dict:
    notes = [{"label": label, "segment": [start, end]} for label, start, end in segments]
    return {
        "version": "VERSION 1.3", "taxonomy": [],
        "database": {
            name: {"duration": 10.0, "subset": subset, "url": "", "annotations": notes}
        },
    }  # fmt: skip


def test_segments_of_activitynet_are_seconds_and_subsets_are_splits(tmp_path):
    file = write(
        tmp_path / "a.json", activity_net(("Wave", 1.234, 2.5), ("Wave", 9.5, 10.9), subset="validation")
    )
    imported, report = import_file("activitynet", file)
    assert list_events(imported) == [("Wave", "scene", 1.234, 2.5), ("Wave", "scene", 9.5, 10.0)]
    assert imported.videos[0].split == "val"
    assert list(report.notes) == ["what ends after the video was cut at its end"]
    imported, _ = import_file("activitynet", file, splits={"shelf": "test"}, shift=0.5)
    assert imported.videos[0].split == "test" and list_events(imported)[0][2:] == (1.734, 3.0)


@pytest.mark.parametrize(
    "segment, message",
    [
        (("a", 3, 2), "must end after it starts, got 3 to 2 s"),
        (("a", -1, 2), "segment.0: .*greater than or equal to 0"),
        (("a", 1, float("inf")), "segment.1: .*finite"),
        (("a", 11, 12), "11 s is beyond the end: the video lasts 10 s"),
        (("", 1, 2), "label: .*at least 1 character"),
    ],
)
def test_what_is_wrong_in_activitynet_is_refused(tmp_path, segment, message):
    check_refused("activitynet", write(tmp_path / "a.json", activity_net(segment)), message)


def test_an_unknown_video_is_refused_with_its_line(tmp_path):
    check_refused(
        "activitynet", write(tmp_path / "a.json", activity_net(("a", 1, 2), name="gone")), "no video"
    )


# -- AVA ---------------------------------------------------------------------------------------------------

ACTIONS = 'item {\n  name: "stand"\n  id: 12\n}\nlabel { name: "touch (an object)"\n label_id: 80 }\n'
AVA = """\
shelf,0003,0.1,0.1,0.3,0.6,12,7
shelf,0003,0.1,0.1,0.3,0.6,80,7
shelf,0004,0.3,0.1,0.5,0.6,12,7
shelf,0007,0.3,0.1,0.5,0.6,12,7
shelf,0004,0.6,0.1,0.8,0.6,,8
shelf,0009
"""


def test_a_line_of_ava_is_about_the_second_around_its_moment(tmp_path):
    (tmp_path / "ava.csv").write_text(AVA)
    (tmp_path / "actions.pbtxt").write_text(ACTIONS)
    imported, report = import_file("ava", tmp_path / "ava.csv")
    assert list_events(imported) == [
        ("touch (an object)", "person 7", 2.5, 3.5), ("stand", "person 7", 2.5, 4.5),
        ("stand", "person 7", 6.5, 7.5),
    ]  # fmt: skip
    boxes = list_boxes(imported, "person 7")
    assert sorted(boxes) == [*range(13, 23), *range(33, 38)]
    assert boxes[15] == pytest.approx((0.1, 0.1, 0.3, 0.6)) and boxes[17][0] == pytest.approx(0.18)
    assert sorted(list_boxes(imported, "person 8")) == list(range(18, 23))
    assert list(report.notes) == ["a moment without a box was left out"]


@pytest.mark.parametrize(
    "line, message",
    [
        ("shelf,3,nan,0.1,0.3,0.6,12,7", "x1: .*finite"),
        ("shelf,3,0.5,0.1,0.3,0.6,12,7", "must have x1 < x2"),
        ("shelf,3,1.5,0.1,1.7,0.6,12,7", "outside the picture"),
        ("shelf,-3,0.1,0.1,0.3,0.6,12,7", "second: .*greater than or equal to 0"),
        ("shelf,3,0.1,0.1", "x2: Field required"),
        ("shelf,1,0.2,0.1,0.3,0.6,12,1", "person 1 has two boxes at 1 s"),
        ('shelf,"3', "is no CSV: unexpected end of data"),
    ],
)
def test_what_is_wrong_in_ava_is_refused(tmp_path, line, message):
    (tmp_path / "ava.csv").write_text(f"shelf,1,0.1,0.1,0.3,0.6,12,1\n{line}\n")
    check_refused("ava", tmp_path / "ava.csv", message)


# -- VIA 3 -------------------------------------------------------------------------------------------------


def via(*metadata: dict, **more) -> dict:
    attributes = {
        "1": {
            "aname": "Activity", "anchor_id": "FILE1_Z2_XY0", "type": 4, "desc": "",
            "options": {"1": "picking up", "2": "putting back"}, "default_option_id": "",
        },
        "2": {"aname": "Object", "anchor_id": "FILE1_Z1_XY1", "type": 1, "desc": "", "options": {}},
    }  # fmt: skip
    return {
        "project": {"pid": "__VIA_PROJECT_ID__", "data_format_version": "3.1.1", "vid_list": ["1"]},
        "config": {"file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}}, "ui": {}},
        "attribute": attributes,
        "file": {"1": {"fid": 1, "fname": "shelf.mp4", "type": 4, "loc": 1, "src": ""}},
        "view": {"1": {"fid_list": [1]}},
        "metadata": {
            f"1_{at}": {"vid": "1", "flg": 0, "z": [], "xy": [], "av": {}} | one
            for at, one in enumerate(metadata)
        },
    } | more  # fmt: skip


def test_segments_and_regions_of_via_are_seconds(tmp_path, labels):
    metadata = [
        {"z": [1.25, 2.5], "av": {"1": "1", "2": "carton"}},
        {"z": [4, 5.5], "av": {"1": "2"}},
        {"z": [1.6], "xy": [2, 20, 10, 40, 50], "av": {"2": "carton"}},
        {"z": [3.4], "xy": [4, 40, 35, 20, 25], "av": {"2": "carton"}},
        {"z": [3.4], "xy": [1, 40, 35], "av": {"2": "carton"}},
        {"z": [5], "av": {"1": "1"}},
        {"z": [5, 6], "av": {}},
    ]
    imported, report = import_file("via", write(tmp_path / "via.json", via(*metadata)), labels=labels)
    assert list_events(imported) == [("take", "milk", 1.25, 2.5), ("putting back", "scene", 4.0, 5.5)]
    assert list_boxes(imported, "milk") == {8: (0.1, 0.1, 0.3, 0.6), 17: (0.1, 0.1, 0.3, 0.6)}
    assert sorted(report.notes) == [
        "a moment without an end was left out",
        "a point was left out",
        "what has no value of an attribute was left out",
    ]


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"z": [3, 2], "av": {"1": "1"}}, "must end after it starts, got 3 to 2 s"),
        ({"z": [-3, 2], "av": {"1": "1"}}, "z.0: .*greater than or equal to 0"),
        ({"z": [30, 40], "av": {"1": "1"}}, "30 s is beyond the end"),
        ({"z": [1], "xy": [2, float("nan"), 1, 1, 1], "av": {"1": "1"}}, "xy.1: .*finite"),
        ({"z": [1], "xy": [2, 500, 10, 40, 50], "av": {"1": "1"}}, "outside the picture"),
        ({"z": [1], "xy": [2, 20, 10, 40], "av": {"1": "1"}}, "xy must be the kind of a shape"),
        ({"z": [1, 2], "vid": "9", "av": {"1": "1"}}, "vid '9' leads to no view"),
    ],
)
def test_what_is_wrong_in_via_is_refused(tmp_path, entry, message):
    check_refused("via", write(tmp_path / "via.json", via({"z": [1, 2], "av": {"1": "1"}}, entry)), message)


def test_a_project_of_via_2_is_refused(tmp_path):
    check_refused("via", write(tmp_path / "via.json", {"_via_img_metadata": {}}), "a project of VIA 2")


# -- ELAN --------------------------------------------------------------------------------------------------


def elan(folder: Path, *, origin: int | None = None) -> Eaf:
    """Return a file of ELAN with one video, as pympi makes it."""
    eaf = Eaf(author="")
    eaf.add_linked_file(str(folder / "shelf.mp4"), mimetype="video/mp4", time_origin=origin)
    eaf.add_linguistic_type("objects", "Symbolic_Association", timealignable=False)
    eaf.add_tier("activity")
    eaf.add_tier("object", ling="objects", parent="activity")
    return eaf


def test_annotations_of_elan_are_milliseconds_and_children_are_further_labels(tmp_path, labels):
    eaf = elan(tmp_path)
    eaf.add_annotation("activity", 1234, 2500, "picking up")
    eaf.add_annotation("activity", 4000, 4800, "wave")
    eaf.add_annotation("activity", 6000, 6500, "")
    eaf.add_ref_annotation("object", "activity", 1300, "carton")
    eaf.to_file(str(tmp_path / "a.eaf"))
    imported, report = import_file("elan", tmp_path / "a.eaf", labels=labels)
    assert list_events(imported) == [("take", "milk", 1.234, 2.5), ("wave", "scene", 4.0, 4.8)]
    assert list(report.notes) == ["an annotation without a value was left out"]


def test_a_video_that_begins_later_is_shifted(tmp_path):
    eaf = elan(tmp_path, origin=1500)
    eaf.add_annotation("activity", 1000, 2000, "wave")
    eaf.to_file(str(tmp_path / "a.eaf"))
    assert list_events(import_file("elan", tmp_path / "a.eaf")[0])[0][2:] == (2.5, 3.5)


def test_time_slots_without_a_time_lie_between_their_neighbours(tmp_path):
    eaf = elan(tmp_path)
    eaf.add_annotation("activity", 1000, 2000, "one")
    eaf.add_annotation("activity", 2000, 4000, "two")
    eaf.to_file(str(tmp_path / "a.eaf"))
    text = (tmp_path / "a.eaf").read_text().replace('TIME_VALUE="2000"', "")
    (tmp_path / "a.eaf").write_text(text)
    events = list_events(import_file("elan", tmp_path / "a.eaf")[0])
    assert [event[2:] for event in events] == [(1.0, 2.0), (3.0, 4.0)]  # slots 1, ., ., 4


SLOTS = (
    '<TIME_ORDER>\n<TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="1000"/>'
    '<TIME_SLOT TIME_SLOT_ID="b" TIME_VALUE="2000"/></TIME_ORDER>\n'
)


@pytest.mark.parametrize(
    "annotations, message",
    [
        (
            '<ALIGNABLE_ANNOTATION ANNOTATION_ID="1" TIME_SLOT_REF1="b" TIME_SLOT_REF2="a"/>',
            "must end after it starts",
        ),
        (
            '<ALIGNABLE_ANNOTATION ANNOTATION_ID="1" TIME_SLOT_REF1="a" TIME_SLOT_REF2="z"/>',
            "slot 'z' has no time",
        ),
        ('<ALIGNABLE_ANNOTATION TIME_SLOT_REF1="a" TIME_SLOT_REF2="b"/>', "ANNOTATION_ID: Field required"),
        ('<REF_ANNOTATION ANNOTATION_ID="1" ANNOTATION_REF="1"/>', "annotation '1' is not in the file"),
        (
            '<ALIGNABLE_ANNOTATION ANNOTATION_ID="1" TIME_SLOT_REF1="a" TIME_SLOT_REF2="b">'
            "<ANNOTATION_VALUE>x</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>\n"
            '<ALIGNABLE_ANNOTATION ANNOTATION_ID="1" TIME_SLOT_REF1="a" TIME_SLOT_REF2="b"/>',
            "annotation 1 is there twice",
        ),
    ],
)
def test_what_is_wrong_in_elan_is_refused(tmp_path, annotations, message):
    file = tmp_path / "shelf.eaf"
    file.write_text(
        f"<ANNOTATION_DOCUMENT>{SLOTS}<TIER><ANNOTATION>\n{annotations}</ANNOTATION></TIER></ANNOTATION_DOCUMENT>"
    )
    check_refused("elan", file, message)


def test_xml_of_another_tool_is_refused(tmp_path):
    (tmp_path / "a.eaf").write_text("<annotations/>")
    check_refused("elan", tmp_path / "a.eaf", "expected ELAN's <ANNOTATION_DOCUMENT>")
