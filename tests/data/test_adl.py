"""Annotations in the manner of ADL become our records, and what cannot be read is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from engines.errors import LvmError
from export.data.__main__ import app
from export.data.adl import AdlRules, write_adl_dataset
from export.data.checks import find_problems, read_data_folder
from export.data.files import parse_seconds

OBJECTS = """\
# track x1 y1 x2 y2 frame active label
1 64 48 128 96 0 0 kettle
1 64 48 128 96 300 1 kettle
1 128 48 192 96 330 1 kettle
2 320 240 640 480 330 0 cup
2 320 240 640 480 900 1 cup
"""
ACTIONS = """\
00:09 00:12 5
00:28 01:00 12 drinks
00:30 01:30 12
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "object_annotation").mkdir()
    (tmp_path / "object_annotation" / "object_annot_P_01.txt").write_text(OBJECTS)
    (tmp_path / "P_01.txt").write_text(ACTIONS)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "P_01.mp4").touch()
    return tmp_path


def made(folder: Path, **rules: object) -> Path:
    root = folder / "data"
    write_adl_dataset(root, folder, folder / "videos", {"P_01": "test"}, AdlRules(**rules))  # type: ignore[arg-type]
    return root


def test_the_folder_is_sound_and_keeps_its_split(folder: Path) -> None:
    root = made(folder)
    assert find_problems(root) == []
    video = read_data_folder(root).videos["P_01"]
    assert (video.split, video.duration_s, video.fps) == ("test", 90.0, 30.0)


def test_a_video_may_choose_the_weights(folder: Path) -> None:
    """Without a held-out video nothing can be trained on the folder."""
    options = [
        "adl",
        folder / "data",
        "--annotations",
        folder,
        "--videos",
        folder / "videos",
        "--val",
        "P_01",
    ]
    both = CliRunner().invoke(app, [*map(str, options), "--test", "P_01"])
    assert "P_01 is named by --val and by --test: a video has one split" in str(both.exception)
    assert CliRunner().invoke(app, [*map(str, options)]).exit_code == 0
    assert read_data_folder(folder / "data").videos["P_01"].split == "val"


def test_an_action_is_an_event_of_every_object_active_in_it(folder: Path) -> None:
    events = read_data_folder(made(folder)).events["P_01"]
    assert [(one.activity, one.instance, one.t_s, one.t_e) for one in events] == [
        (0, 1, 9.0, 12.0),
        (1, 2, 28.0, 90.0),
    ]


def test_close_boxes_are_bridged_at_five_a_second_and_distant_ones_not(folder: Path) -> None:
    kettle = read_data_folder(made(folder)).tracks["P_01"].select(1)
    assert kettle.tick5.tolist() == [0, *range(50, 56)]
    assert kettle.box[:, 0] == pytest.approx([0.1, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2])
    assert kettle.active.tolist() == [False] + [True] * 6
    assert read_data_folder(made(folder)).tracks["P_01"].select(2).tick5.tolist() == [55, 150]


def test_labels_are_numbered_by_value_and_named_where_names_are_known(folder: Path) -> None:
    data = read_data_folder(made(folder, names={"5": "make_tea"}))
    assert [(one.name, one.doing) for one in data.classes] == [("make_tea", "make tea"), ("12", "12")]
    assert {one.name for one in data.names.instances} == {"kettle", "cup"}


def test_the_size_of_the_pictures_can_be_told(folder: Path) -> None:
    kettle = read_data_folder(made(folder, box_size=(1280, 960))).tracks["P_01"].select(1)
    assert kettle.box[0] == pytest.approx([0.05, 0.05, 0.1, 0.1])
    with pytest.raises(LvmError, match=r"object_annot_P_01.txt:5: .*not inside a picture of 320x480"):
        made(folder, box_size=(320, 480))


@pytest.mark.parametrize(
    ("name", "line", "complaint"),
    [
        ("P_01.txt", "00:09 1", "P_01.txt:4: .* must end after it starts"),
        ("P_01.txt", "9:70 10:00 3", "P_01.txt:4: .*seconds, mm:ss or hh:mm:ss, got '9:70'"),
        ("object_annotation/object_annot_P_01.txt", "1 2 3", "P_01.txt:7: .*got 3 words"),
        ("object_annotation/object_annot_P_01.txt", "1 a 3 4 5 6 1 cup", "P_01.txt:7: .*is no annotation"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(folder: Path, name: str, line: str, complaint: str) -> None:
    with (folder / name).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(LvmError, match=complaint):
        made(folder)


def test_what_is_not_there_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LvmError, match="no annotations of P_09"):
        write_adl_dataset(folder / "data", folder, folder / "videos", {"P_09": "test"})
    with pytest.raises(LvmError, match="no video P_01"):
        write_adl_dataset(folder / "data", folder, folder / "object_annotation", {})
    with pytest.raises(LvmError, match="has no object_annot_P_XX.txt"):
        write_adl_dataset(folder / "data", folder / "videos", folder / "videos", {})


def test_times_are_read_as_people_write_them() -> None:
    assert [parse_seconds(text) for text in ("12.5", "3:12", "1:03:12.5")] == [12.5, 192.0, 3792.5]
    for text in ("", "1:60", "-3", "a:1", "1:2:3:4", "inf"):
        with pytest.raises(ValueError, match="a time must be"):
            parse_seconds(text)
