"""The tool that asks a backbone which product a token shows."""

import json

import pytest
import torch

from edge_runtime.simulation.activities import ACTIVITIES
from engines.errors import LvmError
from export.training.backbone.task import BackboneTrainer
from export.training.loop.ema import WeightAverage
from tests.support.evaluation_runs import make_run
from tests.support.export_models import small_config
from tests.support.training_models import toy_config
from tools import identity

NETWORK = toy_config(image_size=56, activities=10)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "load_preset", lambda name: NETWORK)
    torch.manual_seed(0)
    trainer = BackboneTrainer(NETWORK, 3, 0.07)
    saved = {"weights": trainer.state_dict(), "average": WeightAverage(trainer, 0.9).state()}
    torch.save(saved, tmp_path / "backbone.state")
    return tmp_path


def test_an_untrained_backbone_knows_as_much_as_chance(run, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["identity", str(run), "--worlds", "2", "--events", "12"])
    assert identity.main() == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["chance"] == pytest.approx(1 / said["products"])
    for name in ("token", "event", "activity"):
        low, high = said[name]["interval"]
        assert low <= said[name]["value"] <= high
    assert said["token"]["value"] < 0.4


def test_who_knows_the_truth_is_right_in_everything(run, monkeypatch):
    """Photos and frames that carry their product's number as colour, read by a network that copies it."""
    from types import SimpleNamespace

    world = identity.make_world(identity.WorldConfig.level("L1", seed=identity.FIRST_SEED))
    event = world.events(0.0, 1800.0)[0]

    class Sees(torch.nn.Module):
        def forward(self, images):
            colour = images[:, 0, 0, :2].float()  # (B, 2)
            angle = colour[:, 0] / 24 * 6.28
            return torch.stack([angle.cos(), angle.sin()], -1)[:, None].expand(-1, 49, -1)

    monkeypatch.setattr(identity, "photo_of", lambda w, one, rng, size: _painted(one, size))
    painted = SimpleNamespace(
        config=world.config, events=lambda a, b: [event], truth=world.truth,
        frame=lambda t, size: _painted(event.instance, size[0]), product=world.product,
    )  # fmt: skip
    told = torch.nn.functional.one_hot(torch.tensor(event.activity), 10).float()
    trainer = SimpleNamespace(
        backbone=Sees(), identity=lambda tokens: tokens, activity=lambda tokens: told.expand(len(tokens), -1)
    )
    all_right = {"token": 1.0, "event": 1.0, "activity": 1.0}
    assert identity.of_world(trainer, painted, 56, 1) == all_right
    names = [painted.product(one) for one in range(painted.config.instances)]
    held_out = {"token, held out": 1.0, "event, held out": 1.0}
    assert identity.of_world(trainer, painted, 56, 1, names) == all_right | held_out


def _painted(number, size):
    import numpy as np

    return np.full((size, size, 3), number, np.uint8)


def test_a_run_that_has_ended_says_which_network_it_is(run):
    assert identity.network_of(run, "tiny") == (NETWORK, ())
    ended = make_run(run / "ended")
    network, held_out = identity.network_of(ended, "tiny")
    assert network == small_config(activities=len(ACTIVITIES), context=("svd",)) and held_out == ()


def test_a_folder_without_a_run_is_one_sentence(tmp_path):
    with pytest.raises(LvmError, match="does not exist; name the folder of a run"):
        identity.load_trainer(tmp_path / "backbone.state", NETWORK)
