"""A video as another camera would have shown it, and when it is shown so."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import fake_backbone
from rich.console import Console
from test_feeder import stepped
from test_training_stages import recipe_of
from test_training_videos import caches, rendering
from training_models import CPU, toy_caches, toy_config, toy_recipe

from export.training.distributed import Team
from export.training.feeder import LvmTask
from export.training.looks import AS_FILMED, Look, look_of
from export.training.showings import Showings
from export.training.stages import CHECKPOINT, Training
from export.training.truth import VideoTruth
from export.training.tubedetr import TubeTask
from export.training.videos import of_world

SIDE = 100


def one_box(x1, y1, x2, y2):
    whole = [np.zeros(1, np.int64)] * 3
    return VideoTruth(
        *whole, np.array([9]), np.zeros(1, np.int64), np.array([5]), np.array([[x1, y1, x2, y2]], np.float32)
    )


def drawn(box):
    image = np.full((SIDE, SIDE, 3), 40, np.uint8)
    x1, y1, x2, y2 = np.rint(np.array(box) * SIDE).astype(int)
    image[y1:y2, x1:x2] = (220, 30, 30)
    return image


def seen(image):
    """Box of what is red, in shares of the picture."""
    red = image[..., 0].astype(int) - image[..., 1] > 90
    ys, xs = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]) / SIDE


@pytest.mark.parametrize("video", range(12))
def test_boxes_go_where_the_picture_goes(video):
    box = (0.30, 0.52, 0.44, 0.70)
    look = replace(look_of(f"video-{video}", 1), light=None)
    assert np.abs(seen(look.frame(drawn(box))) - look.truth(one_box(*box)).box[0]).max() <= 0.0101


def test_looks_differ_and_are_always_the_same():
    looks = [look_of(name, showing) for name in ("a", "b") for showing in (1, 2, 3)]
    assert len(set(looks)) == 6 and looks == [look_of(n, s) for n in ("a", "b") for s in (1, 2, 3)]
    assert {one.mirrored for one in looks} == {True, False}
    assert all(0 <= one.left <= 1 - one.side <= 0.15 and 0 <= one.top <= 1 - one.side for one in looks)


def test_the_first_showing_is_as_filmed(rng):
    image, truth = rng.integers(0, 256, (20, 30, 3), np.uint8), one_box(0.1, 0.2, 0.3, 0.4)
    look = look_of("a", 0)
    assert look == AS_FILMED and np.array_equal(look.frame(image), image)
    assert np.array_equal(look.truth(truth).box, truth.box)


def test_light_is_the_same_in_each_frame():
    look, grey = look_of("a", 1), np.full((8, 8, 3), 90, np.uint8)
    first, again = look.frame(grey), look.frame(grey)
    assert np.array_equal(first, again) and not np.array_equal(first, grey)


def test_a_box_out_of_sight_is_none_and_one_at_the_edge_is_cut():
    look = Look(left=0.1, top=0.0, side=0.8)
    out, most_out = look.truth(one_box(0, 0.2, 0.1, 0.4)), look.truth(one_box(0.0, 0.2, 0.12, 0.4))
    assert len(out.box) == len(out.box_tick) == len(out.box_event) == 0 == len(most_out.box)
    assert len(out) == 1  # the event is remembered by its time
    assert look.truth(one_box(0.05, 0.2, 0.2, 0.4)).box[0] == pytest.approx([0, 0.25, 0.125, 0.5])


def test_photos_of_a_mirrored_video_are_mirrored(rng):
    photos = rng.integers(0, 256, (2, 3, 8, 8, 3), np.uint8)
    assert np.array_equal(Look(mirrored=True, light=3).photos(photos), photos[:, :, :, ::-1])
    assert np.array_equal(Look(light=3).photos(photos), photos)


def test_each_showing_of_a_world_is_kept_beside_the_others(tmp_path):
    make, seeds = rendering()
    filmed = caches(tmp_path, make, seeds=[7])[0]
    other = caches(tmp_path, make, seeds=[7], showing=1)[0]
    caches(tmp_path, make, seeds=[7], showing=1)
    caches(tmp_path, make, seeds=[7])
    assert seeds == [7, 7]
    assert np.array_equal(filmed.ticks, other.ticks) and filmed.clips == other.clips
    assert np.array_equal(filmed.truth.start, other.truth.start)
    assert not np.array_equal(filmed.tokens, other.tokens)
    config = toy_config()
    straight = of_world(make(None, 7), "world-7", 30, config, fake_backbone(config), look_of("world-7", 1))
    assert np.array_equal(straight.tokens, other.tokens)


# -- in training -------------------------------------------------------------------------------------------


def ways():
    """The toys, and the same with tokens of the other sign."""
    videos = list(toy_caches())
    return [videos, [replace(one, features=-one.features, tokens=-one.tokens) for one in videos]]


def test_an_epoch_shows_each_video_in_one_look():
    showings = Showings(ways(), 3)
    seen = []
    for epoch in range(20):
        showings.turn(epoch)
        seen.append(tuple(showings.way))
        assert all(showings[i] is showings.ways[showings.way[i]][i] for i in range(4))
    showings.turn(7)
    assert tuple(showings.way) == seen[7] and len(set(seen)) > 5
    assert [one.name for one in showings] == [one.name for one in toy_caches()]


def lvm_task(videos):
    return LvmTask(toy_config(), toy_recipe(), videos, 0, Team(), CPU)


def test_a_memory_is_of_one_look():
    """Tokens of one look are positive where those of the other are negative."""
    task, epochs, mixed = lvm_task(Showings(ways(), 0)), {}, 0
    sign = np.sign(toy_caches()[0].features.astype(np.float32).sum())
    for batch, _ in stepped(task, 60):
        way, epoch = tuple(task._caches.way), task._progress.epoch
        assert epochs.setdefault(epoch, way) == way
        for row, video in enumerate(task._videos.tolist()):
            wanted = sign * (1 if way[video] == 0 else -1)
            for name in ("memory", "clip"):
                of = batch[f"{name}_features"][row][batch[f"{name}_valid"][row]]
                assert not len(of) or float(of.sum().sign()) == wanted
        mixed += len(set(way)) > 1
    assert len(epochs) > 2 and mixed


def test_a_run_goes_on_in_the_look_that_it_was_in():
    uninterrupted, first, second = (lvm_task(Showings(ways(), 0)) for _ in range(3))
    expected = [batch for batch, _ in stepped(uninterrupted, 40)]
    list(stepped(first, 27))
    second.restore(first.state())
    for (batch, _), wanted in zip(stepped(second, 13, begin=27), expected[27:], strict=True):
        assert all(torch.equal(batch[name], wanted[name]) for name in wanted)


def test_the_baseline_sees_every_look():
    signs = set()
    task = TubeTask(toy_config(), recipe_of().tubedetr, Showings(ways(), 0), 0, CPU)
    for step in range(20):
        frames = task.batch(step)["frames"]
        signs |= set(frames.flatten(1).sum(1).sign().tolist())
    assert {-1.0, 1.0} <= signs


def test_a_recipe_names_how_many_looks_there_are(tmp_path):
    recipe = recipe_of()
    looks = recipe.model_copy(update={"data": recipe.data.model_copy(update={"showings": 2})})
    assert "showings" not in recipe.model_dump_json() and '"showings":2' in looks.model_dump_json()
    Training(looks, tmp_path / "run", tmp_path / "cache", console=Console(file=io.StringIO())).run()
    assert (tmp_path / "run" / CHECKPOINT).exists()
    held_out, seen = 1, 2 * 2
    assert len(list((tmp_path / "cache").glob("*/world-*"))) == held_out + seen
