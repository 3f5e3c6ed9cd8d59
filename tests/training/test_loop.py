"""The training loop: going on after a kill, schedule, averages, curves, selection."""

import csv
import math

import pytest
import torch
from torch import nn

from engines.errors import LvmError
from export.training.loop.distributed import ProcessGroup
from export.training.loop.trainer import CheckpointSelection, TrainingLoop, WeightAverage, schedule
from export.training.recipe import Optimiser

STEPS = 12


class Line(nn.Module):
    """A line with dropout, batch norm and a memory: everything that going on must restore."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.drop = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)

    def forward(self, batch):
        told = self.norm(self.drop(self.layer(batch["x"]))) + batch["memory"]
        loss = (told - batch["x"].flip(1)).square().mean() * batch["factor"]
        return loss, {"square": loss}, {"memory": told.detach().mean(0)}


class LineTask:
    """Its memory changes with every step; the loss at `broken` is no number."""

    name = "line"

    def __init__(self, broken=None, infinite=None):
        torch.manual_seed(0)
        self.module, self.memory = Line(), torch.zeros(3)
        self._broken, self._infinite = broken, infinite

    def param_groups(self):
        return [
            {"params": list(self.module.layer.parameters())},
            {"params": list(self.module.norm.parameters()), "scale": 0.5},
        ]

    def batch(self, step):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        factor = torch.tensor(math.nan if step == self._broken else 1.0)
        if step == self._infinite:
            # The square root's slope at 0: a finite loss whose gradient is not.
            self.module.layer.weight.register_hook(lambda grad: grad * math.inf)
        return {"x": x, "memory": self.memory, "factor": factor}

    def update(self, step, output):
        self.memory = output["memory"]

    def state(self):
        return {"memory": self.memory}

    def restore(self, state):
        self.memory = state["memory"]


def run_in(folder, task=None, *, seed=0, selection=None, save_seconds=1e9, **changes):
    optimiser = Optimiser(**{"steps": STEPS, "learning_rate": 0.05, "average": 0.9, **changes})
    return TrainingLoop(
        task or LineTask(), optimiser, folder, seed, ProcessGroup(), save_seconds, selection=selection
    )


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("killed_after", [1, 11])
def test_a_run_that_was_killed_takes_the_steps_of_an_uninterrupted_one(tmp_path, killed_after):
    whole = run_in(tmp_path / "whole")
    expected = weights(whole.train())
    run_in(tmp_path / "killed").train(until=killed_after)
    torch.manual_seed(99)  # the new process has another generator
    resumed = run_in(tmp_path / "killed")
    found = weights(resumed.train())
    assert resumed.step == STEPS
    assert equal(found, expected)
    assert equal(weights(resumed.task.module), weights(whole.task.module))
    assert torch.equal(resumed.task.memory, whole.task.memory)


def test_a_run_goes_on_from_its_last_saved_step(tmp_path):
    """Killed at step 8, saved after step 6: steps 7 and 8 are taken again."""
    expected = weights(run_in(tmp_path / "whole").train())
    run_in(tmp_path / "killed").train(until=6)

    def kill(step):
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in(tmp_path / "killed").train(on_step=kill)
    resumed = run_in(tmp_path / "killed")
    taken = []
    found = resumed.train(on_step=taken.append)
    assert taken[0] == 7 and equal(weights(found), expected)


def test_state_is_saved_while_a_run_lasts(tmp_path):
    run, steps = run_in(tmp_path, save_seconds=1e-9), []

    def saved(step):
        if run.state_path.exists():
            steps.append(torch.load(run.state_path, weights_only=True)["step"])

    run.train(on_step=saved)
    assert steps == list(range(1, STEPS))


def test_a_finished_run_takes_no_step_more(tmp_path):
    expected = weights(run_in(tmp_path).train())
    taken = []
    assert equal(weights(run_in(tmp_path).train(on_step=taken.append)), expected) and not taken


def test_equal_seeds_learn_equally_and_others_do_not(tmp_path):
    found = [weights(run_in(tmp_path / str(i), seed=seed).train()) for i, seed in enumerate((1, 1, 2))]
    assert equal(found[0], found[1]) and not equal(found[0], found[2])


@pytest.mark.parametrize("changed", [{"seed": 1}, {"steps": 20}])
def test_a_state_of_another_run_is_refused(tmp_path, changed):
    run_in(tmp_path).train(until=3)
    with pytest.raises(LvmError, match="choose another folder or remove the file"):
        run_in(tmp_path, **changed).train()


@pytest.mark.parametrize(("task", "what"), [({"broken": 7}, "loss"), ({"infinite": 7}, "gradient")])
def test_what_is_no_number_stops_the_run_and_spoils_no_saved_state(tmp_path, task, what):
    run_in(tmp_path).train(until=5)
    before = (tmp_path / "line.state").read_bytes()
    with pytest.raises(LvmError, match=f"the {what} at step 7 must be finite.*lower learning_rate"):
        run_in(tmp_path, LineTask(**task)).train()
    assert (tmp_path / "line.state").read_bytes() == before


def test_the_learning_rate_warms_up_and_falls_to_nothing():
    optimiser = Optimiser(steps=100, learning_rate=1.0, warm_up=0.1)
    found = [schedule(step, optimiser) for step in range(100)]
    assert found[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert found[10] == 1.0 and found[55] == pytest.approx(0.5) and found[99] < 0.001
    assert all(a > b for a, b in zip(found[10:], found[11:], strict=False))


@pytest.mark.parametrize("warm_up", [0.0, 1.0])
def test_a_run_may_be_all_warm_up_or_none(warm_up):
    optimiser = Optimiser(steps=4, learning_rate=1.0, warm_up=warm_up)
    assert all(0 < schedule(step, optimiser) <= 1 for step in range(4))


def test_a_group_has_its_own_scale_of_the_learning_rate(tmp_path):
    run = run_in(tmp_path)
    run.train(until=6)
    first, second = (group["lr"] for group in run._adam.param_groups)
    assert second == pytest.approx(first / 2) and first == pytest.approx(0.05 * schedule(5, run.optimiser))


def test_the_gradient_is_clipped(tmp_path):
    steps = []
    for clip in (1e-9, 1.0):
        run = run_in(tmp_path / str(clip), clip_norm=clip, weight_decay=0.0)
        run.train(until=1)
        steps.append(run._adam.state_dict()["state"][0]["exp_avg"].norm())
    assert steps[0] < 1e-8 < steps[1]


def test_every_step_has_a_line_in_the_curve(tmp_path):
    run_in(tmp_path).train(until=4)
    run_in(tmp_path).train()
    with (tmp_path / "line.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    assert all(math.isfinite(float(row["loss"])) and "square" in row for row in rows)


# -- averages ------------------------------------------------------------------------------------------------


def test_an_average_of_equal_weights_is_these_weights():
    module = nn.Linear(2, 2)
    average = WeightAverage(module, 0.99)
    for _ in range(5):
        average.update(module)
    torch.testing.assert_close(average.make_averaged(module).state_dict(), module.state_dict())


def test_an_average_forgets_the_beginning_of_a_short_run():
    module = nn.Linear(1, 1)
    nn.init.constant_(module.weight, 100.0)
    average = WeightAverage(module, 0.999)
    nn.init.constant_(module.weight, 0.0)
    for _ in range(60):
        average.update(module)
    assert 0 <= average.make_averaged(module).weight.item() < 0.5


def test_without_decay_the_last_weights_count():
    module = nn.Linear(1, 1)
    average = WeightAverage(module, 0.0)
    nn.init.constant_(module.weight, 7.0)
    average.update(module)
    assert average.make_averaged(module).weight.item() == 7.0


def test_an_averaged_module_is_a_copy_in_evaluation_mode():
    module = Line()
    average = WeightAverage(module, 0.9)
    module.train()
    averaged = average.make_averaged(module)
    nn.init.zeros_(averaged.layer.weight)
    assert not averaged.training and module.training and module.layer.weight.any()


def test_counted_steps_of_batch_norm_are_not_averaged():
    module = Line()
    average = WeightAverage(module, 0.9)
    module.norm.num_batches_tracked += 17
    average.update(module)
    assert average.make_averaged(module).norm.num_batches_tracked == 17


# -- selection -----------------------------------------------------------------------------------------------


def selection_of(folder, losses, every=1):
    """Judges with `losses`, one after the other."""
    queue = list(losses)
    return CheckpointSelection(lambda module: queue.pop(0), every, folder / "best")


def constant(value):
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


def judged(selection, count):
    for step in range(1, count + 1):
        selection.consider(step, lambda step=step: constant(float(step)), last=False)
    kept = constant(0.0)
    from safetensors.torch import load_file

    kept.load_state_dict(load_file(selection.path))
    return kept.weight.item()


@pytest.mark.parametrize(
    ("losses", "best"),
    [([3.0, 1.0, 2.0], 2), ([1.0, 1.0], 1), ([math.nan, 5.0, 6.0], 2), ([4.0, math.nan], 1)],
)
def test_the_weights_that_answer_best_are_kept(tmp_path, losses, best):
    selection = selection_of(tmp_path, losses)
    assert judged(selection, len(losses)) == best
    step, loss, history = selection.read_best()
    assert (step, loss) == (best, losses[best - 1])
    assert [row[0] for row in history] == list(range(1, len(losses) + 1))


def test_it_is_judged_every_so_many_steps_and_at_the_end(tmp_path):
    steps = []
    selection = CheckpointSelection(
        lambda module: steps.append(int(module.weight.item())) or 1.0, 5, tmp_path / "best"
    )
    for step in range(1, 13):
        selection.consider(step, lambda step=step: constant(float(step)), last=step == 12)
    assert steps == [5, 10, 12]


def test_what_is_best_survives_a_kill(tmp_path):
    judged(selection_of(tmp_path, [3.0, 1.0]), 2)
    again = selection_of(tmp_path, [2.0])
    again.consider(3, lambda: constant(3.0), last=False)
    assert again.read_best()[:2] == (2, 1.0)


def test_nothing_is_best_before_the_first(tmp_path):
    assert selection_of(tmp_path, []).read_best() is None


def test_a_run_that_begins_forgets_what_an_earlier_one_found_best(tmp_path):
    judged(selection_of(tmp_path, [0.001]), 1)
    selection = CheckpointSelection(lambda module: 1.0, 4, tmp_path / "best")
    run_in(tmp_path, selection=selection).train()
    assert selection.read_best()[1] == 1.0


def test_a_run_that_goes_on_remembers_what_was_best(tmp_path):
    judge = iter([0.5, 0.9, 0.8])
    for until in (4, None):
        selection = CheckpointSelection(lambda module: next(judge), 4, tmp_path / "best")
        run_in(tmp_path, selection=selection).train(until=until)
    assert selection.read_best()[:2] == (4, 0.5)
