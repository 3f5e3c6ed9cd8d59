"""A video as another camera would have shown it, and when it is shown so."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from export.data.video_labels import VideoTruth
from export.training.data.view_augmentation import (
    ORIGINAL_VIEW,
    VIEW_VERSION,
    EpochViews,
    ViewAugmentation,
    make_view,
)
from export.training.data.world_pool import make_query_photos
from export.training.loop.distributed import ProcessGroup
from export.training.lvm.task import LvmTask
from export.training.stages import CHECKPOINT, Training
from export.training.tubedetr import TubeTask
from tests.support.fakes import fake_backbone
from tests.support.training_models import CPU, toy_caches, toy_config, toy_recipe
from tests.training.test_lvm_task import stepped
from tests.training.test_stages import recipe_of
from tests.training.test_world_videos import DATA, caches, rendering

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
    view = replace(make_view(f"video-{video}", 1), light=None)
    assert (
        np.abs(seen(view.augment_frame(drawn(box))) - view.augment_truth(one_box(*box)).box[0]).max()
        <= 0.0101
    )


def test_looks_differ_and_are_always_the_same():
    views = [make_view(name, number) for name in ("a", "b") for number in (1, 2, 3)]
    assert len(set(views)) == 6 and views == [make_view(n, s) for n in ("a", "b") for s in (1, 2, 3)]
    assert {one.mirrored for one in views} == {True, False}
    assert all(0 <= one.left <= 1 - one.side <= 0.15 and 0 <= one.top <= 1 - one.side for one in views)


def test_the_first_showing_is_as_filmed(rng):
    image, truth = rng.integers(0, 256, (20, 30, 3), np.uint8), one_box(0.1, 0.2, 0.3, 0.4)
    view = make_view("a", 0)
    assert view == ORIGINAL_VIEW and np.array_equal(view.augment_frame(image), image)
    assert np.array_equal(view.augment_truth(truth).box, truth.box)


def test_light_is_the_same_in_each_frame():
    view, grey = make_view("a", 1), np.full((8, 8, 3), 90, np.uint8)
    first, again = view.augment_frame(grey), view.augment_frame(grey)
    assert np.array_equal(first, again) and not np.array_equal(first, grey)


def test_a_box_out_of_sight_is_none_and_one_at_the_edge_is_cut():
    view = ViewAugmentation(left=0.1, top=0.0, side=0.8)
    out, most_out = (
        view.augment_truth(one_box(0, 0.2, 0.1, 0.4)),
        view.augment_truth(one_box(0.0, 0.2, 0.12, 0.4)),
    )
    assert len(out.box) == len(out.box_tick) == len(out.box_event) == 0 == len(most_out.box)
    assert len(out) == 1  # the event is remembered by its time
    assert view.augment_truth(one_box(0.05, 0.2, 0.2, 0.4)).box[0] == pytest.approx([0, 0.25, 0.125, 0.5])


def test_photos_of_a_mirrored_video_are_mirrored(rng):
    photos = rng.integers(0, 256, (2, 3, 8, 8, 3), np.uint8)
    assert np.array_equal(
        ViewAugmentation(mirrored=True, light=3).augment_photos(photos), photos[:, :, :, ::-1]
    )
    assert np.array_equal(ViewAugmentation(light=3).augment_photos(photos), photos)


def test_a_crop_is_not_half_a_pixel_off():
    view, width = ViewAugmentation(left=0.05, top=0.1, side=0.85), 64
    ramp = np.broadcast_to((3 * np.arange(width))[None, :, None], (width, width, 3)).astype(np.uint8)
    wanted = 3 * (0.05 * width + 0.85 * (np.arange(width) + 0.5) - 0.5)
    assert (
        abs((view.augment_frame(ramp)[30, :, 0] - wanted).mean()) < 0.08
    )  # corners for centres would be 0.22


def test_no_edge_of_a_crop_is_darker():
    white = np.full((40, 40, 3), 255, np.uint8)
    assert (
        make_view("a", 0).augment_frame(white).min()
        == ViewAugmentation(side=0.85).augment_frame(white).min()
        == 255
    )
    assert ViewAugmentation(left=0.15, top=0.15, side=0.85).augment_frame(white).min() == 255


def test_where_left_and_right_differ_nothing_is_mirrored(tmp_path):
    straight = [make_view(f"video-{i}", 1, mirrored=False) for i in range(20)]
    assert not any(one.mirrored for one in straight)
    assert [replace(make_view(f"video-{i}", 1), mirrored=False) for i in range(20)] == straight
    make, seeds = rendering()
    for data in (DATA, DATA.model_copy(update={"mirrored": False})):
        for number in (0, 1):
            caches(tmp_path, make, seeds=[7], data=data, view=number)
    assert seeds == [7, 7, 7]  # as filmed is the same, its view is not


def mirrored_number(name):
    return next(number for number in range(1, 16) if make_view(name, number).mirrored)


def goes_along(filmed, other, view, engine, photos):
    """Boxes, evidence and photos of a number are those of its view."""
    assert np.array_equal(filmed.ticks, other.ticks) and filmed.clips == other.clips
    assert np.array_equal(filmed.truth.start, other.truth.start)
    assert not np.array_equal(filmed.tokens, other.tokens)
    wanted = view.augment_truth(filmed.truth)
    assert len(wanted.box) and np.array_equal(wanted.box, other.truth.box)
    assert not np.array_equal(filmed.truth.box[: len(wanted.box)], wanted.box)
    assert np.array_equal(
        other.event, np.stack([wanted.find_evidence(*at) for at in zip(other.tick, other.cell, strict=True)])
    )
    seen = engine({"image": np.stack([photo[:, ::-1] for photo in photos])})["tokens"]
    assert np.array_equal(other.objects[0], seen.astype(np.float16))
    assert not np.array_equal(other.objects[0], filmed.objects[0])


def test_each_showing_of_a_world_is_kept_beside_the_others(tmp_path):
    make, seeds = rendering()
    number = mirrored_number("world-7")
    filmed = caches(tmp_path, make, seeds=[7])[0]
    other = caches(tmp_path, make, seeds=[7], view=number)[0]
    caches(tmp_path, make, seeds=[7], view=number)
    caches(tmp_path, make, seeds=[7])
    assert seeds == [7, 7]
    config = toy_config()
    photos = make_query_photos(make(None, 7), 0, config)
    goes_along(filmed, other, make_view("world-7", number), fake_backbone(config), photos)


# -- in training -------------------------------------------------------------------------------------------


def ways():
    """The toys, and the same with tokens of the other sign."""
    videos = list(toy_caches())
    return [videos, [replace(one, features=-one.features, tokens=-one.tokens) for one in videos]]


def test_an_epoch_shows_each_video_in_one_look():
    showings = EpochViews(ways(), 3)
    seen = []
    for epoch in range(20):
        showings.begin_epoch(epoch)
        seen.append(tuple(showings.view))
        assert all(showings[i] is showings.views[showings.view[i]][i] for i in range(4))
    showings.begin_epoch(7)
    assert tuple(showings.view) == seen[7] and len(set(seen)) > 5
    assert [one.name for one in showings] == [one.name for one in toy_caches()]


def lvm_task(videos):
    return LvmTask(toy_config(), toy_recipe(), videos, 0, ProcessGroup(), CPU)


def test_a_memory_is_of_one_look():
    """Tokens of one view are positive where those of the other are negative."""
    task, epochs, mixed = lvm_task(EpochViews(ways(), 0)), {}, 0
    sign = np.sign(toy_caches()[0].features.astype(np.float32).sum())
    for batch, _ in stepped(task, 60):
        way, epoch = tuple(task._caches.view), task._progress.epoch
        assert epochs.setdefault(epoch, way) == way
        for row, video in enumerate(task._videos.tolist()):
            wanted = sign * (1 if way[video] == 0 else -1)
            for name in ("memory", "clip"):
                of = batch[f"{name}_features"][row][batch[f"{name}_valid"][row]]
                assert not len(of) or float(of.sum().sign()) == wanted
        mixed += len(set(way)) > 1
    assert len(epochs) > 2 and mixed


def test_a_run_goes_on_in_the_look_that_it_was_in():
    uninterrupted, first, second = (lvm_task(EpochViews(ways(), 0)) for _ in range(3))
    expected = [batch for batch, _ in stepped(uninterrupted, 40)]
    list(stepped(first, 27))
    second.restore(first.state())
    for (batch, _), wanted in zip(stepped(second, 13, begin=27), expected[27:], strict=True):
        assert all(torch.equal(batch[name], wanted[name]) for name in wanted)


def test_the_baseline_sees_every_look():
    signs = set()
    task = TubeTask(toy_config(), recipe_of().tubedetr, EpochViews(ways(), 0), 0, CPU)
    for step in range(20):
        frames = task.batch(step)["frames"]
        signs |= set(frames.flatten(1).sum(1).sign().tolist())
    assert {-1.0, 1.0} <= signs


def test_a_recipe_names_how_many_looks_there_are(tmp_path):
    recipe = recipe_of()
    views = recipe.model_copy(update={"data": recipe.data.model_copy(update={"showings": 2})})
    assert "showings" not in recipe.model_dump_json() and '"showings":2' in views.model_dump_json()
    Training(views, tmp_path / "run", tmp_path / "cache", console=Console(file=io.StringIO())).run()
    assert (tmp_path / "run" / CHECKPOINT).exists()
    held_out, seen = 1, 2 * 2
    assert len(list((tmp_path / "cache").glob("*/world-*"))) == held_out + seen


def test_each_look_leaves_its_own_entries():
    config = toy_config(context=("svd", "text", "region"), queue={"length": 2, "text_slots": 4, "regions": 3})
    task = LvmTask(config, toy_recipe(), EpochViews(ways(), 0), 0, ProcessGroup(), CPU)
    list(stepped(task, 60))
    assert {way for video, way in task._entries if video == 0} == {0, 1}
    one, other = task._entries[0, 0], task._entries[0, 1]
    assert not np.array_equal(one.region, other.region)


def test_the_manifest_and_the_stages_know_of_looks(tmp_path):
    def made(**data):
        recipe = recipe_of()
        changed = recipe.model_copy(update={"data": recipe.data.model_copy(update=data)})
        return Training(changed, tmp_path / "run", tmp_path / "cache", console=Console(file=io.StringIO()))

    filmed, shown, straight = made(), made(showings=3), made(showings=3, mirrored=False)
    assert "looks" not in filmed.card().training.data
    told = json.loads(shown.card().training.data)
    assert (told["looks"], told["showings"], told["mirrored"]) == (VIEW_VERSION, 3, True)
    assert not json.loads(straight.card().training.data)["mirrored"]
    assert len({one._make_recipe_key("backbone") for one in (filmed, shown, straight)}) == 1
    for stage in ("tubedetr", "lvm"):
        assert len({one._make_recipe_key(stage) for one in (filmed, shown, straight)}) == 3
