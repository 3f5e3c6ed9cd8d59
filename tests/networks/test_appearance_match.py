"""The reader starts from what looks alike, and what is learned corrects it."""

import numpy as np
import pytest
import torch

from edge_runtime.query.matching import TEMPERATURE, match_appearance
from edge_runtime.query.photo_mosaic import take_whole
from export.networks.appearance_match import AppearanceMatch
from export.networks.reader import Reader
from tests.support.export_models import small_config

CONFIG = small_config(backbone="mobilenetv3_small_050", image_size=224, appearance=16, reader_candidates=40)
TOKENS, WIDTH = CONFIG.reader_tokens, CONFIG.appearance


def make_memory(seed, valid=1.0):
    rng = np.random.default_rng(seed)
    features = 5 + rng.normal(size=(TOKENS, CONFIG.d_backbone)).astype(np.float32)
    ticks = np.repeat(np.arange(TOKENS // 2, dtype=np.int32) * 5, 2)[:TOKENS]
    return torch.from_numpy(features)[None], torch.from_numpy(ticks)[None], torch.rand(1, TOKENS) < valid


def make_photo(features, shown):
    """Return a photo (1, 49, d_b) in whose appearance token `shown` is seen; its other numbers are noise."""
    photo = 5 + torch.randn(1, 49, CONFIG.d_backbone)
    photo[..., :WIDTH] = features[:, shown, None, :WIDTH] + 0.3 * torch.randn(1, 49, WIDTH)
    return photo


def ask(reader, features, ticks, valid, photo, present=True):
    steps = torch.arange(CONFIG.query_steps, dtype=torch.int32)[None]
    with torch.inference_mode():
        return reader.eval()(
            memory_features=features,
            memory_tick=ticks * valid,
            memory_cell=torch.zeros_like(ticks),
            memory_valid=valid,
            object_tokens=photo,
            object_valid=torch.tensor([present]),
            activity=torch.zeros(1, CONFIG.activities),
            activity_valid=torch.tensor([False]),
            query_tick=steps,
            query_valid=torch.ones_like(steps, dtype=torch.bool),
            svd_basis=torch.zeros(1, CONFIG.summary_rank, CONFIG.d_backbone),
            svd_strength=torch.zeros(1, CONFIG.summary_rank),
        )


@pytest.mark.parametrize("seed", range(6))
def test_cosines_are_those_of_the_runtime(seed):
    torch.manual_seed(seed)
    features, ticks, valid = make_memory(seed, 0.7)
    photo = make_photo(features, 3)
    match = AppearanceMatch(WIDTH, 8)
    cosine = match.compare(features, valid, photo, torch.tensor([True]))
    moments = match.point(cosine, ticks, valid)[0, valid[0]].detach().numpy() * TEMPERATURE
    wanted = match_appearance(
        features[0, :, :WIDTH].numpy(),
        ticks[0].numpy().astype(np.int64),
        valid[0].numpy(),
        take_whole(photo[0].numpy())[:, :WIDTH],
    )
    of_moment = dict(zip(wanted.ticks.tolist(), wanted.similarity, strict=True))
    np.testing.assert_allclose(moments, [of_moment[t] for t in ticks[0, valid[0]].tolist()], atol=1e-5)


@pytest.mark.parametrize("shown", [0, 17, TOKENS - 1])
def test_an_untrained_reader_points_to_what_looks_alike(shown):
    torch.manual_seed(shown)
    features, ticks, valid = make_memory(shown)
    reader = Reader(CONFIG)
    torch.nn.init.constant_(reader.match.token.weight, 1.0)  # relevance sees the similarity
    torch.nn.init.constant_(reader.relevance.hidden.weight, 0.1)
    torch.nn.init.constant_(reader.relevance.score.weight, 1.0)
    answer = ask(reader, features, ticks, valid, make_photo(features, shown))
    assert ticks[0, answer.pointer_logits.argmax()] == ticks[0, shown]


def test_without_a_photo_nothing_is_matched():
    torch.manual_seed(0)
    features, ticks, valid = make_memory(0)
    photo, reader = make_photo(features, 5), Reader(CONFIG)
    torch.nn.init.normal_(reader.match.token.weight)
    before = [ask(reader, features, ticks, valid, photo, present) for present in (True, False)]
    torch.nn.init.normal_(reader.match.token.weight)
    reader.match.weight.data.fill_(0.2)
    after = [ask(reader, features, ticks, valid, photo, present) for present in (True, False)]
    assert (after[0].pointer_logits - before[0].pointer_logits).abs().max() > 0.1
    torch.testing.assert_close(after[1].pointer_logits, before[1].pointer_logits)


def test_absent_tokens_change_nothing():
    torch.manual_seed(1)
    features, ticks, valid = make_memory(1, 0.5)
    other = torch.where(valid[..., None], features, 100 * torch.randn_like(features))
    photo, match = make_photo(features, 4), AppearanceMatch(WIDTH, 8)
    points = [
        match.point(match.compare(each, valid, photo, torch.tensor([True])), ticks, valid)
        for each in (features, other)
    ]
    torch.testing.assert_close(points[0][valid], points[1][valid])


def test_a_network_without_an_appearance_matches_nothing():
    assert Reader(small_config()).match is None
