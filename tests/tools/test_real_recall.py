"""Real recall, foreign video and familiar worlds as commands, on films of two colours."""

import json

import av
import numpy as np
import pytest

from engines.errors import LvmError
from export.evaluation.nothing import list_videos
from tests.support.bundles import TINY
from tools.quality import familiar, foreign, real_recall

SECONDS = 6


def make_film(path, colour, seconds=SECONDS):
    """Write a film of moving stripes of one colour at 10 pictures a second."""
    pictures = []
    for number in range(seconds * 10):
        picture = np.full((120, 160, 3), 20, np.uint8)
        picture[:, (number * 3) % 40 :: 40] = colour
        picture[(number * 2) % 30 :: 30] = colour
        pictures.append(np.repeat(np.repeat(picture[::4, ::4], 4, 0), 4, 1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    make_film(folder / "blue.mp4", (30, 60, 230))
    make_film(folder / "orange.mp4", (240, 150, 20))
    return folder


def run(tool, capsys, *options):
    assert tool.main([*map(str, options), "--backend", "onnxruntime", "--threads", "1"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_colours_tell_two_films_apart_and_every_figure_is_there(films, capsys):
    result = run(real_recall, capsys, films, "--orders", 2, "--crops", 2)
    assert result["chance"] == 0.5 and result["clips"] == 2 and result["orders"] == 2
    assert result["colours"]["far"]["value"] == result["colours"]["near"]["value"] == 1.0
    for method in (result, result["colours"], result["features"], result["remembered"]):
        for kind in ("near", "far"):
            low, high = method[kind]["interval"]
            assert 0 <= low <= method[kind]["value"] <= high <= 1
    assert set(result["tokens_per_clip"]["of"]) == {"blue.mp4", "orange.mp4"}


def test_grey_crops_leave_colours_nothing(films, capsys):
    result = run(real_recall, capsys, films, "--orders", 1, "--crops", 4, "--grey")
    assert result["colours"]["far"]["value"] <= 0.75


def test_changes_of_crops_are_what_they_say():
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 256, (20, 30, 3), np.uint8)
    grey = real_recall.make_grey(crop, rng)
    assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 1] == grey[..., 2]).all()
    lit = [real_recall.relight(np.full((4, 4, 3), 128, np.uint8), rng) for _ in range(50)]
    means = np.array([picture.mean((0, 1)) for picture in lit])
    assert means.min() > 60 and means.max() < 215 and np.ptp(means, axis=1).max() > 15


def test_a_flat_part_is_not_cut_where_another_can_be():
    picture = np.full((100, 100, 3), 90, np.uint8)
    picture[60:, 60:] = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    for seed in range(20):
        assert real_recall.cut_crop(picture, np.random.default_rng(seed)).std() > 5


def test_one_clip_is_refused_and_no_more_of_a_clip_is_read_than_asked(films):
    with pytest.raises(LvmError, match="at least 2 clips"):
        real_recall.read_clips([films / "blue.mp4"], 40.0)
    clips = real_recall.read_clips([films], 2.0)
    assert [round(clip.frames[-1][0]) for clip in clips] == [2, 2]


def test_foreign_video_is_counted_by_the_hour(films, capsys):
    result = run(foreign, capsys, films)
    assert result["seconds"] == pytest.approx(2 * SECONDS, abs=1)
    assert result["rows"] == 0 and result["rows_per_hour"] == 0 and result["accusations"] == 0


def test_unseen_drawn_worlds_are_familiar_and_a_bundle_that_cannot_tell_is_refused(capsys):
    result = run(familiar, capsys, "--worlds", 2, "--seconds", 60)
    assert (result["worlds"], result["clips"], result["familiar"]) == (2, 4, 1.0)
    assert 0 < result["strangeness"]["lowest"] <= result["strangeness"]["highest"] <= 1
    with pytest.raises(LvmError, match="cannot tell how strange"):
        familiar.main(["--bundle", str(TINY), "--worlds", "1", "--seconds", "30", "--backend", "onnxruntime"])


def test_no_video_is_an_error(tmp_path):
    with pytest.raises(LvmError, match="at least one video"):
        list_videos([tmp_path])
