"""Own videos lie decoded in the cache; a training has their paths and maps what it looks at."""

import os
import pickle

import numpy as np
import pytest

from edge_runtime.ingest.pipeline import preprocess
from edge_runtime.sources import open_source
from engines.errors import LvmError
from export.data.user_dataset import write_user_dataset
from export.training.data import user_videos
from export.training.data.user_videos import FolderDataset
from export.training.recipe import BackboneRecipe, Optimiser
from tests.support.media import write_video
from tests.support.training_models import toy_config

CONFIG = toy_config(activities=1, image_size=56)
STAGE = BackboneRecipe(
    optimiser=Optimiser(steps=1, learning_rate=1e-3), worlds_a_batch=4, frames_a_world=4, inside_events=0.5
)


def folder_of(place, seconds, *, boxes=(0, 4)):
    """A data folder of one video to learn from, so long, and one to be judged by."""
    place.mkdir(exist_ok=True)
    for name, length in (("a.mp4", seconds), ("b.mp4", 12)):
        if not (place / name).exists():
            write_video(place / name, range(0, 1000 * length, 200))
    rows = [f"{name},tea,{t},0.1,0.2,0.5,0.9" for name in ("a.mp4", "b.mp4") for t in boxes]
    (place / "boxes.csv").write_text("\n".join(["video,product,t,x1,y1,x2,y2", *rows]) + "\n")
    (place / "events.csv").write_text(
        "video,activity,product,start,end,split\na.mp4,take,tea,3,9,train\nb.mp4,take,tea,3,9,val\n"
    )
    write_user_dataset(place / "data", place / "events.csv", boxes=place / "boxes.csv")
    return FolderDataset(place / "data", CONFIG, place / "cache")


def drawn(source, seed=0):
    return source.draw(np.random.default_rng(seed))


def folders(place):
    return {path.name for path in (place / "cache").iterdir() if path.is_dir()}


@pytest.fixture
def watched(monkeypatch):
    """The files that are decoded."""
    seen = []
    really = user_videos._read_frames
    monkeypatch.setattr(
        user_videos, "_read_frames", lambda path, fps: (seen.append(path.name), really(path, fps))[1]
    )
    return seen


def test_another_process_is_sent_no_picture_however_long_the_videos_are(tmp_path):
    short, long = (
        pickle.dumps(folder_of(tmp_path / f"of-{seconds:03}", seconds).make_scenes(STAGE))
        for seconds in (12, 120)
    )
    assert len(short) == len(long) < 4000


def test_pictures_are_those_of_the_file_and_are_mapped(tmp_path):
    dataset = folder_of(tmp_path, 24)
    source = open_source(str(tmp_path / "a.mp4"), sample_fps=CONFIG.sample_fps)
    wanted = np.stack([preprocess(frame, 56) for frame in source])
    decoded = dataset._cache_video(dataset._select("train")[0]).open()
    assert np.array_equal(decoded.frames, wanted) and decoded.ticks.tolist() == list(range(0, 120, 5))
    assert isinstance(decoded.frames.base, np.memmap) and isinstance(decoded.crops.base, np.memmap)
    there = pickle.loads(pickle.dumps(dataset.make_scenes(STAGE)))
    for frame in drawn(there).frames:
        assert (wanted == frame).all((1, 2, 3)).any()


def test_a_second_run_decodes_nothing(tmp_path, watched):
    first = drawn(folder_of(tmp_path, 24).make_scenes(STAGE))
    assert watched == ["a.mp4"]
    again = drawn(FolderDataset(tmp_path / "data", CONFIG, tmp_path / "cache").make_scenes(STAGE))
    assert watched == ["a.mp4"] and np.array_equal(first.frames, again.frames)


def test_other_boxes_decode_nothing_and_leave_no_second_copy(tmp_path, watched):
    folder_of(tmp_path, 24).make_scenes(STAGE)
    before = folders(tmp_path)
    dataset = folder_of(tmp_path, 24, boxes=(0, 5, 6))
    dataset.make_scenes(STAGE)
    assert watched == ["a.mp4"] and len(before) == 2
    assert {name.rpartition("-")[0] for name in folders(tmp_path)} == {
        name.rpartition("-")[0] for name in before
    }
    assert dataset._cache_video(dataset._select("train")[0]).load_truth().box_tick.tolist() == [25, 30]


def test_an_exchanged_video_is_decoded_again_and_the_old_one_goes(tmp_path, watched):
    old = folder_of(tmp_path, 24).make_scenes(STAGE)
    before = folders(tmp_path)
    (tmp_path / "a.mp4").unlink()
    dataset = folder_of(tmp_path, 30)
    dataset.make_scenes(STAGE)
    assert watched == ["a.mp4", "a.mp4"] and len(folders(tmp_path)) == 2 and not before & folders(tmp_path)
    assert len(dataset._cache_video(dataset._select("train")[0]).open().frames) == 30
    with pytest.raises(LvmError, match="is gone: the video or its annotations were changed, .* restart this"):
        drawn(old)


def test_a_file_with_another_time_is_another_one(tmp_path, watched):
    folder_of(tmp_path, 24).make_scenes(STAGE)
    os.utime(tmp_path / "a.mp4", (1, 1))
    folder_of(tmp_path, 24).make_scenes(STAGE)
    assert watched == ["a.mp4", "a.mp4"]


def test_a_video_that_is_shorter_than_it_says_is_not_kept(tmp_path):
    dataset = folder_of(tmp_path, 24)
    (tmp_path / "a.mp4").unlink()
    write_video(tmp_path / "a.mp4", range(0, 5000, 200))
    with pytest.raises(LvmError, match="a.mp4 gives 5 frames at 1 a second, at least one clip of 10"):
        dataset.make_scenes(STAGE)
    assert folders(tmp_path) == set()
