"""One recipe from nothing to a checkpoint, with everything as small as it goes."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from training_models import toy_config

from edge_runtime.world.activities import ACTIVITIES
from engines.bundle import Bundle
from engines.errors import LvmError
from export.bundle_writer import write_bundle
from export.checkpoint import from_checkpoint
from export.precision import fp32
from export.training.recipe import Recipe
from export.training.stages import CHECKPOINT, Training

STEPS = 3


def recipe_of(**lvm):
    optimiser = {"steps": STEPS, "learning_rate": 1e-3, "average": 0.5}
    network = toy_config(image_size=56, activities=len(ACTIVITIES), dropout=0.0)
    return Recipe.model_validate(
        {
            "name": "toy",
            "seed": 3,
            "network": network,
            "data": {"train_videos": 2, "validation_videos": 1, "minutes": 2.0, "levels": ["L1"]},
            "backbone": {"optimiser": optimiser, "worlds": 2, "worlds_a_batch": 1, "frames_a_world": 3},
            "tubedetr": {"optimiser": optimiser, "batch": 4, "frames": 10},
            "lvm": {"optimiser": optimiser, "batch": 2, "curriculum_minutes": [2.0], **lvm},
            "threads": 1,
        }
    )


def training(place, **lvm):
    return Training(recipe_of(**lvm), place / "run", place / "cache", console=Console(file=io.StringIO()))


def steps_of(place, stage):
    with (place / "run" / f"{stage}.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def made_by(file):
    with safe_open(file, framework="pt") as opened:
        return opened.metadata()["recipe"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    training(folder).run()
    return folder


def test_every_stage_leaves_its_file(place):
    names = {path.name for path in (place / "run").iterdir()}
    weights = {"backbone.safetensors", "tubedetr.safetensors", "lvm.safetensors", "lvm.best", CHECKPOINT}
    assert weights | {f"{stage}.csv" for stage in ("backbone", "tubedetr", "lvm")} <= names
    assert not any(name.endswith(".part") for name in names)


def test_every_stage_took_its_steps(place):
    for stage in ("backbone", "tubedetr", "lvm"):
        assert steps_of(place, stage) == [1, 2, 3]


def test_the_checkpoint_holds_what_the_stages_learned(place):
    network, _ = from_checkpoint(place / "run" / CHECKPOINT)
    run = place / "run"
    for name, value in load_file(run / "backbone.safetensors").items():
        assert torch.equal(network.backbone.state_dict()[name], value)
    learned = load_file(run / "lvm.safetensors")
    assert torch.equal(network.sampler.score.weight, learned["sampler.score.weight"])
    assert torch.equal(network.reader.query, learned["reader.query"])


def test_the_reader_begins_with_what_tubedetr_learned(place):
    """Three steps of 1e-3 lead nowhere far from there."""
    tube = load_file(place / "run" / "tubedetr.safetensors")
    learned = load_file(place / "run" / "lvm.safetensors")
    assert (learned["reader.query"] - tube["query"]).abs().max() < 0.01


def test_the_checkpoint_says_how_it_was_made(place):
    _, card = from_checkpoint(place / "run" / CHECKPOINT)
    assert card.training.trained and card.training.seed == 3
    assert [one.name for one in card.classes] == [name for name, _ in ACTIVITIES]
    assert json.loads(card.training.recipe)["lvm"]["optimiser"]["steps"] == STEPS
    assert json.loads(card.training.data)["videos"] == [2, 1]
    assert card.training.results["validation.step"] in (1, 2, 3)


def test_the_checkpoint_becomes_a_bundle(place, tmp_path):
    network, card = from_checkpoint(place / "run" / CHECKPOINT)
    write_bundle(network, card, tmp_path / "bundle", fp32(["onnxruntime"]))
    assert Bundle.open(tmp_path / "bundle").manifest.training.trained


def test_finished_stages_are_not_run_again(place):
    """Only the checkpoint is written anew, from them."""
    before = {path: path.stat().st_mtime_ns for path in (place / "run").iterdir()}
    weights = load_file(place / "run" / CHECKPOINT)
    training(place).run()
    after = {path: path.stat().st_mtime_ns for path in (place / "run").iterdir()}
    assert {path.name for path in before if before[path] != after[path]} == {CHECKPOINT}
    found = load_file(place / "run" / CHECKPOINT)
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_a_stage_of_another_recipe_is_refused_and_kept(place):
    """Only the stages that the change concerns: the backbone knows nothing of past queries."""
    file = place / "run" / "lvm.safetensors"
    before = file.read_bytes()
    with pytest.raises(LvmError, match="lvm.safetensors was made by another recipe"):
        training(place, past_queries=0).run()
    training(place, past_queries=0).run("tubedetr")
    assert file.read_bytes() == before


def test_a_half_done_run_of_another_recipe_is_refused(place):
    file = place / "run" / "lvm.safetensors"
    kept = file.read_bytes()
    file.unlink()
    try:
        with pytest.raises(LvmError, match="lvm.state was begun by another recipe"):
            training(place, past_queries=0).run()
    finally:
        file.write_bytes(kept)


def test_a_stage_whose_file_is_missing_goes_on_from_its_saved_step(place):
    """Killed between the last step and the stage's file: no step is taken again."""
    wanted = load_file(place / "run" / "lvm.safetensors")
    (place / "run" / "lvm.safetensors").unlink()
    training(place).run()
    found = load_file(place / "run" / "lvm.safetensors")
    assert steps_of(place, "lvm") == [1, 2, 3]
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_run_may_end_after_any_stage_and_go_on(tmp_path, place):
    """With the backbone and the cache of another run: only the second stage is left to do."""
    (tmp_path / "run").mkdir()
    file = "backbone.safetensors"
    (tmp_path / "run" / file).write_bytes((place / "run" / file).read_bytes())
    (tmp_path / "cache").symlink_to(place / "cache")
    training(tmp_path).run("tubedetr")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert "tubedetr.safetensors" in names and "lvm.csv" not in names and "backbone.csv" not in names
    ours, theirs = (load_file(p / "run" / "tubedetr.safetensors") for p in (tmp_path, place))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_another_backbone_has_its_own_tokens(tmp_path, place):
    (tmp_path / "run").mkdir()
    weights = load_file(place / "run" / "backbone.safetensors")
    save_file(
        {name: value + (0.01 if value.is_floating_point() else 0) for name, value in weights.items()},
        tmp_path / "run" / "backbone.safetensors",
        {"recipe": made_by(place / "run" / "backbone.safetensors")},
    )
    one = training(tmp_path)
    assert one.cache != place / "cache"
    (tmp_path / "cache").symlink_to(place / "cache")
    before = set((place / "cache").iterdir())
    one.run("tubedetr")
    new = set((place / "cache").iterdir()) - before
    assert len(new) == 1
    first = next(new.pop().glob("world-*")).name
    tokens = [np.load(folder / first / "tokens.npy") for folder in (place / "cache").iterdir()]
    assert not np.array_equal(*tokens)


def test_an_unknown_stage_is_refused(tmp_path):
    with pytest.raises(LvmError, match="stage must be one of backbone, tubedetr, lvm, got reader"):
        training(tmp_path).run("reader")
    assert not (tmp_path / "run").exists()
