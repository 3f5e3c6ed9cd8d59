"""MeMSVD in a detection head: exactness of its bases, what attention to a bank is, and that they compose."""

import dataclasses

import numpy as np
import pytest
import torch

from export.papers.detection.average_precision import Ranking
from export.papers.detection.bank import BankAttention, make_newest_rows, make_window_rows
from export.papers.detection.head import DetectionHead, HeadRecipe
from export.papers.detection.memsvd import (
    Basis,
    ForgettingSVD,
    GatedProjection,
    ProbedProjection,
    WindowSVD,
    make_exact_basis,
    make_randomised_basis,
)
from export.papers.detection.train import evaluate_head, train_head
from tests.support.detection_videos import ACTIVITIES, WIDTH, assert_knows_only_the_past, toy_video

PARTS = {
    "bank": lambda: BankAttention(WIDTH, make_newest_rows(9)),
    "window": lambda: BankAttention(WIDTH, make_window_rows(20.0), layers=1, inner=8),
    "svd": lambda: WindowSVD(4, 30.0),
    "randomised": lambda: WindowSVD(4, 30.0, randomised=True),
    "online": lambda: ForgettingSVD(4, 0.95),
    "gated": lambda: GatedProjection(ForgettingSVD(4, 0.95), WIDTH),
    "probed": lambda: ProbedProjection(ForgettingSVD(4, 0.95), WIDTH),
}


def in_double(seed=0):
    video = toy_video(seed)
    return dataclasses.replace(video, features=video.features.astype(np.float64))


def projectors(part, video):
    rows = part.watch(video)(np.arange(len(video))).rows
    return rows.transpose(1, 2) @ rows


def test_offline_is_online_without_forgetting_and_truncation():
    video = in_double()
    offline = projectors(WindowSVD(WIDTH, seconds=1e6), video)
    online = projectors(ForgettingSVD(WIDTH, forgetting=1.0), video)
    assert (offline - online).abs().max() < 1e-10


def test_forgetting_is_the_svd_of_rows_weighted_by_their_age():
    video, clip = in_double(), 3
    rows = [0.9 ** (clip - 1 - c) * video.features[c][video.valid[c]] for c in range(clip)]
    expected = make_exact_basis(np.concatenate(rows), WIDTH)
    got = projectors(ForgettingSVD(WIDTH, forgetting=0.9), video)[clip]
    assert np.abs(got.numpy() - expected.T @ expected).max() < 1e-10


def test_the_randomised_basis_spans_what_the_exact_one_does():
    rng = np.random.default_rng(0)
    planted = np.linalg.qr(rng.normal(size=(64, 5)))[0].T  # (5, 64)
    rows = rng.normal(size=(300, 5)) @ planted * 4 + 0.1 * rng.normal(size=(300, 64))
    exact, found = make_exact_basis(rows, 5), make_randomised_basis(rows, 5)
    assert np.linalg.svd(exact @ found.T, compute_uv=False).min() > 1 - 1e-9
    assert (make_randomised_basis(rows, 5) == found).all()
    few = rows[:9]
    np.testing.assert_array_equal(make_randomised_basis(few, 5), make_exact_basis(few, 5))


def test_many_rows_in_single_precision_have_the_basis_that_they_have_in_double():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(90, 24)) * np.linspace(5, 0.5, 24)
    single, double = (make_exact_basis(rows.astype(kind), 6) for kind in (np.float32, np.float64))
    assert single.dtype == np.float32
    assert np.abs(single.T @ single - double.T @ double).max() < 1e-5
    flat = np.repeat(rows[:, :3], 8, axis=1).astype(np.float32)
    assert len(make_exact_basis(flat, 6)) == 3  # as many as there are directions


def test_the_projection_adds_what_lies_in_the_past_and_nothing_else():
    video = in_double()
    part = WindowSVD(3, 10.0)
    clips = np.array([0, 40])
    h = torch.from_numpy(video.features[clips])
    past = part.watch(video)(clips)
    once = part(h, torch.from_numpy(video.valid[clips]), past)
    assert not once[0].any()  # nothing was seen before the first clip
    assert torch.allclose(part(once, None, past), once, atol=1e-13)
    rows = video.features[35:40][video.valid[35:40]]
    basis = np.linalg.svd(rows)[2][:3]
    np.testing.assert_allclose(once[1].numpy(), video.features[40] @ basis.T @ basis, atol=1e-12)


def test_attention_is_the_same_with_the_bank_projected_and_with_the_regions_taken_to_it():
    torch.manual_seed(0)
    part = BankAttention(WIDTH, make_newest_rows(9)).eval()
    for layer in part.layers:
        torch.nn.init.normal_(layer.out.weight)
    video, clips = toy_video(), np.array([0, 1, 30])
    h, past = torch.from_numpy(video.features[clips]), part.watch(video)(clips)
    added = part(h, None, past)
    published = h
    for layer in part.layers:  # keys and values of all rows, as the papers compute it
        scores = layer.query(published) @ layer.key(past.rows).transpose(1, 2) * WIDTH**-0.5
        share = torch.softmax(scores.masked_fill(~past.valid[:, None], -1e4), dim=-1)
        seen = layer.out(torch.relu(layer.norm(share @ layer.value(past.rows))))
        published = published + seen * past.valid.any(1)[:, None, None]
    torch.testing.assert_close(published - h, added)
    assert not added[0].any() and added[1:].abs().min() > 0


@pytest.mark.parametrize("name", PARTS)
def test_a_memory_knows_only_the_past(name):
    assert_knows_only_the_past(PARTS[name]())


def test_a_new_head_with_a_bank_says_what_it_says_without():
    video, clips = toy_video(), np.arange(10)
    torch.manual_seed(0)
    head = DetectionHead(WIDTH, ACTIVITIES, [PARTS["bank"]()]).eval()
    h, valid = torch.from_numpy(video.features[clips]), torch.from_numpy(video.valid[clips])
    pasts = [before(clips) for before in head.watch(video)]
    torch.testing.assert_close(head(h, valid, pasts), head.classifier(head.norm(h)))


def test_a_gate_opens_from_nothing_to_the_whole_projection():
    video, clips = toy_video(), np.array([40])
    plain = WindowSVD(3, 10.0)
    gated = GatedProjection(plain, WIDTH)
    h, past = torch.from_numpy(video.features[clips]), gated.watch(video)(clips)
    assert not gated(h, None, past).any()
    torch.nn.init.ones_(gated.gate)
    assert torch.equal(gated(h, None, past), plain(h, None, past))


def test_probes_say_how_far_the_past_explains_each_of_them_whatever_the_region():
    """Of what was seen and does not look like the region, its projection is silent; a probe is not."""
    part = ProbedProjection(WindowSVD(2, 10.0), WIDTH, probes=3)
    seen, unseen = torch.eye(WIDTH)[:2], torch.eye(WIDTH)[2:3]
    with torch.no_grad():
        part.probes.copy_(torch.stack([5 * seen[0], seen[1] + unseen[0], unseen[0]]))
        part.inner.weight.copy_(torch.eye(WIDTH, 3))
        part.inner.bias.zero_()
        part.outer.weight.copy_(torch.eye(WIDTH))
    region = 4 * unseen[None]  # (1, 1, d)
    past = Basis(seen[None])
    assert not part.projection(region, None, past).any()
    torch.testing.assert_close(part(region, None, past)[0, 0, :4], torch.tensor([1, 0.5, 0, 0]))
    assert not part(region, None, Basis(torch.zeros(1, 2, WIDTH))).any()


def test_memories_compose_and_learn_what_only_the_past_tells():
    videos = [toy_video(seed) for seed in range(6)]
    found = []
    for parts in ([], [WindowSVD(4, 2.0), BankAttention(WIDTH, make_window_rows(2.0), layers=1)]):
        torch.manual_seed(0)
        head = DetectionHead(WIDTH, ACTIVITIES, parts)
        train_head(
            head, videos[:4], HeadRecipe(epochs=30, batch=32, learning_rate=1e-2, parts_learning_rate=None)
        )
        found.append(Ranking(evaluate_head(head, videos[4:])).average_precisions()[1:])
    assert found[1].min() > found[0].max() + 0.1
