"""Outlines: boxes of single tokens, taught by all videos at once."""

import numpy as np
import torch

from export.data.metrics import evidence_cells
from export.networks.reader import Reader
from export.training.loop.trainer import BOX_HEAD_SCALE, make_reader_groups
from export.training.lvm.losses import LabelledTokens, box_regression_loss
from tests.support.training_models import make_truth, toy_cache, toy_caches, toy_config


def drawn(caches, seed=0):
    return LabelledTokens(caches).draw(np.random.default_rng(seed))


def test_what_is_drawn_are_tokens_on_their_products():
    one = drawn(toy_caches())
    corners = np.concatenate(
        [
            one["single_box"][:, :2] - one["single_box"][:, 2:] / 2,
            one["single_box"][:, :2] + one["single_box"][:, 2:] / 2,
        ],
        1,
    )
    assert evidence_cells(corners)[np.arange(len(corners)), one["single_cell"]].all()
    known = np.concatenate([cache.features[cache.event >= 0] for cache in toy_caches()]).astype(np.float32)
    for token in one["single_features"][:20]:
        assert (known == token).all(1).any()


def test_all_videos_are_drawn_from_and_every_draw_is_another():
    caches = toy_caches()
    both, rng = LabelledTokens(caches), np.random.default_rng(0)
    first, second = both.draw(rng), both.draw(rng)
    assert not np.array_equal(first["single_features"], second["single_features"])
    for cache in caches:
        own = cache.features[cache.event >= 0].astype(np.float32)
        assert any((own == token).all(1).any() for token in first["single_features"][:100])


def test_without_boxes_nothing_is_taught():
    quiet = drawn([toy_cache(0, seconds=20, truth=make_truth())])
    assert all(len(array) == 0 for array in quiet.values())
    batch = {name: torch.from_numpy(array) for name, array in quiet.items()}
    loss = box_regression_loss(Reader(toy_config()).heads.places, batch)
    assert float(loss.detach()) == 0
    loss.backward()


def test_tokens_learn_the_boxes_of_what_they_show():
    torch.manual_seed(0)
    places, tokens, rng = (
        Reader(toy_config()).heads.places,
        LabelledTokens(toy_caches()),
        np.random.default_rng(0),
    )
    adam, found = torch.optim.AdamW(places.parameters(), lr=3e-3), []
    for _ in range(60):
        batch = {name: torch.from_numpy(array) for name, array in tokens.draw(rng).items()}
        loss = box_regression_loss(places, batch)
        adam.zero_grad()
        loss.backward()
        adam.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.6 * found[0]


def test_every_parameter_is_in_one_group():
    reader = Reader(toy_config())
    groups = make_reader_groups(reader)
    assert [group["scale"] for group in groups] == [1.0, BOX_HEAD_SCALE]
    found = [id(one) for group in groups for one in group["params"]]
    assert sorted(found) == sorted(map(id, reader.parameters()))
    assert set(map(id, groups[1]["params"])) == set(map(id, reader.heads.places.outline.parameters()))
