"""Pictures with labels for each cell, and the backbone that learns from them."""

import math

import numpy as np
import pytest
import torch

from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.world import World
from export.data.metrics import EVIDENCE_OVERLAP, cell_shares
from export.training.backbone.task import BackboneTrainer
from export.training.data.product_photos import PhotoSet
from export.training.data.scenes import IGNORE_INDEX, add_pasted_products, draw_scenes, label_cells
from tests.support.products import product_folder
from tests.support.training_models import toy_config

C = 10
SIZE = 56


@pytest.fixture(scope="module")
def worlds():
    return [World(WorldConfig(seed=seed, events_per_minute=6, event_seconds=(4.0, 6.0))) for seed in (1, 2)]


def _grey(instance):
    return 10 * instance + 7


class Watched:
    """A world that notes the moments it was asked for."""

    def __init__(self, world):
        self._world, self.config, self.moments = world, world.config, []

    def frame(self, t, size):
        self.moments.append(t)
        return self._world.frame(t, size)

    def instance_image(self, instance, size, *, view=0):
        """A photo that says by its colour of which product it is."""
        return np.full((*size, 3), _grey(instance), np.uint8)

    def __getattr__(self, name):
        return getattr(self._world, name)


def drawn(worlds, seed=0, **changes):
    network = toy_config(image_size=SIZE, activities=C)
    values = {"frames_a_world": 4, "photos_a_world": 0, "inside_events": 1.0, "network": network}
    return draw_scenes(list(worlds), np.random.default_rng(seed), **{**values, **changes})


def test_a_batch_has_the_pictures_it_should(worlds):
    scenes = drawn(worlds)
    assert scenes.frames.shape == (8, SIZE, SIZE, 3) and scenes.frames.dtype == np.uint8
    assert scenes.activity.shape == scenes.crop.shape == (8, 49)
    assert scenes.crops.shape[1:] == (SIZE, SIZE, 3)


def test_equal_generators_draw_equal_pictures(worlds):
    one, other = drawn(worlds), drawn(worlds)
    assert np.array_equal(one.frames, other.frames) and np.array_equal(one.crop, other.crop)
    assert not np.array_equal(one.frames, drawn(worlds, seed=1).frames)


def test_cells_are_labelled_as_the_worlds_truth_says(worlds):
    """Cell by cell and product by product, against the overlap with each active box."""
    watched = [Watched(world) for world in worlds]
    scenes = drawn(watched)
    moments = [(world, t) for world in watched for t in world.moments]
    busy = 0
    for row, (world, t) in enumerate(moments):
        active = world.truth(t).active
        for cell in range(49):
            shares = [cell_shares(one.box)[cell] for one in active]
            most = max(shares, default=0.0)
            said = scenes.activity[row, cell]
            if most == 0:
                assert said == C
            elif most < EVIDENCE_OVERLAP:
                assert said == IGNORE_INDEX
            else:
                assert said == active[int(np.argmax(shares))].activity
                busy += 1
    assert busy > 8


def test_the_photo_of_a_cell_is_of_the_product_that_it_shows(worlds):
    watched = Watched(worlds[0])
    scenes = drawn([watched])
    seen = 0
    for row, t in enumerate(watched.moments):
        shares = {one.instance: cell_shares(one.box) for one in watched.truth(t).active}
        for cell in range(49):
            instance, share = max(((i, s[cell]) for i, s in shares.items()), key=lambda one: one[1])
            if share >= EVIDENCE_OVERLAP:
                assert _grey(instance) in scenes.crops[scenes.crop[row, cell]]
                seen += 1
    assert seen > 4


def test_where_two_products_share_a_cell_the_larger_part_counts():
    cell = 1 / 7
    big, small = (0.0, 0.0, 0.9 * cell, cell), (0.7 * cell, 0.0, 2 * cell, 0.7 * cell)
    for shown in ([(0, 3, big), (1, 5, small)], [(1, 5, small), (0, 3, big)]):
        activity, crop = label_cells(shown, C)
        assert (activity[0], crop[0]) == (3, 0) and (activity[1], crop[1]) == (5, 1)


def test_pictures_are_labelled_as_they_are_annotated(worlds):
    """The same pictures; where a box is missing nothing is said to be done, and some names are wrong."""
    plain = dict(seed=1, events_per_minute=6, event_seconds=(4.0, 6.0))
    right = drawn([World(WorldConfig(**plain))], frames_a_world=24)
    bare = drawn([World(WorldConfig(**plain, missing_boxes=1.0))], frames_a_world=24)
    assert np.array_equal(right.frames, bare.frames)
    assert (bare.activity == C).all() and (bare.crop == IGNORE_INDEX).all() and not len(bare.crops)
    called = drawn([World(WorldConfig(**plain, label_noise=1.0))], frames_a_world=24)
    handled = (right.activity >= 0) & (right.activity < C)
    assert handled.any() and (called.activity[handled] != right.activity[handled]).all()
    assert (
        np.array_equal(called.crop, right.crop)
        and (called.activity[~handled] == right.activity[~handled]).all()
    )


def test_a_cell_that_is_hardly_touched_is_open():
    activity, crop = label_cells([(0, 3, (0.0, 0.0, 1 / 7 + 0.01, 1 / 7))], C)
    assert activity[0] == 3 and activity[1] == IGNORE_INDEX and activity[2] == C
    assert crop[1] == IGNORE_INDEX


def test_where_nothing_is_done_every_cell_says_so():
    activity, crop = label_cells([], C)
    assert (activity == C).all() and (crop == IGNORE_INDEX).all()


def test_pasted_products_are_asked_for_and_what_is_done_with_them_is_open(worlds, tmp_path):
    photos = PhotoSet(product_folder(tmp_path / "products", 3), (), stored_side=48)
    scenes = drawn(worlds)
    both = add_pasted_products(scenes, photos, np.array([0, 2]), np.random.default_rng(0))
    assert len(both.frames) == len(scenes.frames) + 2 and len(both.crops) == len(scenes.crops)
    for place in range(2):
        row, asked = len(scenes.frames) + place, len(scenes.crops) + place
        shown = both.crop[row] == asked
        assert shown.any() and (both.activity[row][shown] == IGNORE_INDEX).all()
        changed = (both.frames[row] != scenes.frames[:, None]).any((-1, -2, -3)).all()
        assert changed


# -- the backbone --------------------------------------------------------------------------------------------


def tensors(scenes, photos=None, labels=()):
    images = np.zeros((0, SIZE, SIZE, 3), np.uint8) if photos is None else photos
    arrays = {**vars(scenes), "photos": images, "product": np.array(labels, np.int64)}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.fixture
def trainer():
    torch.manual_seed(0)
    return BackboneTrainer(toy_config(image_size=SIZE, activities=C), 3, 0.07)


def test_a_fixed_batch_is_learned(trainer, worlds, tmp_path):
    scenes = drawn(worlds, frames_a_world=2)
    photos = PhotoSet(product_folder(tmp_path / "products", 3), (), stored_side=48)
    rng = np.random.default_rng(0)
    images, labels = photos.batch(rng, 2, 2, size=SIZE)
    batch = tensors(add_pasted_products(scenes, photos, labels[::2], rng), images, labels)
    adam = torch.optim.AdamW(trainer.parameters(), lr=2e-3)
    losses = []
    for _ in range(5):
        loss, parts, carried = trainer(batch)
        assert not carried and {"activity", "identity", "product", "photos"} < parts.keys()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_open_cells_teach_nothing(trainer, worlds):
    batch = tensors(drawn(worlds, frames_a_world=1))
    logits = trainer.activity.weight
    batch["activity"][:] = IGNORE_INDEX
    batch["crop"][:] = IGNORE_INDEX
    loss, _, _ = trainer(batch)
    loss.backward()
    assert float(loss.detach()) == 0 and (logits.grad is None or not logits.grad.any())


def test_still_cells_weigh_as_much_as_busy_ones(trainer):
    """One busy cell of 49 against all the others."""
    torch.nn.init.zeros_(trainer.activity.weight)
    torch.nn.init.zeros_(trainer.activity.bias)
    target = torch.full((1, 49), C)
    target[0, 5] = 2
    found = trainer._activity(torch.randn(1, 49, 16), target)
    assert float(found.detach()) == pytest.approx(2 * math.log(C + 1), rel=1e-5)


def test_pictures_without_any_product_are_no_accident(trainer):
    """No cell shows a product and there is no photo: the mean over nothing must not be NaN."""
    empty = np.zeros((0, SIZE, SIZE, 3), np.uint8)
    frames = np.random.default_rng(0).integers(0, 255, (2, SIZE, SIZE, 3), np.uint8)
    batch = {
        "frames": torch.from_numpy(frames),
        "activity": torch.full((2, 49), C),
        "crop": torch.full((2, 49), IGNORE_INDEX),
        "crops": torch.from_numpy(empty),
        "photos": torch.from_numpy(empty),
        "product": torch.zeros(0, dtype=torch.int64),
    }
    loss, _, _ = trainer(batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in trainer.parameters() if p.grad is not None)
