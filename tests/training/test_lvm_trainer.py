"""Sampler and reader learning together: what is kept, where gradients go, what counts as loss."""

import math

import numpy as np
import pytest
import torch

from edge_runtime.memory.diversity import REDUNDANT, find_redundant
from edge_runtime.memory.token_memory import select
from export.training.lvm.trainer import LvmTrainer
from tests.support.training_models import toy_config, toy_recipe, toy_task

ANSWERS = {"activity", "box", "span", "pointer", "offset", "presence"}


def warm(task, steps=6):
    """A batch whose memories are full and whose questions are of all kinds."""
    for step in range(steps):
        batch = task.batch(step)
        with torch.no_grad():
            task.update(step, task.module(batch)[2])
    return task.batch(steps)


@pytest.mark.parametrize("gradient", ["ste", "stebias", "soft"])
def test_answers_alone_teach_the_sampler(gradient):
    task = toy_task(gradient=gradient, guidance=0.0, new_queries=6)
    loss, _, _ = task.module(warm(task))
    loss.backward()
    norms = {name: float(p.grad.norm()) for name, p in task.module.sampler.named_parameters()}
    assert all(map(math.isfinite, norms.values()))
    assert norms["score.weight"] > 0 and norms["project.weight"] > 0


def test_the_gradient_modes_answer_alike_and_differ_only_backward():
    """ste and stebias change no number of the forward pass."""
    found = []
    for gradient in ("ste", "stebias"):
        task = toy_task(gradient=gradient, guidance=0.0)
        batch = warm(task)
        torch.manual_seed(3)
        found.append(float(task.module(batch)[0].detach()))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_soft_lets_answers_reach_tokens_that_were_not_kept():
    reached = {}
    for gradient in ("stebias", "soft"):
        task = toy_task(gradient=gradient, guidance=0.0, new_queries=6)
        batch = {**warm(task)}
        batch["clip_features"] = batch["clip_features"].clone().requires_grad_()
        # A constant score for all: the sampler itself passes nothing on.
        torch.nn.init.zeros_(task.module.sampler.score.weight)
        torch.manual_seed(5)
        loss, _, memory = task.module(batch)
        loss.backward()
        clip = batch["clip_tick"] * 49 + batch["clip_cell"]
        kept = memory["tick"] * 49 + memory["cell"]
        gone = ~(clip[:, :, None] == kept[:, None, :]).any(2)
        assert gone.any()
        reached[gradient] = float(batch["clip_features"].grad[gone].abs().sum())
    assert reached["stebias"] == 0 and reached["soft"] > 0


def test_soft_writes_as_many_tokens_as_the_memory_holds():
    task = toy_task(gradient="soft")
    memory = task.module(warm(task))[2]
    assert memory["features"].shape == (2, 60, task.module.network.d_backbone)


def test_parts_are_finite_and_sum_to_the_loss():
    task = toy_task(new_queries=3)
    for step in range(8):
        loss, parts, memory = task.module(task.batch(step))
        task.update(step, memory)
        assert all(math.isfinite(float(value.detach())) for value in parts.values())
        torch.testing.assert_close(loss, torch.stack(list(parts.values())).sum())


def test_an_empty_memory_and_no_question_are_no_accident():
    task = toy_task()
    batch = {**task.batch(0)}
    for name in ("memory_valid", "clip_valid", "recent_valid", "happened"):
        batch[name] = torch.zeros_like(batch[name])
    batch["matching"] = torch.zeros_like(batch["matching"])
    loss, _, memory = task.module(batch)
    loss.backward()
    assert torch.isfinite(loss) and not memory["valid"].any()
    assert all(torch.isfinite(p.grad).all() for p in task.module.parameters() if p.grad is not None)


def test_guidance_adds_what_boxes_say_of_tokens():
    config = toy_config(reader_candidates=20)
    with_boxes, without = toy_task(config), toy_task(config, guidance=0.0)
    assert set(with_boxes.module(with_boxes.batch(0))[1]) == ANSWERS | {"sampler", "relevance", "outline"}
    assert set(without.module(without.batch(0))[1]) == ANSWERS


def test_tokens_are_taught_boxes_whatever_is_asked():
    task = toy_task(toy_config(reader_candidates=20))
    batch = dict(warm(task))
    batch["happened"] = torch.zeros_like(batch["happened"])  # no question has an answer
    batch["box_tick"] = torch.full_like(batch["box_tick"], -1)
    adam, found = torch.optim.AdamW(task.module.parameters(), lr=1e-2), []
    for _ in range(20):
        torch.manual_seed(0)
        _, parts, _ = task.module(batch)
        assert float(parts["box"].detach()) == 0
        adam.zero_grad()
        parts["outline"].backward()
        adam.step()
        found.append(float(parts["outline"].detach()))
    assert found[-1] < 0.6 * found[0]


def test_guidance_is_weighed():
    parts = []
    for guidance in (0.5, 1.0):
        task = toy_task(guidance=guidance)
        torch.manual_seed(0)
        parts.append(task.module(task.batch(0))[1])
    torch.testing.assert_close(2 * parts[0]["sampler"], parts[1]["sampler"])


@pytest.mark.parametrize("spread", [False, True])
def test_without_noise_what_is_kept_is_what_the_runtime_would_select(spread):
    task = toy_task(toy_config(spread=spread))
    torch.nn.init.constant_(task.module.sampler.score.bias, 0.5)  # most are relevant
    batch = warm(task)
    task.module.eval()
    with torch.no_grad():
        kept = task.module._select(batch)
    for row in range(2):
        both = {
            name: torch.cat([batch[f"memory_{name}"], batch[f"clip_{name}"]], 1)[row].numpy()
            for name in ("tick", "cell", "valid")
        }
        scores = kept.scores[row].numpy()
        gone = find_redundant(scores, both["tick"], both["cell"], both["valid"], 60)
        assert gone.any()
        scores = np.where(gone & spread, REDUNDANT, scores)
        chosen = select(scores, both["tick"], both["cell"], both["valid"], 60)
        assert kept.memory["tick"][row].tolist() == both["tick"][chosen].tolist()
        assert kept.memory["cell"][row].tolist() == both["cell"][chosen].tolist()


def test_equal_scores_go_to_the_lower_index_as_in_the_runtime():
    task = toy_task()
    batch = {**task.batch(0)}
    count = batch["memory_tick"].shape[1] + batch["clip_tick"].shape[1]
    batch["keys"] = torch.zeros(2, count)
    batch["memory_valid"] = torch.arange(60).expand(2, 60) < 30
    batch["memory_tick"] = torch.arange(-60, 0).expand(2, 60).clone()
    memory = task.module(batch)[2]
    for row in range(2):
        assert memory["tick"][row, :30].tolist() == list(range(-60, -30))
        assert memory["tick"][row, 30:].tolist() == batch["clip_tick"][row, :30].tolist()


def test_noise_has_no_say_in_which_relevant_tokens_go():
    """All are relevant and more than fit: what is kept is what lies apart, whatever the noise."""
    task = toy_task(toy_config(spread=True))
    torch.nn.init.zeros_(task.module.sampler.score.weight)
    torch.nn.init.ones_(task.module.sampler.score.bias)
    batch = warm(task)
    kept = [task.module(batch)[2]["tick"] for _ in range(2)]
    assert torch.equal(*kept)
    loss = task.module(batch)[0]
    loss.backward()
    assert torch.isfinite(loss) and float(task.module.sampler.score.bias.grad.abs()) > 0


def test_noise_changes_what_is_kept_in_training_only():
    task = toy_task()
    batch = warm(task)
    kept = [task.module(batch)[2]["tick"] for _ in range(2)]
    assert not torch.equal(*kept)
    task.module.eval()
    kept = [task.module(batch)[2]["tick"] for _ in range(2)]
    assert torch.equal(*kept)


def test_new_memories_carry_no_gradient_and_no_weight():
    """`ste` multiplies what is read by 1 + a - a; what is remembered must stay the token itself."""
    task = toy_task(gradient="ste")
    batch = warm(task)
    memory = task.module(batch)[2]
    assert not memory["features"].requires_grad
    known = torch.cat([batch["memory_features"], batch["clip_features"]], 1)[0]
    for token, valid in zip(memory["features"][0], memory["valid"][0], strict=True):
        assert not valid or (known == token).all(1).any()


def test_decoder_steps_of_a_place_lie_where_something_in_the_window_is_remembered():
    task = toy_task(new_queries=6)
    batch = warm(task)
    kept = task.module._select(batch)
    tick = torch.cat([kept.memory["tick"], batch["recent_tick"]], 1)[batch["slot"]]
    valid = torch.cat([kept.memory["valid"], batch["recent_valid"]], 1)[batch["slot"]]
    inside = valid & (tick >= batch["start"][:, None]) & (tick <= batch["end"][:, None])
    steps, real = task.module._choose_steps(batch, tick, inside)
    assert 1 in batch["kind"]
    for row in range(len(steps)):
        told = set(steps[row][real[row]].tolist())
        if int(batch["kind"][row]) == 1:
            assert told <= set(tick[row][inside[row]].tolist())
        else:
            assert min(told) == int(batch["start"][row]) and max(told) == int(batch["end"][row])


def test_answers_do_not_depend_on_absolute_time():
    """The same memory, clip and question an hour later, the same loss."""
    task = toy_task()
    batch = {**warm(task)}
    task.module.eval()
    now = task.module(batch)[0]
    for name in ("memory_tick", "clip_tick", "recent_tick", "start", "end", "span"):
        batch[name] = batch[name] + 18_000
    batch["box_tick"] = torch.where(batch["box_tick"] >= 0, batch["box_tick"] + 18_000, -1)
    later = task.module(batch)[0]
    torch.testing.assert_close(now, later)


def test_a_few_steps_on_one_batch_lower_its_loss():
    task = toy_task(toy_config(dropout=0.0), new_queries=4)
    batch = warm(task)
    adam = torch.optim.AdamW(task.module.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        torch.manual_seed(0)
        loss = task.module(batch)[0]
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_a_network_without_novelty_or_cells_is_trained_too():
    config = toy_config(sampler_novelty=False, sampler_cell_code=False)
    trainer = LvmTrainer(config, toy_recipe())
    assert np.isfinite(float(trainer(toy_task(config).batch(0))[0].detach()))
