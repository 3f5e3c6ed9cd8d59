"""Worlds of a recipe, rendered once and kept as tokens."""

import numpy as np
import pytest

from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.world import World
from export.training.data import world_pool
from export.training.data.world_pool import (
    PHOTOS_PER_PRODUCT,
    WorldPool,
    encode_worlds,
    list_training_seeds,
    list_validation_seeds,
    make_training_world,
)
from export.training.recipe import Data
from tests.support.fakes import fake_backbone
from tests.support.training_models import toy_config

DATA = Data(minutes=0.5, train_videos=2, validation_videos=3)


def plain_world(data, seed):
    plain = dict(facings=0, parked=0, walkers=0, advert=False)
    return World(WorldConfig(seed=seed, events_per_minute=6, event_seconds=(4.0, 6.0), instances=4, **plain))


def rendering():
    """A maker of worlds, and the seeds that it has made so far."""
    seeds = []

    def make(data, seed):
        seeds.append(seed)
        return plain_world(data, seed)

    return make, seeds


def caches(folder, make, *, data=DATA, digest="backbone", seeds=(7, 8), view=0, **changes):
    config = toy_config(**changes)
    engine = fake_backbone(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world_pool, "make_training_world", make)
        return list(encode_worlds(data, seeds, config, engine, folder, digest, view=view))


def test_a_world_is_rendered_once(tmp_path):
    make, seeds = rendering()
    first, second = caches(tmp_path, make), caches(tmp_path, make)
    assert seeds == [7, 8]
    assert [one.name for one in first] == ["world-7", "world-8"]
    assert all(np.array_equal(a.features, b.features) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "changed",
    [
        {"digest": "another backbone"},
        {"clip_candidates": 40},
        {"data": DATA.model_copy(update={"minutes": 1.0})},
        {"data": DATA.model_copy(update={"levels": ("L2",)})},
        {"data": DATA.model_copy(update={"knobs": {"missing_boxes": 0.2}})},
    ],
    ids=str,
)
def test_whatever_tokens_depend_on_makes_them_anew(tmp_path, changed):
    make, seeds = rendering()
    caches(tmp_path, make, seeds=[7])
    caches(tmp_path, make, seeds=[7], **changed)
    assert seeds == [7, 7]


def test_no_two_sets_of_knobs_share_a_video(tmp_path):
    make, seeds = rendering()
    sets = [{}, {"missing_boxes": 0.2}, {"missing_boxes": 0.3}, {"label_noise": 0.2}, {"shake_px": 4.0}]
    for knobs in (*sets, *sets):
        caches(tmp_path, make, seeds=[7], data=DATA.model_copy(update={"knobs": knobs}))
    assert seeds == [7] * len(sets)


def test_more_videos_use_those_that_there_are(tmp_path):
    make, seeds = rendering()
    caches(tmp_path, make, seeds=[7])
    caches(tmp_path, make, seeds=[7, 8], data=DATA.model_copy(update={"train_videos": 5}))
    assert seeds == [7, 8]


def test_a_video_has_its_worlds_frames_truth_and_photos(tmp_path):
    (cache,) = caches(tmp_path, plain_world, seeds=[7])
    config, world = toy_config(), plain_world(DATA, 7)
    assert cache.clips == 3 and len(cache.tokens) == 30
    frame = world.frame(12.0, (32, 32))[None]
    np.testing.assert_allclose(
        cache.tokens[12], fake_backbone(config)({"image": frame})["tokens"][0], atol=2e-3
    )
    assert cache.objects.shape[:2] == (4, PHOTOS_PER_PRODUCT)
    assert len(cache.truth) == sum(one.start >= 0 and one.end <= 30 for one in world.events(0, 30))


def test_training_and_validation_share_no_world():
    assert len(list_training_seeds(DATA)) == 2 and len(list_validation_seeds(DATA)) == 3
    many = DATA.model_copy(update={"train_videos": 5000, "validation_videos": 5000})
    assert not set(list_training_seeds(many)) & set(list_validation_seeds(many))


def test_pictures_of_the_backbone_are_of_other_worlds_than_the_videos():
    first = set(range(DATA.first_seed, DATA.first_seed + 5000))
    assert not first & set(list_training_seeds(DATA))


def test_the_world_of_a_seed_is_always_the_same_and_its_level_differs():
    data = Data(levels=("L1", "L2", "L3"))
    configs = [make_training_world(data, seed).config for seed in range(8)]
    assert configs == [make_training_world(data, seed).config for seed in range(8)]
    assert len({(one.shake_px, one.concurrent) for one in configs}) > 1


def test_all_worlds_have_the_knobs_that_are_turned():
    data = Data(
        levels=("L1", "L3"), crowded=0.5, knobs={"zipf": 1.5, "object_size": (0.05, 0.08), "activities": 4}
    )
    for seed in range(8):
        config, plain = (
            make_training_world(one, seed).config for one in (data, data.model_copy(update={"knobs": {}}))
        )
        assert config == plain.model_copy(update=data.knobs)


def test_worlds_of_two_activities_are_crowded_by_two_hands():
    data = Data(levels=("L1",), crowded=1.0, knobs={"activities": 2})
    assert {make_training_world(data, seed).config.concurrent for seed in range(4)} == {2}
    assert make_training_world(data, 3).events(0.0, 120.0)


def test_knobs_that_spoil_annotations_are_none_of_what_validation_is_judged_by():
    data = Data(knobs={"missing_boxes": 0.2, "label_noise": 0.1, "shake_px": 4.0})
    assert data.for_validation() == Data(knobs={"shake_px": 4.0})


def test_a_pool_makes_worlds_when_they_are_asked_for():
    pool = WorldPool(Data(), [5, 6], keep=1)
    assert len(pool) == 2 and pool[1].config.seed == 6 and pool[1] is pool[1]
