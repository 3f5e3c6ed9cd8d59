"""`lvm-train` as a person runs it: what it refuses, and what it hands on."""

import sys

import pytest
import torch
import yaml

from export.data.world_set import make_world_video, write_worlds
from export.training import cli, stages
from tests.support.products import product_folder
from tests.training.test_recipe import PLAIN


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs with arguments in an empty folder -> exit status, output, errors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(PLAIN))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["lvm-train", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def trained(monkeypatch):
    """What would have been trained, instead of training it."""
    seen = []
    monkeypatch.setattr(stages.Training, "run", lambda training, stage: seen.append((training, stage)))
    return seen


def test_without_a_recipe_one_is_recommended(run):
    status, _, errors = run()
    assert status == 2 and "--config configs/training/tiny.yaml" in errors and "Traceback" not in errors


def test_a_wrong_key_is_one_sentence(run):
    status, _, errors = run("--config", "plain.yaml", "--set", "lvm.past_querys=0")
    assert status == 2 and "lvm.past_querys" in errors and "Traceback" not in errors


def test_an_unknown_stage_is_refused(run):
    status, _, errors = run("--config", "plain.yaml", "--stage", "reader", "--device", "cpu")
    assert status == 2 and "backbone, tubedetr, lvm" in errors


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_gpu_that_is_not_there_is_missing(run):
    status, _, errors = run("--config", "plain.yaml", "--device", "cuda")
    assert status == 4 and "no CUDA" in errors


def test_options_become_the_recipe_and_its_folders(run, trained, tmp_path):
    status, out, _ = run("--config", "plain.yaml", "--seed", 5, "--set", "lvm.batch=4", "--stage", "tubedetr")
    ((training, stage),) = trained
    assert status == 0 and stage == "tubedetr"
    assert (training.recipe.seed, training.recipe.lvm.batch) == (5, 4)
    assert str(training.folder) == "runs/plain-5" and str(training.cache) == "runs/cache"
    assert out.splitlines()[-1] == '{"run": "runs/plain-5", "stage": "tubedetr"}'


def test_a_class_with_too_few_examples_is_said_before_the_training(run, trained, tmp_path):
    videos = [make_world_video(seed, minutes=1, split=split) for seed, split in ((3, "train"), (4, "val"))]
    write_worlds(tmp_path / "data", videos)
    status, out, errors = run("--config", "plain.yaml", "--set", "data.folder=data")
    assert (status, len(trained)) == (0, 1), errors
    assert "warning: train has " in errors and "warning: val has " in errors and "warning" not in out


def test_every_fourth_of_the_products_is_held_out(run, trained, tmp_path):
    folder = product_folder(tmp_path / "products", 8)
    run("--config", "plain.yaml", "--products", folder, "--output", "here")
    ((training, _),) = trained
    assert training.recipe.data.products == folder
    assert training.recipe.data.held_out == ("product-03", "product-07")
    assert str(training.folder) == "here"


def test_products_that_the_recipe_holds_out_stay_held_out(run, trained, tmp_path):
    folder = product_folder(tmp_path / "products", 4)
    run("--config", "plain.yaml", "--products", folder, "--set", "data.held_out=[product-01]")
    assert trained[0][0].recipe.data.held_out == ("product-01",)
