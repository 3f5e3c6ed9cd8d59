"""Attention teaches a sampler of linear cost: what the lessons are, and that they are learned."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engines.errors import LvmError
from engines.manifest import ActivityClass, TrainingRecord
from export.bundle.writer import ModelCard
from export.evaluation.stream_run import Model
from export.networks.model import make_untrained
from export.training.recipe import Optimiser
from tests.support.bundles import copy_bundle, edit_manifest
from tests.support.training_models import toy_cache, toy_config
from tools.papers.distil_sampler import (
    check_teacher,
    drop_tokens,
    main,
    make_batch,
    measure_margins,
    record_targets,
    replace_sampler,
    score_view,
    train_student,
)


def _card(count):
    classes = tuple(ActivityClass(name=f"a{i}", doing=f"doing a{i}") for i in range(count))
    return ModelCard("toy", classes, TrainingRecord(trained=True, recipe="toy"))


def test_a_lesson_is_positive_for_what_is_kept_and_for_nothing_else():
    scores = np.random.default_rng(0).normal(size=90).astype(np.float32)
    valid = np.arange(90) != 7
    far = measure_margins(scores, valid, 60)
    retained = np.argsort(-np.where(valid, scores, -np.inf))[:60]
    assert set(np.flatnonzero(far > 0)) == set(retained) and far[7] == 0
    assert np.abs(far).max() <= 3


def test_relevance_is_taught_where_the_memory_is_spread():
    """What is relevant to the teacher has to be so to the student, however much of it there is."""
    scores = np.random.default_rng(0).normal(size=90).astype(np.float32)
    far = measure_margins(scores, np.ones(90, np.bool_), 60, 0.0)
    assert (np.sign(far) == np.sign(scores)).all()
    network = make_untrained(toy_config(spread=True, image_size=56), 0)
    torch.nn.init.constant_(network.sampler.score.bias, 5.0)
    expected = record_targets(
        Model.from_network(network, _card(network.config.activities)), toy_cache(0)
    ).margin
    assert (expected >= 0).all() and (expected > 0).any()


def test_while_the_memory_takes_everything_there_is_no_lesson():
    assert not measure_margins(np.arange(20, dtype=np.float32), np.ones(20, np.bool_), 60).any()


def test_a_view_is_the_lesson_as_if_some_tokens_had_never_been_kept():
    torch.manual_seed(0)
    slots, clip = 300, 20
    valid = torch.ones(2, slots + clip, dtype=torch.bool)
    valid[1, 200:slots] = False  # a memory that is not yet full
    features = torch.randn(2, slots + clip, 4)
    cell, novelty = torch.randint(0, 49, (2, slots + clip)), torch.rand(2, slots + clip)
    view = drop_tokens({"features": features, "valid": valid, "cell": cell, "novelty": novelty}, slots)
    assert (valid & ~view.there).sum(1).tolist() == [3, 2]  # a hundredth
    assert view.there[:, slots:].all() and not (view.there & ~valid).any()
    for row in range(2):
        left = torch.cat([features[row, :slots][view.there[row, :slots]], features[row, slots:]])
        assert torch.equal(view.batch["features"][row][view.batch["valid"][row]], left)
        count = int(view.there[row, :slots].sum())
        assert view.batch["valid"][row, :slots].tolist() == [True] * count + [False] * (slots - count)
        for name, whole in (("cell", cell), ("novelty", novelty)):
            assert torch.equal(view.batch[name][row], whole[row][view.order[row]])


def test_scores_of_a_view_come_back_in_the_lessons_order():
    torch.manual_seed(1)
    slots, clip = 300, 20
    config = toy_config(dropout=0.0, image_size=56, sampler="s5", memory_tokens=slots)
    student = make_untrained(config, 0).sampler.eval()
    student.score_candidates = lambda features, *_: (
        features[..., 0],
        torch.zeros(()),
    )  # of each token by itself
    batch = {
        "features": torch.randn(2, slots + clip, config.d_backbone),
        "valid": torch.ones(2, slots + clip, dtype=torch.bool),
        "cell": torch.zeros(2, slots + clip, dtype=torch.int64),
        "novelty": torch.zeros(2, slots + clip),
    }
    view = drop_tokens(batch, slots)
    scores, _ = score_view(student, view, torch.zeros(()))
    assert torch.equal(scores, batch["features"][..., 0])


def test_a_calm_sampler_says_the_same_with_or_without_a_few_tokens(monkeypatch):
    config = toy_config(dropout=0.0, image_size=56)
    network = make_untrained(config, 0)
    material = [record_targets(Model.from_network(network, _card(config.activities)), toy_cache(0))]
    apart = {}
    monkeypatch.setattr("tools.papers.distil_sampler.DROPPED_SHARE", 0.1)
    for weight in (0.0, 3.0):
        monkeypatch.setattr("tools.papers.distil_sampler.CONSISTENCY_WEIGHT", weight)
        made = replace_sampler(network, 1, 0)
        optimiser = Optimiser(steps=60, learning_rate=1e-2)
        train_student(made.sampler, made.config.sampler_state, material, optimiser, 0)
        batch, state = make_batch(material, np.array([8])), torch.zeros(1, *made.config.sampler_state)
        with torch.no_grad():
            one, two = (
                score_view(made.sampler, drop_tokens(batch, config.memory_tokens), state)[0] for _ in range(2)
            )
        apart[weight] = float((one - two).abs().mean())
    assert apart[3.0] < 0.7 * apart[0.0]


def test_the_new_sampler_learns_to_keep_what_the_old_one_keeps():
    config = toy_config(dropout=0.0, image_size=56)
    network = make_untrained(config, 0)
    material = [record_targets(Model.from_network(network, _card(config.activities)), toy_cache(0))]
    assert material[0].margin.shape == (12, 110)
    made = replace_sampler(network, 1, 0)
    assert made.config.sampler == "s5"
    for name, value in network.reader.state_dict().items():
        assert torch.equal(made.reader.state_dict()[name], value)
    optimiser = Optimiser(steps=48, learning_rate=1e-2)
    losses = train_student(made.sampler, made.config.sampler_state, material, optimiser, 0)
    assert np.mean(losses[-12:]) < 0.7 * np.mean(losses[:12])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sampler": "s5", "sampler_layers": 1}, "must have a sampler of attention to learn from"),
        ({"context": ("svd", "text", "region")}, "no text or region context, it has text, region"),
    ],
)
def test_a_teacher_that_cannot_be_exchanged_is_refused_before_anything_is_read(tmp_path, change, said):
    bundle = edit_manifest(copy_bundle(tmp_path), lambda data: data["network"].update(change))
    rest = ["--data", "nowhere", "--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "run")]
    with pytest.raises(LvmError, match=f"{said}.*use lvm-train with configs/training/s5.yaml"):
        main(["--bundle", str(bundle), *rest])
    assert not (tmp_path / "run").exists() and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("context", [(), ("svd",)])
def test_attention_without_entries_can_teach(context):
    check_teacher(toy_config(context=context), Path("bundle"))
