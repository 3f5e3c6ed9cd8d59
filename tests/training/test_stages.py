"""One recipe from nothing to a checkpoint, with everything as small as it goes."""

import csv
import io
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edge_runtime.simulation.activities import ACTIVITIES
from engines.bundle import Bundle
from engines.errors import LvmError
from engines.manifest import TrainingRecord
from export.bundle.checkpoint import from_checkpoint, save_checkpoint
from export.bundle.writer import ModelCard, write_bundle
from export.networks.model import LvmNet
from export.onnx_graphs.external_weights import hash_weights, select_prefix
from export.quantization.plan import Plan
from export.training.data.dataset import WorldDataset
from export.training.loop.distributed import ProcessGroup
from export.training.lvm.task import LvmTask
from export.training.recipe import Data, Recipe
from export.training.stages import CHECKPOINT, Training, combine_held_out
from tests.support.training_models import toy_caches, toy_config

STEPS = 3


def recipe_of(**lvm):
    optimiser = {"steps": STEPS, "learning_rate": 1e-3, "average": 0.5}
    network = toy_config(image_size=56, activities=len(ACTIVITIES), dropout=0.0, likeness=True)
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
    taught = load_file(run / "backbone.safetensors")
    identity = network.reader.embed.likeness.identity
    for part, module in (("backbone.", network.backbone), ("identity.", identity)):
        values = select_prefix(taught, part)
        assert values.keys() == module.state_dict().keys()
        assert all(torch.equal(module.state_dict()[name], value) for name, value in values.items())
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
    assert [one.name for one in card.classes] == [activity.name for activity in ACTIVITIES]
    assert json.loads(card.training.recipe)["lvm"]["optimiser"]["steps"] == STEPS
    assert json.loads(card.training.data)["videos"] == [2, 1]
    assert card.training.results["validation.step"] in (1, 2, 3)


def test_the_checkpoint_becomes_a_bundle(place, tmp_path):
    network, card = from_checkpoint(place / "run" / CHECKPOINT)
    write_bundle(network, card, tmp_path / "bundle", Plan(targets=("onnxruntime",)))
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


def test_what_the_last_stage_cannot_do_is_told_before_the_first(tmp_path, place):
    """Not after hours; who ends before that stage does not need as many videos."""
    few = training(tmp_path)
    few.recipe = recipe_of(batch=3)
    with pytest.raises(
        LvmError, match=r"lvm.batch=3 distinct videos need as many .* got 2: set lvm.batch to 2"
    ):
        few.run()
    uneven = Training(recipe_of(), tmp_path / "run", place / "cache", processes=ProcessGroup(0, 3))
    with pytest.raises(LvmError, match="lvm.batch must be a multiple of the 3 processes, got 2"):
        uneven.run()
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_go_on_with_other_files(place, tmp_path, monkeypatch):
    """A folder keeps its name when its events are corrected."""
    monkeypatch.setattr(WorldDataset, "fingerprint", lambda dataset: "other files")
    with pytest.raises(LvmError, match="was made by another recipe, seed, data or version"):
        training(place).run()


def products(folder, *names):
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(str(folder / name / f"{number}.png"), np.full((40, 40, 3), 50, np.uint8))
    return folder


def test_what_neither_the_start_nor_this_run_has_seen_is_held_out(tmp_path):
    folder = products(tmp_path / "shop", "apple", "bread", "cheese", "dates")
    card = ModelCard(
        "start", (), TrainingRecord(trained=True, recipe="", seed=0, held_out=("apple", "bread"))
    )

    def both(*held_out, among=folder):
        data = Data(products=among, held_out=held_out)
        return combine_held_out(card, data, WorldDataset(data, recipe_of().network))

    assert both("apple", "cheese") == ("apple",)  # bread is learned now, cheese was before
    assert both("apple", "bread") == both(among=None) == ("apple", "bread")
    other = products(tmp_path / "other", "egg", "fig", "grape")
    assert both("egg", among=other) == ("apple", "bread", "egg")  # of this folder the start saw nothing
    with pytest.raises(LvmError, match="held-out products must be sub-folders of .*, got aple"):
        both("aple")


def test_likeness_needs_a_start_that_has_it_or_a_backbone_that_learns_it(place, tmp_path):
    without = started(recipe_of(), place / "run" / CHECKPOINT, "backbone", "tubedetr", likeness=False)
    with pytest.raises(LvmError, match="likeness True instead of False"):
        Training(without, tmp_path, tmp_path)
    Training(started(recipe_of(), place / "run" / CHECKPOINT, "backbone"), tmp_path, tmp_path)
    network, card = from_checkpoint(place / "run" / CHECKPOINT)
    plain = LvmNet(network.config.model_copy(update={"likeness": False}))
    save_checkpoint(plain, card, tmp_path / "plain")
    with pytest.raises(LvmError, match="likeness False instead of True"):
        Training(started(recipe_of(), tmp_path / "plain", "backbone"), tmp_path, tmp_path)


def test_an_unknown_stage_is_refused(tmp_path):
    with pytest.raises(LvmError, match="stage must be one of backbone, tubedetr, lvm, got reader"):
        training(tmp_path).run("reader")
    assert not (tmp_path / "run").exists()


def started(recipe, start, *left_out, **network):
    given = recipe.model_dump()
    for name in left_out:
        given[name]["optimiser"]["steps"] = 0
    given["network"] |= network
    return Recipe.model_validate(given | {"start": start})


def test_stages_without_steps_take_the_weights_that_the_recipe_starts_from(place, tmp_path):
    start = place / "run" / CHECKPOINT
    recipe = started(recipe_of(), start, "backbone", "tubedetr")
    Training(recipe, tmp_path / "run", place / "cache", console=Console(file=io.StringIO())).run()
    assert not (tmp_path / "run" / "tubedetr.safetensors").exists()
    before, after = load_file(start), load_file(tmp_path / "run" / CHECKPOINT)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("backbone.")} <= same
    learned = {name for name in before if name.startswith("reader.heads.")} - same
    assert "reader.heads.activity.weight" in learned
    moved = (after["reader.heads.activity.weight"] - before["reader.heads.activity.weight"]).abs().max()
    assert (
        moved < 0.1 * before["reader.heads.activity.weight"].abs().max()
    )  # three steps from there, not anew


def test_the_sampler_alone_may_be_of_another_kind_and_is_learned_anew(place, tmp_path):
    start = place / "run" / CHECKPOINT
    recipe = started(recipe_of(), start, "backbone", "tubedetr", sampler="s5")
    Training(recipe, tmp_path / "run", place / "cache", console=Console(file=io.StringIO())).run()
    network, card = from_checkpoint(tmp_path / "run" / CHECKPOINT)
    before, after = load_file(start), network.state_dict()
    moved = after["reader.heads.activity.weight"] - before["reader.heads.activity.weight"]
    assert moved.abs().max() < 0.1 * before["reader.heads.activity.weight"].abs().max()
    assert network.config.sampler == "s5" and "sampler.layers.0.space.read" in after
    assert 0 <= card.training.results["validation.coverage"] <= 1  # judged by the runtime's own ingest


def test_a_manifest_says_what_it_was_started_from_and_not_where_that_lay(place, tmp_path):
    start = place / "run" / CHECKPOINT
    recipe = started(recipe_of(), start, "backbone", "tubedetr")
    one = Training(recipe, tmp_path / "run", place / "cache", console=Console(file=io.StringIO()))
    said, (network, before) = one.card().training, from_checkpoint(start)
    assert str(place) not in said.model_dump_json() and json.loads(said.recipe)["start"] == CHECKPOINT
    told = json.loads(said.data)["start"]
    assert told["weights"] == hash_weights(network) and told["recipe"] == before.training.recipe
    assert Recipe.model_validate(json.loads(said.recipe) | {"network": recipe.network, "data": {}}).seed == 3


def test_the_origin_of_a_backbone_goes_on_with_its_weights(place, tmp_path):
    """A licence of public weights holds for what is trained from them, not for a backbone learned anew."""
    network, card = from_checkpoint(place / "run" / CHECKPOINT)
    file = tmp_path / "public.safetensors"
    save_checkpoint(network, replace(card, attributions=("trunk of a package",)), file)

    def attributions(*without_steps):
        run = Training(started(recipe_of(), file, *without_steps), tmp_path / "run", place / "cache")
        return run.card().attributions

    assert attributions("backbone", "tubedetr") == ("trunk of a package",)
    assert attributions("tubedetr") == ()


def test_a_start_may_be_given_queues_and_becomes_a_bundle_that_says_so(place, tmp_path):
    """What is there stays, what makes entries is learned first, and held-out videos are judged with both."""
    start = place / "run" / CHECKPOINT
    queues = {"context": ("svd", "text", "region"), "queue": {"length": 2, "text_slots": 4, "regions": 3}}
    recipe = started(recipe_of(entry_steps=4), start, "backbone", "tubedetr", **queues)
    said = io.StringIO()
    Training(recipe, tmp_path / "run", place / "cache", console=Console(file=said)).run()
    assert "entries of clips: loss" in said.getvalue() and "after 4 steps" in said.getvalue()
    network, card = from_checkpoint(tmp_path / "run" / CHECKPOINT)
    assert network.config.context == queues["context"] and card.training.results["validation.coverage"] >= 0
    table = network.reader.queues.text.table
    assert table.shape[0] == len(ACTIVITIES) and (table.norm(dim=1) > 0).all()
    before = load_file(start)["sampler.project.weight"]
    assert (network.sampler.project.weight - before).abs().max() < 0.1 * before.abs().max()
    # A start with queues must have the same ones.
    other = recipe.model_dump() | {"start": tmp_path / "run" / CHECKPOINT}
    other["network"]["queue"]["length"] = 3
    with pytest.raises(LvmError, match="queue"):
        Training(Recipe.model_validate(other), tmp_path / "other", place / "cache")


def test_a_start_of_another_shape_is_refused_where_its_weights_are_needed(place, tmp_path):
    start = place / "run" / CHECKPOINT
    recipe = started(recipe_of(), start, "backbone", query_steps=7)
    Training(recipe, tmp_path, tmp_path)
    with pytest.raises(LvmError, match="query_steps"):
        Training(started(recipe_of(), start, "backbone", "tubedetr", query_steps=7), tmp_path, tmp_path)


def test_a_start_may_have_another_number_of_tokens_than_the_training(place, tmp_path):
    """The default bundle ships with more than it learned with."""
    start = place / "run" / CHECKPOINT
    recipe = started(recipe_of(), start, "backbone", "tubedetr", memory_tokens=30)
    run = Training(recipe, tmp_path / "run", place / "cache", console=Console(file=io.StringIO()))
    assert run.start is not None and run.start.config.memory_tokens != 30 == run.recipe.network.memory_tokens


def learning(place, *patterns):
    given = started(recipe_of(), place / "run" / CHECKPOINT, "backbone", "tubedetr").model_dump()
    given["lvm"]["learns"] = patterns
    return Recipe.model_validate(given)


def test_what_does_not_learn_keeps_the_weights_of_the_start(place, tmp_path):
    recipe = learning(place, "reader.heads.pl*", "reader.heads.box.bias")
    Training(recipe, tmp_path / "run", place / "cache", console=Console(file=io.StringIO())).run()
    before, after = load_file(place / "run" / CHECKPOINT), load_file(tmp_path / "run" / CHECKPOINT)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.startswith(("reader.heads.places.", "reader.heads.box.bias")) for name in moved)
    assert any(name.startswith("reader.heads.places.outline.") for name in moved)


def test_what_learns_must_be_there_and_have_a_start(place):
    with pytest.raises(ValueError, match="start must be named"):
        recipe_of(learns=["reader.*"])
    recipe = learning(place, "reader.haeds.*")
    with pytest.raises(LvmError, match=r"no parameter matches reader\.haeds"):
        LvmTask(recipe.network, recipe.lvm, toy_caches(), 0, ProcessGroup(0, 1), torch.device("cpu"))


def test_a_baseline_may_go_on_from_a_trained_reader(place, tmp_path):
    """One step at a rate of nearly nothing leaves the reader's weights where they were."""
    start = place / "run" / CHECKPOINT
    given = started(recipe_of(), start, "backbone").model_dump()
    slow = {"steps": 1, "learning_rate": 1e-9, "weight_decay": 0.0, "average": 0.0}
    of_reader = {**given["tubedetr"], "optimiser": slow, "from_start": True}
    recipe = Recipe.model_validate(given | {"tubedetr": of_reader})
    quiet = Console(file=io.StringIO())
    Training(recipe, tmp_path / "run", place / "cache", console=quiet).run("tubedetr")
    before, after = load_file(start), load_file(tmp_path / "run" / "tubedetr.safetensors")
    taken = {name for name in after if f"reader.{name}" in before}
    assert set(after) - taken == {"fast.weight", "fast.bias"}
    for name in taken:
        np.testing.assert_allclose(after[name], before[f"reader.{name}"], atol=1e-6)
    with pytest.raises(ValueError, match="tubedetr goes on from a start"):
        Recipe.model_validate(recipe.model_dump() | {"start": None, "backbone": recipe_of().backbone})


def test_leaving_out_a_stage_needs_something_to_start_from():
    with pytest.raises(ValueError, match="start must name"):
        started(recipe_of(), None, "backbone")
    with pytest.raises(ValueError, match="lvm.optimiser.steps must be at least 1"):
        started(recipe_of(), "anything", "lvm")


def test_a_memory_is_spread_over_what_guidance_has_taught_to_be_relevant():
    given = recipe_of().model_dump()
    given["network"]["spread"] = True
    Recipe.model_validate(given)
    given["lvm"]["guidance"] = 0.0
    with pytest.raises(ValueError, match="lvm.guidance trains, got 0"):
        Recipe.model_validate(given)
    given["lvm"]["sampler"] = "fifo"  # asks no network
    Recipe.model_validate(given)


def test_readers_are_compared_on_one_backbone(tmp_path):
    """The weights of a backbone do not depend on what reads its tokens."""
    keys = []
    for change in ({}, {"ffn": 24}, {"d_backbone": 32}):
        recipe = recipe_of()
        network = recipe.network.model_copy(update=change)
        one = Training(recipe.model_copy(update={"network": network}), tmp_path / "run", tmp_path / "cache")
        keys.append([one._make_recipe_key(stage) for stage in ("backbone", "lvm")])
    assert keys[0][0] == keys[1][0] != keys[2][0]
    assert len({key for _, key in keys}) == 3
