"""Visits, questions and memories between the steps of the third stage."""

import numpy as np
import pytest
import torch

from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import Sampler, make_sampler
from edge_runtime.memory.version import empty_version
from engines.errors import LvmError
from engines.spec import Array
from export.training.loop.distributed import ProcessGroup
from export.training.lvm.query_sampler import KINDS
from export.training.lvm.task import LvmTask
from tests.support.fakes import fake_backbone
from tests.support.training_models import (
    CPU,
    make_truth,
    toy_cache,
    toy_caches,
    toy_config,
    toy_recipe,
    toy_task,
)


def stepped(task, steps, begin=0):
    """Batches of `steps`, each taken through the module and written back."""
    for step in range(begin, begin + steps):
        batch = task.batch(step)
        torch.manual_seed(step)
        with torch.no_grad():
            memory = task.module(batch)[2]
        task.update(step, memory)
        yield batch, memory


def stamps(memory, row):
    """(tick, cell) of the valid slots."""
    valid = memory["valid"][row]
    return list(zip(memory["tick"][row][valid].tolist(), memory["cell"][row][valid].tolist(), strict=True))


def test_a_memory_never_holds_a_token_twice_and_is_in_order_of_time():
    for _, memory in stepped(toy_task(), 40):
        for row in range(2):
            found = stamps(memory, row)
            assert found == sorted(set(found))


def test_empty_slots_come_last():
    for _, memory in stepped(toy_task(toy_config(memory_tokens=120)), 4):
        for valid in memory["valid"].tolist():
            assert valid == sorted(valid, reverse=True)


def test_what_a_batch_remembers_is_what_was_written_for_its_video():
    task = toy_task()
    written = {}
    for step in range(20):
        batch = task.batch(step)
        for row, video in enumerate(task._videos.tolist()):
            if video in written and batch["memory_valid"][row].any():
                assert torch.equal(batch["memory_tick"][row], written[video])
        with torch.no_grad():
            memory = task.module(batch)[2]
        task.update(step, memory)
        written |= {video: memory["tick"][row] for row, video in enumerate(task._videos.tolist())}


def test_a_new_epoch_begins_with_empty_memories():
    task = toy_task()
    starts = [
        (step, task._progress.epoch)
        for step, (batch, _) in enumerate(stepped(task, 60))
        if not batch["memory_valid"].any()
    ]
    assert {epoch for _, epoch in starts} >= {0, 1}


def test_a_token_knows_its_event():
    task = toy_task()
    for _, memory in stepped(task, 10):
        for row, video in enumerate(task._videos.tolist()):
            valid = memory["valid"][row].numpy()
            tick, cell = memory["tick"][row].numpy()[valid], memory["cell"][row].numpy()[valid]
            truth = toy_caches()[video].truth.find_evidence(tick, cell)
            assert memory["event"][row].numpy()[valid].tolist() == truth.tolist()


@pytest.mark.parametrize("past", [0, 1, 2])
def test_p_past_questions_of_a_video_are_asked_again(past):
    task = toy_task(past_queries=past)
    counts = []
    for batch, _ in stepped(task, 24):
        counts += torch.bincount(batch["slot"], minlength=2).tolist()
    assert max(counts) == 1 + past


def test_what_is_asked_again_was_asked_last():
    task = toy_task(past_queries=2, batch=1)
    asked = []  # (video, start, end, kind) as they were new
    for batch, _ in stepped(task, 30):
        video = int(task._videos[0])
        rows = [(video, *r) for r in zip(*(batch[n].tolist() for n in ("start", "end", "kind")), strict=True)]
        if len(rows) > 2:
            assert rows[-2:] == [one for one in asked if one[0] == video][-2:]
            asked.append(rows[0])
        elif batch["object_valid"].any() or batch["activity_valid"].any():
            asked.append(rows[0])


def test_questions_are_about_what_was_shown():
    """Events that are half over in a visited clip, or in what the recency buffer shows of the next one."""
    task = toy_task(negatives=0.0, past_queries=1)
    shown = 0
    for batch, _ in stepped(task, 30):
        for row, video in enumerate(task._videos.tolist()):
            truth, seen = toy_caches()[video].truth, task._progress.visited[video]
            recent = batch["recent_tick"][row][batch["recent_valid"][row]]
            for one in task._progress.past[video]:
                half = (truth.start[one.event] + truth.end[one.event]) // 2
                in_clip = seen[min(half // 50, 11)]
                assert in_clip or half < recent.max() + 50
                shown += not in_clip
    assert shown, "the recency buffer is asked about too"


def test_truth_of_a_question_is_that_of_the_video():
    task = toy_task(new_queries=4)
    kinds = set()
    for batch, _ in stepped(task, 15):
        for row in range(len(batch["kind"])):
            cache = toy_caches()[int(task._videos[batch["slot"][row]])]
            events = np.flatnonzero(batch["matching"][row].numpy())
            assert bool(batch["happened"][row]) == bool(len(events))
            told = np.flatnonzero(batch["activities"][row].numpy()).tolist()
            assert told == sorted(set(cache.truth.activity[events].tolist()))
            if not len(events):
                continue
            kinds.add(int(batch["kind"][row]))
            start, end = batch["span"][row].tolist()
            assert (start, end) in {(int(cache.truth.start[e]), int(cache.truth.end[e])) for e in events}
    assert kinds == {0, 1, 2}


def test_boxes_of_a_place_are_at_the_ticks_of_frames():
    task = toy_task(new_queries=6)
    boxes = 0
    for batch, _ in stepped(task, 10):
        for row in np.flatnonzero(batch["kind"].numpy() == KINDS.index("object")):
            cache = toy_caches()[int(task._videos[batch["slot"][row]])]
            for tick, box in zip(batch["box_tick"][row].tolist(), batch["box"][row], strict=True):
                if tick < 0:
                    continue
                boxes += 1
                assert tick in cache.ticks
                at = cache.truth.box[cache.truth.box_tick == tick]
                centre, size = box[:2].numpy(), box[2:].numpy()
                xyxy = np.concatenate([centre - size / 2, centre + size / 2])
                assert np.abs(at - xyxy).max(1).min() < 1e-6
    assert boxes > 0


def test_a_long_event_has_boxes_to_its_end():
    """Boxes come five times a second; a minute of them must not push each other out."""
    cache = toy_cache(0, seconds=60, truth=make_truth((1, 2, 0, 300)))
    recipe = toy_recipe(batch=1, negatives=0.0, new_queries=8, curriculum_minutes=(1.0,))
    task = LvmTask(toy_config(), recipe, [cache], 0, ProcessGroup(), CPU)
    last = max(int(batch["box_tick"].max()) for batch, _ in stepped(task, 6))
    assert last == 295


def test_batches_go_on_where_they_were_left():
    uninterrupted, first, second = toy_task(), toy_task(), toy_task(seed=0)
    expected = [batch for batch, _ in stepped(uninterrupted, 30)]
    list(stepped(first, 17))
    second.restore(first.state())
    for batch, wanted in zip((b for b, _ in stepped(second, 13, begin=17)), expected[17:], strict=True):
        assert batch.keys() == wanted.keys()
        assert all(torch.equal(batch[name], wanted[name]) for name in wanted)


def test_a_state_is_not_changed_by_later_steps():
    task = toy_task()
    list(stepped(task, 5))
    state = task.state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    list(stepped(task, 5, begin=5))
    assert all(torch.equal(state[name], before[name]) for name in before)


@pytest.mark.parametrize("name", ["random", "fifo", "svd-novelty"])
def test_samplers_that_learn_nothing_keep_what_the_runtime_keeps(name):
    cache, config = toy_caches()[0], toy_config()
    recipe = toy_recipe(sampler=name, batch=1, chronological=1.0)
    task = LvmTask(config, recipe, [cache], 0, ProcessGroup(), CPU)
    runtime = Ingest(config, fake_backbone(config), make_sampler(name, None), empty_version(config))
    try:
        for clip, (_, memory) in enumerate(stepped(task, cache.clips)):
            part = slice(10 * clip, 10 * clip + 10)
            version = runtime.push_features(cache.tokens[part], (cache.ticks[part] / 5).tolist())
            kept = version.memory.tokens()
            expected = list(zip(kept.tick.tolist(), kept.cell.tolist(), strict=True))
            assert stamps(memory, 0) == expected
    finally:
        runtime.close()


def test_the_learned_sampler_keeps_what_the_runtime_keeps():
    """In evaluation and in the order of time: training sees the memories that a device will have."""
    cache, config = toy_caches()[1], toy_config()
    task = LvmTask(config, toy_recipe(batch=1, chronological=1.0), [cache], 0, ProcessGroup(), CPU)
    task.module.eval()

    def scored(memory, clip, novelty) -> Array:
        both = {
            "features": np.concatenate([memory.features, clip.features]),
            "valid": np.concatenate([memory.valid, np.ones(len(clip), bool)]),
            "cell": np.concatenate([memory.cell, clip.cell]),
            "novelty": novelty,
        }
        with torch.no_grad():
            return task.module.sampler(**{k: torch.from_numpy(v)[None] for k, v in both.items()})[0].numpy()

    runtime = Ingest(
        config, fake_backbone(config), Sampler("it", scored, prefilters=True), empty_version(config)
    )
    try:
        for clip, (_, memory) in enumerate(stepped(task, cache.clips)):
            part = slice(10 * clip, 10 * clip + 10)
            kept = runtime.push_features(cache.tokens[part], (cache.ticks[part] / 5).tolist()).memory.tokens()
            assert stamps(memory, 0) == list(zip(kept.tick.tolist(), kept.cell.tolist(), strict=True))
    finally:
        runtime.close()


def test_the_recency_buffer_is_of_the_clip_that_comes_next():
    task = toy_task(chronological=1.0)
    shown = 0
    for batch, memory in stepped(task, 20):
        for row in range(2):
            recent = batch["recent_tick"][row][batch["recent_valid"][row]]
            shown += len(recent)
            if len(recent):
                assert recent.min() > memory["tick"][row].max()
                assert recent.max() - batch["clip_tick"][row].max() < 10 * 5 + 5
    assert shown


def test_videos_that_are_visited_in_random_order_have_no_recency_buffer():
    assert not any(batch["recent_valid"].any() for batch, _ in stepped(toy_task(chronological=0.0), 12))


def test_the_curriculum_lengthens_videos_in_the_first_half():
    task = toy_task(curriculum_minutes=(1.0, 2.0))
    assert [task._clips_at(step) for step in (0, 9, 10, 39)] == [6, 6, 12, 12]


def test_the_temperature_falls_in_the_first_half_and_stays():
    task = toy_task()
    found = [float(task._temperature(step)) for step in (0, 10, 20, 30)]
    assert found == pytest.approx([1.5, 1.25, 1.0, 1.0])


def test_members_of_a_team_feed_their_own_part_of_the_same_batch():
    alone = toy_task()
    processes = [
        LvmTask(toy_config(), toy_recipe(), toy_caches(), 0, ProcessGroup(rank, 2), CPU) for rank in (0, 1)
    ]
    whole, parts = alone.batch(0), [member.batch(0) for member in processes]
    for name in ("memory_tick", "clip_tick", "clip_features"):
        assert torch.equal(whole[name], torch.cat([part[name] for part in parts]))
    assert alone._videos.tolist() == [int(member._videos) for member in processes]


def test_a_batch_that_cannot_be_shared_equally_is_refused():
    task = LvmTask(toy_config(), toy_recipe(batch=3), toy_caches(), 0, ProcessGroup(0, 2), CPU)
    with pytest.raises(LvmError, match="multiple of the 2 processes, got 3"):
        task.batch(0)


def test_other_seeds_visit_and_ask_otherwise():
    one, other = toy_task(seed=0).batch(0), toy_task(seed=1).batch(0)
    assert not torch.equal(one["clip_tick"], other["clip_tick"])


def test_what_the_recency_buffer_shows_of_what_is_asked_is_evidence():
    """A device is asked about what happened seconds ago: its tokens must not be taught to be irrelevant."""
    task = toy_task(chronological=1.0, negatives=0.0, new_queries=6)
    positive = 0
    for batch, _ in stepped(task, 30):
        event = batch["recent_event"][batch["slot"]]  # (Q, R)
        about = batch["matching"].gather(1, event.clamp(min=0)) & (event >= 0)
        positive += int((about & batch["recent_valid"][batch["slot"]]).sum())
    assert positive > 0
