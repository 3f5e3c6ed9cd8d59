"""CVAT's XML: frames of the video's own clock, boxes as CVAT moves them, and its flags."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engines.errors import LvmError
from tests.support.annotations import import_file, list_boxes, list_events, make_clock

TASK = """<task><id>7</id><name>morning</name><size>250</size><mode>interpolation</mode>
<original_size><width>200</width><height>100</height></original_size><source>shelf.mp4</source></task>"""
MAP = "activities:\n  take: [picking up]\n  inspect:\nproducts:\n  milk: [carton]\n"


def box(frame: int, x: float = 20, *, outside: int = 0, occluded: int = 0, inner: str = "") -> str:
    """Return a box of 40 by 50 pixels as CVAT writes it."""
    sides = f'xtl="{x:.2f}" ytl="10.00" xbr="{x + 40:.2f}" ybr="60.00"'
    flags = f'frame="{frame}" keyframe="1" outside="{outside}" occluded="{occluded}"'
    return f'<box {flags} {sides} z_order="0">{inner}</box>\n'


def write(folder: Path, *tracks: str, meta: str = TASK) -> Path:
    file = folder / "annotations.xml"
    body = "".join(tracks)
    file.write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f"<meta>{meta}</meta>\n"
        f"{body}</annotations>\n"
    )
    return file


def track(number: int, label: str, *boxes: str) -> str:
    return f'<track id="{number}" label="{label}" source="manual">\n{"".join(boxes)}</track>\n'


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    file = tmp_path / "map.yaml"
    file.write_text(MAP)
    return file


def test_boxes_move_evenly_and_outside_hides_from_its_frame_on(tmp_path, labels):
    moving = track(
        0, "carton", box(0, 0), box(50, 100), box(75, 100, outside=1), box(100, 40), box(125, outside=1)
    )
    acted = track(1, "picking up", box(100), box(110, outside=1))
    imported, report = import_file("cvat", write(tmp_path, moving, acted), labels=labels)
    boxes = list_boxes(imported, "milk")
    assert sorted(boxes) == [*range(0, 15), *range(20, 25)]  # 0 to 3 s, and 4 to 5 s
    assert boxes[5] == pytest.approx((50 / 200, 0.1, 90 / 200, 0.6))  # 1 s: half the way
    assert boxes[12] == pytest.approx((0.5, 0.1, 0.7, 0.6))
    assert list_events(imported) == [("take", "picking up 1", 4.0, 4.4)]
    assert not report.problems and not report.notes


def test_frame_numbers_are_resolved_by_the_times_of_an_uneven_video(tmp_path):
    times = [0.0, 0.1, 0.5, 0.6, 2.0, 2.3, 2.6, 5.0]
    file = write(tmp_path, track(0, "wave", box(2), box(5, outside=1)), meta="")
    imported, _ = import_file("cvat", file, make_clock(times))
    assert list_events(imported) == [("wave", "wave 0", 0.5, 2.3)]
    boxes = list_boxes(imported, "wave 0")
    assert sorted(boxes) == list(range(3, 12))  # 0.6 to 2.2 s


@pytest.mark.parametrize("meta, end", [(TASK.replace("250", "200"), 8.0), (TASK, 10.0), ("", 10.0)])
def test_a_track_without_an_outside_box_stays_to_the_end_of_the_task(tmp_path, meta, end):
    imported, _ = import_file("cvat", write(tmp_path, track(0, "wave", box(100)), meta=meta))
    assert list_events(imported) == [("wave", "wave 0", 4.0, end)]


def test_hidden_boxes_are_the_truth_of_an_event_and_no_picture_of_the_product(tmp_path, labels):
    hidden = track(0, "carton", box(0, occluded=1), box(50), box(100, occluded=1), box(150, outside=1))
    both = '<attribute name="doing">inspect</attribute><attribute name="colour">red</attribute>'
    acted = track(1, "carton", box(200, inner=both), box(225, occluded=1, inner=both), box(240, outside=1))
    imported, _ = import_file("cvat", write(tmp_path, hidden, acted), labels=labels)
    assert list_events(imported) == [("inspect", "milk", 8.0, 9.6)]
    assert sorted(list_boxes(imported, "milk")) == [*range(10, 20), *range(40, 48)]
    assert {one.tick5 for one in imported.tracks if one.active} == set(range(40, 48))


def test_a_ticked_attribute_is_its_name_and_counts_only_where_the_map_names_it(tmp_path, labels):
    ticked = '<attribute name="inspect">true</attribute><attribute name="take">false</attribute>'
    file = write(tmp_path, track(0, "carton", box(0), box(25, inner=ticked), box(50), box(75, outside=1)))
    assert list_events(import_file("cvat", file, labels=labels)[0]) == [("inspect", "milk", 1.0, 2.0)]
    assert list_events(import_file("cvat", file)[0]) == [("carton", "carton 0", 0.0, 3.0)]


def test_a_box_of_the_whole_picture_says_when_and_not_where(tmp_path):
    whole = box(50).replace("20.00", "0.00").replace("60.00", "200.00", 1).replace('ytl="10.00"', 'ytl="0"')
    whole = whole.replace('ybr="60.00"', 'ybr="100"')
    imported, _ = import_file("cvat", write(tmp_path, track(0, "clean", whole, box(100, outside=1))))
    assert list_events(imported) == [("clean", "scene", 2.0, 4.0)]
    assert {one.tick5 for one in imported.tracks if one.active} == set(range(10, 20))
    assert {one.box for one in imported.tracks} == {(0.0, 0.0, 1.0, 1.0)}
    assert min(one.tick5 for one in imported.tracks if not one.active) == 0  # a question may show the scene


def test_a_box_shorter_than_a_tick_is_not_lost(tmp_path, labels):
    file = write(
        tmp_path,
        track(0, "carton", box(2), box(3, outside=1)),
        track(1, "take", box(100), box(101, outside=1)),
    )
    imported, report = import_file("cvat", file, labels=labels)
    assert list(list_boxes(imported, "milk")) == [0]
    assert list_events(imported) == [("take", "take 1", 4.0, 4.2)]
    assert any("less than a fifth of a second" in note for note in report.notes)


@pytest.mark.parametrize(
    "shape, expected",
    [
        ('<polygon frame="0" outside="0" points="20,10;60,10;40,60"/>', (0.1, 0.1, 0.3, 0.6)),
        ('<ellipse frame="0" cx="40" cy="50" rx="20" ry="30"/>', (0.1, 0.2, 0.3, 0.8)),
        ('<mask frame="0" left="20" top="10" width="40" height="50" rle="3, 4"/>', (0.1, 0.1, 0.3, 0.6)),
        ('<box frame="0" xtl="20" ytl="40" xbr="60" ybr="60" rotation="90"/>', (0.15, 0.3, 0.25, 0.7)),
        (
            '<skeleton frame="0"><points points="20,10"/><points points="60,60"/></skeleton>',
            (0.1, 0.1, 0.3, 0.6),
        ),
    ],
)
def test_of_other_shapes_the_box_around_them_counts(tmp_path, shape, expected):
    imported, report = import_file("cvat", write(tmp_path, track(0, "wave", shape, box(25, outside=1))))
    assert list_boxes(imported, "wave 0")[0] == pytest.approx(expected)
    assert report.notes and not report.problems


def test_images_are_frames_by_their_names_and_tags_are_activities(tmp_path, labels):
    def image(number: int, inner: str, name: str = "frame_{:06d}") -> str:
        head = f'id="{number}" name="{name.format(number * 5)}" width="400" height="200"'
        return f"<image {head}>{inner}</image>\n"

    one = '<box label="carton" occluded="0" xtl="40" ytl="20" xbr="120" ybr="120"><attribute name="a"/></box>'
    tag = '<tag label="picking up" source="manual"></tag>'
    file = write(
        tmp_path,
        image(0, one.replace("40", "60", 1) + one),
        image(1, one + tag),
        image(2, tag),
        image(3, ""),
        image(4, one),
    )
    imported, report = import_file("cvat", file, labels=labels)
    assert list_events(imported) == [("take", "scene", 0.2, 0.6)]
    assert sorted(list_boxes(imported, "milk")) == [0, 1, 4]
    assert sum(track.category == "milk" for track in imported.tracks) == 4  # frame 0 shows two
    assert list_boxes(imported, "milk")[4] == pytest.approx((0.1, 0.1, 0.3, 0.6))
    assert not report.problems


def test_a_project_has_many_tasks(tmp_path):
    tasks = "".join(
        f"<task><id>{n}</id><name>x</name><source>{s}.mp4</source></task>"
        for n, s in ((3, "shelf"), (4, "till"))
    )
    tracks = [
        track(0, "wave", box(25), box(50, outside=1)).replace("<track", f'<track task_id="{n}"')
        for n in (3, 4)
    ]
    file = write(tmp_path, *tracks, meta=f"<project><id>1</id><tasks>{tasks}</tasks></project>")
    imported, _ = import_file("cvat", file, make_clock(), make_clock(name="till.mp4"))
    assert [(event.video, event.t_s) for event in imported.events] == [("shelf.mp4", 1.0), ("till.mp4", 1.0)]


@pytest.mark.parametrize(
    "tracks, line, message",
    [
        ([track(0, "a", box(5).replace("20.00", "nan"))], 6, "xtl: .*finite number"),
        ([track(0, "a", box(5).replace("20.00", "60.00", 1))], 6, "must have x1 < x2 and y1 < y2"),
        ([track(0, "a", box(5, x=400))], 6, "outside the picture of 200x100"),
        (
            [track(0, "a", box(5).replace('frame="5"', 'frame="-5"'))],
            6,
            "frame: .*greater than or equal to 0",
        ),
        ([track(0, "a", box(300))], 6, "frame 300 is beyond the end: the video has 250 frames, 0 to 249"),
        ([track(0, "a", box(5), box(5))], 7, "two boxes at frame 5"),
        ([track(0, "a", box(5)), track(0, "b", box(5))], 8, "track 0 is there twice"),
        ([track(0, "a", box(5)).replace(' label="a"', "")], 5, "label: Field required"),
        ([track(0, "a", '<polygon frame="0" points="1,2;x"/>')], 6, "points of a polygon must be"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(tmp_path, tracks, line, message):
    file = write(tmp_path, *tracks, meta="")
    _, report = import_file("cvat", file)
    (problem,) = report.problems
    assert problem.startswith(f"{file}:{line}: ") and re.search(message, problem)


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]>'


@pytest.mark.parametrize(
    "text, message",
    [
        (BOMB + "<annotations>&c;</annotations>", ":1: declares a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>', ":1: declares a document type"),
        ("<annotations>\n<track></annotations>", ":2: is no XML: mismatched tag"),
        ("<annotations>\n", ":2: is no XML: no element found"),
        ("", "is no XML"),
        ("<a>" * 200 + "</a>" * 200, "nested deeper"),
        ('<?xml version="1.0" encoding="ebcdic-x"?><annotations/>', "is no XML"),
        ("<annotation/>", ":1: expected CVAT's <annotations>, got <annotation>"),
    ],
)
def test_what_is_no_such_xml_is_refused_at_once(tmp_path, text, message):
    file = tmp_path / "a.xml"
    file.write_text(text)
    with pytest.raises(LvmError) as caught:
        import_file("cvat", file)
    assert message in str(caught.value) and str(caught.value).startswith(str(file))
