"""Own videos with an own list of events become a sound data folder with questions, by command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engines.errors import LvmError
from export.data.checks import find_problems, read_data_folder
from export.data.query_writer import write_queries
from export.data.records import CropFile
from export.data.user_dataset import write_user_dataset
from tests.support.media import real_media, write_video
from tests.support.pictures import product_folder

EVENTS = """\
video,activity,product,start,end,split
shelf.mp4,take,product-00,0:01,0:03.0,test
shelf.mp4,give_back,product-00,5,7,
shelf.mp4,take,product-01,4,6,test
"""
BOXES = """\
video,product,t,x1,y1,x2,y2
shelf.mp4,product-00,0.4,0.1,0.1,0.3,0.4
shelf.mp4,product-00,2.0,0.1,0.1,0.3,0.4
shelf.mp4,product-01,0.4,0.5,0.1,0.7,0.4
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    write_video(folder / "shelf.mp4", range(0, 9000, 100))
    (folder / "events.csv").write_text(EVENTS)
    (folder / "boxes.csv").write_text(BOXES)
    return folder


def test_lists_become_a_sound_folder(place: Path, tmp_path: Path) -> None:
    write_user_dataset(tmp_path, place / "events.csv", boxes=place / "boxes.csv", doing={"take": "taking it"})
    assert find_problems(tmp_path) == []
    data = read_data_folder(tmp_path)
    video = data.videos["shelf.mp4"]
    assert (video.split, video.fps) == ("test", 10.0)
    assert video.duration_s == pytest.approx(9.0, abs=0.2)
    assert [(one.name, one.doing) for one in data.classes] == [
        ("take", "taking it"),
        ("give_back", "give back"),
    ]
    assert [(one.t_s, one.t_e) for one in data.events["shelf.mp4"]] == [(1.0, 3.0), (4.0, 6.0), (5.0, 7.0)]
    assert data.tracks["shelf.mp4"].active.tolist() == [False, True, False]


def test_json_lines_say_the_same_as_csv(place: Path, tmp_path: Path) -> None:
    rows = [line.split(",") for line in EVENTS.splitlines()]
    lines = [json.dumps(dict(zip(rows[0], row, strict=True))) for row in rows[1:]]
    (place / "events.jsonl").write_text("\n".join(lines))
    write_user_dataset(tmp_path / "a", place / "events.jsonl")
    write_user_dataset(tmp_path / "b", place / "events.csv")
    assert (tmp_path / "a/events.jsonl").read_text() == (tmp_path / "b/events.jsonl").read_text()


def test_a_folder_that_is_made_anew_has_no_questions_of_the_lists_before(place: Path, tmp_path: Path) -> None:
    """They would ask about events that may be gone, and show boxes that may be others."""
    write_user_dataset(tmp_path, place / "events.csv", boxes=place / "boxes.csv")
    write_queries(tmp_path)
    assert read_data_folder(tmp_path).queries
    write_user_dataset(tmp_path, place / "events.csv")
    assert read_data_folder(tmp_path).queries == () and not len(
        read_data_folder(tmp_path).tracks["shelf.mp4"].tick5
    )
    assert not (tmp_path / "chance.json").exists() and find_problems(tmp_path) == []


def test_questions_show_photos_where_there_are_any(place: Path, tmp_path: Path) -> None:
    write_user_dataset(tmp_path / "data", place / "events.csv", boxes=place / "boxes.csv")
    photos = product_folder(tmp_path / "photos", 1, 3)
    counts = write_queries(tmp_path / "data", photos=photos)
    queries = read_data_folder(tmp_path / "data").queries
    assert counts["queries"] == len(queries) > 4
    kinds = {(query.instance, type(query.crop) is CropFile) for query in queries if query.type != "object"}
    assert kinds >= {(0, True), (1, False)} and (0, False) not in kinds
    assert json.loads((tmp_path / "data/chance.json").read_text())["test"]["time/short"]["queries"] > 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("video,activity,product,start\n", r"events.csv:1: the header lacks end"),
        ("video,activity,product,start,end\n", "lists no events"),
        (
            "video,activity,product,start,end\nshelf.mp4,take,tea,3,2\n",
            "events.csv:2: end must be after start",
        ),
        (
            "video,activity,product,start,end\nshelf.mp4,take,tea,3,1:99\n",
            "events.csv:2: end: a time must be",
        ),
        ("video,activity,product,start,end\nshelf.mp4,take,,3,4\n", "events.csv:2: product is missing"),
        ("video,activity,product,start,end\ngone.mp4,take,tea,3,4\n", r"events.csv:2: .*gone.mp4"),
        ("video,activity,product,start,end,split\nshelf.mp4,a,b,3,4,exam\n", "events.csv:2: split: .*'exam'"),
    ],
)
def test_a_wrong_line_is_named(place: Path, tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "shelf.mp4").symlink_to(place / "shelf.mp4")
    (tmp_path / "events.csv").write_text(text)
    with pytest.raises(LvmError, match=complaint):
        write_user_dataset(tmp_path / "data", tmp_path / "events.csv")


def test_the_command_makes_checks_and_asks(tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "export.data", *words], capture_output=True, text=True, cwd=Path.cwd()
        )
        return done.returncode, done.stdout, done.stderr

    root = str(tmp_path / "worlds")
    status, out, _ = run("world", root, "--train", "1", "--minutes", "1.2", "--knob", "closeup=0.5")
    assert (status, json.loads(out)["videos"]) == (0, {"train": 1})
    status, out, _ = run("queries", root, "--per-cell", "4")
    assert status == 0 and json.loads(out)["queries"] > 0
    status, out, _ = run("check", root)
    assert (status, json.loads(out)["problems"]) == (0, 0)
    (tmp_path / "worlds/events.jsonl").write_text("{}\n")
    status, out, _ = run("check", root)
    assert (status, out.splitlines()[0][:15]) == (2, "events.jsonl:1:")
    status, _, error = run("world", str(tmp_path / "w"), "--train", "1-x")
    assert (status, error.count("\n")) == (2, 1) and "got '1-x'" in error


def test_training_data_needs_no_torch() -> None:
    code = "import sys, export.data.__main__; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.media
def test_the_worked_example_of_the_docs_works(tmp_path: Path) -> None:
    blocks = (Path(__file__).parents[2] / "docs/own-videos.md").read_text().split("```csv\n")[1:]
    for name, block in zip(("events.csv", "boxes.csv"), blocks, strict=True):
        (tmp_path / name).write_text(block.split("```")[0])
    video = real_media() / "videos" / "sample-videos__bottle-detection.mp4"
    (tmp_path / "bottles.mp4").symlink_to(video)
    write_user_dataset(tmp_path / "data", tmp_path / "events.csv", boxes=tmp_path / "boxes.csv")
    counts = write_queries(tmp_path / "data")
    assert find_problems(tmp_path / "data") == []
    assert (counts["queries"], counts["negatives"]) == (15, 2)
