"""The command that imports: videos by name, labels by map, what is wrong, and what is only said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engines.errors import LvmError
from export.data.checks import find_problems, read_data_folder
from export.data.formats.forms import Report
from export.data.importing import ImportRules, import_annotations, read_annotations
from export.data.label_map import Meaning, read_label_map
from export.data.query_writer import write_queries
from export.data.video_files import VideoFolder
from tests.support.annotations import import_file, list_events, make_clock
from tests.support.media import write_video

# -- videos ------------------------------------------------------------------------------------------------


@pytest.fixture
def videos(tmp_path: Path) -> VideoFolder:
    for name in ("shelf.mp4", "a/till.mp4", "b/till.mp4", "b/v_xyz123.mkv", "b/shelf.txt", "100% done.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).write_bytes(b"x")
    return VideoFolder(tmp_path / "videos")


@pytest.mark.parametrize(
    "hint, file",
    [
        ("shelf.mp4", "shelf.mp4"),
        ("shelf", "shelf.mp4"),
        ("/home/me/shelf.mp4", "shelf.mp4"),
        ("C:\\films\\shelf.mp4", "shelf.mp4"),
        ("file:///home/me/shelf.mp4", "shelf.mp4"),
        ("https://host/data/shelf.mp4?token=1", "shelf.mp4"),
        ("/data/upload/3/1f2e3d4c-shelf.mp4", "shelf.mp4"),
        ("./b/till.mp4", "b/till.mp4"),
        ("/old/place/a/till.mp4", "a/till.mp4"),
        ("a/till", "a/till.mp4"),
        ("xyz123", "b/v_xyz123.mkv"),
        ("shelf.avi", "shelf.mp4"),
        ("100%25 done.mp4", "100% done.mp4"),
    ],
)
def test_a_video_is_found_by_path_name_or_stem(videos, hint, file):
    assert videos.find([hint]) == file
    assert videos.find(["nothing like it", hint]) == file


@pytest.mark.parametrize(
    "hints, message",
    [
        (["till.mp4"], "video 'till.mp4' may be a/till.mp4 or b/till.mp4"),
        (["till"], "may be a/till.mp4 or b/till.mp4"),
        (["shelv.mp4"], "there is no video 'shelv.mp4' below .*; nearest is shelf.mp4"),
        ([], "names no video, and .* has 5; name it with --video"),
        (["http://[::1"], "there is no video"),
    ],
)
def test_what_is_ambiguous_or_unknown_is_refused(videos, hints, message):
    with pytest.raises(LvmError, match=message):
        videos.find(hints)


def test_the_only_video_needs_no_name(tmp_path):
    with pytest.raises(LvmError, match="holds no video"):
        VideoFolder(tmp_path)
    (tmp_path / "x.mp4").write_bytes(b"x")
    assert VideoFolder(tmp_path).find([]) == "x.mp4"


# -- labels ------------------------------------------------------------------------------------------------


def write_map(folder: Path, text: str) -> Path:
    (folder / "map.yaml").write_text(text)
    return folder / "map.yaml"


def test_labels_mean_what_the_map_says(tmp_path):
    text = (
        "activities:\n  take: [pick up, Grab]\nproducts: {milk: [carton]}\nboth: {take milk: [take, milk]}\n"
    )
    labels = read_label_map(write_map(tmp_path, text + "ignore: [person]\ndoing: {take: taking it}\n"))
    meanings = {
        " PICK UP": Meaning("take"), "grab": Meaning("take"), "Carton": Meaning(product="milk"),
        "take milk": Meaning("take", "milk"), "person": Meaning(), "wave": Meaning("wave"),
    }  # fmt: skip
    assert {label: labels.explain(label) for label in meanings} == meanings
    assert labels.unused == [] and read_label_map(tmp_path / "map.yaml").unused == [
        "carton", "grab", "person", "pick up", "take milk"
    ]  # fmt: skip


@pytest.mark.parametrize("other, meaning", [("product", Meaning(product="x")), ("ignore", Meaning())])
def test_other_labels_are_what_the_map_says(tmp_path, other, meaning):
    assert read_label_map(write_map(tmp_path, f"other: {other}\n")).explain("x") == meaning


@pytest.mark.parametrize(
    "text, message",
    [
        ("activities: {take: [a]}\nproducts: {milk: [A]}\n", "label 'A' has two meanings"),
        ("activites: {take: }\n", "map.yaml:1: .*activities"),
        ("activities:\n  take: 4\n", "map.yaml:2"),
        ("doing: {take: taking it}\n", "'take', which is no activity"),
        ("both: {take milk: [take]}\n", "map.yaml:1"),
    ],
)
def test_a_wrong_map_is_refused(tmp_path, text, message):
    with pytest.raises(LvmError, match=message):
        read_label_map(write_map(tmp_path, text))


# -- records -----------------------------------------------------------------------------------------------


def net(folder: Path, **videos) -> Path:
    """Return a file of ActivityNet: label, start and end of segments, by video."""
    database = {
        name: {"annotations": [{"label": label, "segment": [start, end]} for label, start, end in segments]}
        for name, segments in videos.items()
    }
    (folder / "net.json").write_text(json.dumps({"database": database}, indent=1))
    return folder / "net.json"


def test_events_that_overlap_or_touch_become_one(tmp_path):
    file = net(tmp_path, shelf=[("a", 1, 2), ("a", 2, 3), ("a", 2.5, 4), ("b", 2, 3), ("a", 5, 6)])
    imported, report = import_file("activitynet", file)
    assert list_events(imported) == [("a", "scene", 1, 4), ("b", "scene", 2, 3), ("a", "scene", 5, 6)]
    assert list(report.notes) == ["events of one activity and object that overlap became one"]


def test_which_of_two_products_is_meant_is_not_guessed(tmp_path):
    def row(number, x):
        sides = f'xtl="{x}" ytl="9" xbr="{x + 9}" ybr="20"'
        return f'<track id="{number}" label="milk"><box frame="0" outside="0" {sides}/></track>'

    whole = 'xtl="0" ytl="0" xbr="200" ybr="100"'
    acted = (
        f'<track id="9" label="take"><box frame="50" {whole}><attribute name="product">milk</attribute></box>'
        f'<box frame="75" outside="1" {whole}/></track>'
    )
    (tmp_path / "a.xml").write_text(f"<annotations>{row(0, 10)}{row(1, 50)}{acted}</annotations>")
    labels = write_map(tmp_path, "products: {milk: }\nactivities: {take: }\n")
    imported, report = import_file("cvat", tmp_path / "a.xml", labels=labels)
    assert list_events(imported) == [("take", "milk", 2.0, 3.0)]
    assert not any(track.active for track in imported.tracks)
    assert list(report.notes) == ["which of several boxes of milk an event is about is not known"]


def test_a_file_that_is_given_twice_says_no_more(tmp_path):
    track = (
        '<track id="0" label="milk"><box frame="0" outside="0" xtl="9" ytl="9" xbr="20" ybr="20"/></track>'
    )
    tag = '<image id="1" name="" width="200" height="100"><tag label="take"/></image>'
    (tmp_path / "annotations.xml").write_text(f"<annotations>{track}{tag}</annotations>")
    labels = read_label_map(write_map(tmp_path, "products: {milk: }\n"))
    report = Report()
    read = read_annotations("cvat", [tmp_path / "annotations.xml"], report)
    one, two = (
        import_annotations(read * times, lambda _: make_clock(), labels, ImportRules(), report)
        for times in (1, 2)
    )
    assert one.tracks == two.tracks and one.events == two.events and len(one.tracks) > 50


def test_files_without_an_activity_are_refused(tmp_path):
    labels = write_map(tmp_path, "other: product\n")
    with pytest.raises(LvmError, match="nothing in the files is an activity"):
        import_file("activitynet", net(tmp_path, shelf=[("a", 1, 2)]), labels=labels)


# -- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "films").mkdir()
    write_video(tmp_path / "films/shelf.mp4", range(0, 9000, 40))
    return tmp_path


def run(folder: Path, *options: str) -> tuple[int, dict, list[str], str]:
    command = [sys.executable, "-m", "export.data", "import", *options, "--videos", "films"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    return done.returncode, json.loads(lines[-1]), lines[:-1], done.stderr


def test_an_import_can_be_checked_and_asked_about(shop):
    net(shop, shelf=[("wave", 1, 3), ("sit", 5, 8.5)])
    status, result, lines, _ = run(shop, "activitynet", "net.json", "data", "--val", "shelf")
    assert (status, lines) == (0, [])
    assert result == {
        "folder": "data", "problems": 0, "notes": 0, "videos": {"val": 1}, "hours": 0.003,
        "activities": {"wave": 1, "sit": 1}, "products": [], "boxes": 31, "written": True,
    }  # fmt: skip
    assert find_problems(shop / "data") == []
    assert write_queries(shop / "data")["queries"] > 2
    assert read_data_folder(shop / "data").videos["shelf.mp4"].split == "val"


def test_a_dry_run_writes_nothing(shop):
    net(shop, shelf=[("wave", 1, 3), ("sit", 5, 19.5)])
    status, result, _, said = run(shop, "activitynet", "net.json", "data", "--dry-run")
    assert (status, result["written"], result["activities"]) == (0, False, {"wave": 1, "sit": 1})
    assert "note: net.json:12: what ends after the video was cut at its end" in said
    assert not (shop / "data").exists()


def test_what_is_wrong_stops_an_import_or_is_skipped(shop):
    net(shop, shelf=[("wave", 1, 3), ("wave", 3, 2)], gone=[("sit", 1, 2)])
    status, result, lines, _ = run(shop, "activitynet", "net.json", "data")
    assert (status, result["problems"], result["written"]) == (2, 2, False)
    assert lines == [
        "net.json:12: segment must end after it starts, got 3 to 2 s",
        "net.json:21: there is no video 'gone' below films; nearest is shelf.mp4",
    ]
    assert not (shop / "data").exists()
    status, result, _, _ = run(shop, "activitynet", "net.json", "data", "--skip")
    assert (status, result["problems"], result["written"]) == (0, 2, True)
    assert find_problems(shop / "data") == []


def test_an_import_of_which_nothing_is_left_writes_nothing(shop):
    net(shop, gone=[("sit", 1, 2)])
    status, result, _, _ = run(shop, "activitynet", "net.json", "data", "--skip")
    assert (status, result["written"]) == (2, False) and not (shop / "data").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (("cvatt", "net.json", "data"), "the format must be one of cvat, coco"),
        (("cvat", "no.xml", "data"), "there is no no.xml"),
        (("cvat", "films", "data"), "films cannot be read: Is a directory"),
        (("cvat", "a.zip", "data"), "a.zip: is a zip archive; unpack it"),
        (("activitynet", "net.json", "data", "--val", "till"), "till is no video of the files"),
        (("yolo", "net.json", "data"), "expected a folder of YOLO's label files"),
        (("activitynet", "net.json", "films"), "films holds shelf.mp4, which is no data file"),
        (("activitynet", "net.json", "data", "--split", "exam"), "--split must be one of"),
        (
            ("activitynet", "net.json", "data", "--val", "shelf", "--test", "shelf"),
            "named by --val and by --test",
        ),
    ],
)
def test_wrong_use_is_one_sentence(shop, options, message):
    net(shop, shelf=[("wave", 1, 3)])
    (shop / "a.zip").write_bytes(b"PK\x03\x04")
    command = [sys.executable, "-m", "export.data", "import", *options, "--videos", "films"]
    done = subprocess.run(command, cwd=shop, capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
