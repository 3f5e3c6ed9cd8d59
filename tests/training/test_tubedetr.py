"""The second stage: clips of a window with their truth."""

import math

import numpy as np
import pytest
import torch

from edge_runtime.query.decode import xyxy
from engines.errors import LvmError
from engines.network_config import GRID
from export.data.metrics import evidence_cells
from export.networks.reader import Reader
from export.training.lvm.query_sampler import SampledQuestion
from export.training.recipe import Optimiser, TubeDetrRecipe
from export.training.tubedetr import TubeTask
from tests.support.training_models import CPU, make_truth, toy_cache, toy_caches, toy_config

CELLS = GRID * GRID

TIME_FRAMES = 120


def task_of(caches=None, seed=0, network=None, **changes):
    values = {"optimiser": Optimiser(steps=9, learning_rate=1e-3), "batch": 4, "frames": 12, "stride": 4}
    recipe = TubeDetrRecipe(**{**values, **changes})
    return TubeTask(network or toy_config(), recipe, caches or toy_caches(), seed, CPU)


def rows(task, steps=30):
    for step in range(steps):
        batch = task.batch(step)
        yield from ({name: value[row] for name, value in batch.items()} for row in range(len(batch["kind"])))


def test_a_batch_is_a_function_of_seed_and_step():
    one, other = task_of(), task_of()
    one.batch(0)
    first, second = one.batch(5), other.batch(5)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(task_of(seed=1).batch(5)["frames"], first["frames"])


def test_time_is_asked_over_the_window_and_the_others_over_a_clip():
    for row in rows(task_of()):
        assert row["frames"].shape[0] == (TIME_FRAMES if int(row["kind"]) == 2 else 12)


def test_a_batch_of_windows_is_a_quarter_of_one_of_clips():
    sizes = {(len(b["kind"]), int(b["kind"][0]) == 2) for b in (task_of().batch(s) for s in range(30))}
    assert sizes == {(4, False), (1, True)}


def test_frames_are_in_order_and_padding_comes_last():
    for row in rows(task_of()):
        valid, ticks = row["frame_valid"], row["absolute_tick"]
        assert valid.tolist() == sorted(valid.tolist(), reverse=True) and valid.any()
        assert (ticks.diff() >= 0).all() and (ticks[valid].diff() > 0).all()
        assert not row["frames"][~valid].any()


def test_ticks_are_moved_together():
    for row in rows(task_of()):
        valid = row["frame_valid"]
        assert len((row["frame_tick"] - row["absolute_tick"])[valid].unique()) == 1


def test_what_is_given_is_what_the_kind_says():
    for row in rows(task_of()):
        kind = int(row["kind"])
        assert bool(row["object_valid"]) == (kind != 1) == bool(row["object_tokens"].any())
        assert bool(row["activity_valid"]) == (kind != 0) == bool(row["activity"].any())


def test_boxes_are_the_products_where_a_place_is_asked_for():
    seen = 0
    for row in rows(task_of(), 60):
        if int(row["kind"]) != 1:
            assert not row["annotated"].any()
            continue
        for step in np.flatnonzero(row["annotated"].numpy()):
            box, tick = row["box"][step].numpy(), int(row["absolute_tick"][step])
            xyxy = np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])
            there = [c.truth.box[c.truth.box_tick == tick] for c in toy_caches()]
            assert min(np.abs(one - xyxy).max(1).min() for one in there if len(one)) < 1e-6
            seen += 1
    assert seen > 20


def test_evidence_is_where_the_boxes_of_what_answers_are():
    seen = 0
    for row in rows(task_of(), 60):
        assert row["evidence"].shape == (len(row["frame_tick"]), CELLS)
        assert not row["evidence"][~row["frame_valid"]].any()
        if not row["happened"]:
            assert not row["evidence"].any()
        for step in np.flatnonzero(row["annotated"].numpy()):
            shown = evidence_cells(xyxy(row["box"][step : step + 1].numpy()))[0]
            assert (row["evidence"][step].numpy() <= shown).all() and row["evidence"][step].any()
            seen += 1
    assert seen > 20


def test_boxes_teach_which_tokens_are_relevant():
    network = toy_config(reader_candidates=20)
    task = task_of(network=network)
    batch = next(b for b in map(task.batch, range(50)) if int(b["kind"][0]) != 2 and b["evidence"].any())
    adam, losses = torch.optim.AdamW(task.module.parameters(), lr=1e-2), []
    for _ in range(20):
        loss, parts, _ = task.module(batch)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(parts["relevance"].detach()))
    assert losses[-1] < 0.85 * losses[0]
    missing, _ = Reader(network).load_state_dict(task.module.tubedetr.state_dict(), strict=False)
    assert not any(name.startswith("relevance") for name in missing)
    assert "relevance" not in task_of(network=network, guidance=0.0).module(batch)[1]


def test_a_span_lies_in_its_window():
    spans = 0
    for row in rows(task_of(), 60):
        if int(row["kind"]) == 2 and row["happened"]:
            ticks = row["absolute_tick"][row["frame_valid"]]
            assert ticks[0] <= row["span"][0] < row["span"][1] <= ticks[-1] + 5
            spans += 1
    assert spans > 3


def test_some_questions_are_about_what_never_happened():
    happened = [bool(row["happened"]) for row in rows(task_of(), 60)]
    assert 0.3 < np.mean(happened) < 0.95


def test_parts_are_finite_and_a_fixed_batch_is_learned():
    task = task_of()
    batches = [task.batch(step) for step in range(6)]
    kinds = {int(batch["kind"][0]) == 2: batch for batch in batches}
    adam = torch.optim.AdamW(task.module.parameters(), lr=3e-3)
    for batch in kinds.values():
        losses = []
        for _ in range(4):
            torch.manual_seed(0)
            loss, parts, carried = task.module(batch)
            assert not carried and all(math.isfinite(float(v.detach())) for v in parts.values())
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0]


def test_its_weights_are_the_readers_initial_ones():
    task, reader = task_of(), Reader(toy_config())
    taken = task.module.tubedetr.state_dict()
    missing, _ = reader.load_state_dict(taken, strict=False)
    assert all(
        name.startswith(("heads.places.haste", "embed.svd", "embed.rank", "relevance")) for name in missing
    )
    assert torch.equal(reader.query, taken["query"])


def test_a_clip_is_of_the_asked_window_as_when_it_is_asked():
    task, rng, lengths = task_of(), np.random.default_rng(0), []
    for _ in range(200):
        cache, question = task._draw_question(False, rng)
        ticks = cache.ticks[task._choose_frames(cache, question, False, rng)]
        assert (np.diff(ticks) == 5).all() and question.start <= ticks[0] and ticks[-1] <= question.end
        inside = int(((cache.ticks >= question.start) & (cache.ticks <= question.end)).sum())
        assert len(ticks) == min(inside, 12)
        lengths.append(len(ticks))
    assert 0.2 < np.mean([length < 12 for length in lengths]) < 0.8


def test_a_window_between_two_frames_is_the_nearer_of_its_end():
    task, cache = task_of(), toy_cache(0, seconds=20)
    for start, nearest in ((51, 55), (97, 95)):
        question = SampledQuestion(
            kind=0, instance=0, photo=0, activity=-1, start=start, end=start + 1, event=-1
        )
        assert cache.ticks[task._choose_frames(cache, question, False, np.random.default_rng(0))] == [nearest]


def test_a_video_shorter_than_a_clip_is_padded():
    task = task_of([toy_cache(0, seconds=20)], frames=40)
    found = [int(row["frame_valid"].sum()) for row in rows(task) if int(row["kind"]) != 2]
    assert 15 < max(found) <= 20 and min(found) < 15


def test_videos_in_which_nothing_happens_are_passed_over():
    quiet = toy_cache(0, seconds=20, truth=make_truth())
    task = task_of([quiet, toy_caches()[1]])
    assert len(list(rows(task, 4))) > 4


def test_if_nothing_happens_in_any_video_that_is_said():
    with pytest.raises(LvmError, match="must have events that can be asked about"):
        task_of([toy_cache(0, seconds=20, truth=make_truth())]).batch(0)
