"""Parts of a network that are replaced by noise of the same shape."""

import numpy as np
import pytest
import torch

from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Version
from engines.errors import LvmError
from engines.fake import FakeEngine
from engines.spec import TensorSpec
from export.evaluation.ablations import PARTS, RandomSummary, replace_by_noise
from export.evaluation.stream_run import Model, build_memory
from tests.support.evaluation_videos import cache, trained_like


def version_of(model: Model) -> Version:
    return build_memory(model, cache(), make_sampler("neural", model.sampler))


def test_the_summary_becomes_random_orthonormal_rows_of_the_true_strengths() -> None:
    asked = []
    specs = (TensorSpec("svd_basis", "float32", ("B", 3, 8)), TensorSpec("svd_strength", "float32", ("B", 3)))

    def answer(feeds):  # type: ignore[no-untyped-def]
        asked.append(feeds)
        return {"out": np.zeros((len(feeds["svd_basis"]), 1), np.float32)}

    reader = RandomSummary(FakeEngine(answer, specs, (TensorSpec("out", "float32", ("B", 1)),)))
    true = np.eye(3, 8, dtype=np.float32)[None].repeat(2, 0)
    strength = np.array([[0.9, 0.1, 0.0]] * 2, np.float32)
    reader({"svd_basis": true, "svd_strength": strength})
    (got,) = asked
    rows = got["svd_basis"][0, :2]
    np.testing.assert_allclose(rows @ rows.T, np.eye(2), atol=1e-6)
    assert np.abs(rows - true[0, :2]).max() > 0.1
    assert (got["svd_basis"][:, 2] == true[:, 2]).all() and (got["svd_strength"] == strength).all()


def test_novelty_is_dealt_out_again_and_nothing_else_of_the_background_changes() -> None:
    network, card = trained_like()
    model = Model.from_network(network, card)
    true = version_of(model)
    with replace_by_noise(model, network, "novelty") as noisy:
        other = version_of(noisy)
    assert true.background is not None and other.background is not None
    np.testing.assert_array_equal(true.background.svd.basis, other.background.svd.basis)
    np.testing.assert_array_equal(true.background.cell_means, other.background.cell_means)
    assert not np.array_equal(true.memory.tick, other.memory.tick)
    residual, cell = np.linspace(0, 9, 49, dtype=np.float32), np.arange(49, dtype=np.int32)
    before, after = (one.background.standardise(residual, cell) for one in (true, other))  # type: ignore[union-attr]
    assert (np.sort(before) == np.sort(after)).all() and (before != after).any()


@pytest.mark.parametrize("part", ["order", "likeness"])
def test_a_module_says_of_tokens_what_it_would_say_of_others_until_the_end(part: str) -> None:
    network, card = trained_like(order=True, likeness=True)
    module = network.reader.order if part == "order" else network.reader.embed.likeness
    assert module is not None
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    tokens = torch.randn(1, 6, network.config.d_model)
    if part == "order":
        inputs = (tokens, torch.arange(6)[None] * 10, torch.ones(1, 6), torch.ones(1, 6, dtype=torch.bool))
    else:
        inputs = (
            torch.randn(1, 6, network.config.d_backbone),
            module.embed(torch.randn(1, network.config.d_backbone)),
        )  # type: ignore[operator]
    true = module(*inputs)
    with replace_by_noise(Model.from_network(network, card), network, part):
        noisy = module(*inputs)
    assert not torch.equal(true, noisy)
    assert torch.equal(true.sum(-1).sort().values, noisy.sum(-1).sort().values)
    assert torch.equal(module(*inputs), true)


def test_without_spread_the_best_scores_stay() -> None:
    network, card = trained_like(spread=True)
    with replace_by_noise(Model.from_network(network, card), network, "spread") as noisy:
        assert noisy.network.spread is False


def test_what_is_not_there_cannot_be_replaced() -> None:
    network, card = trained_like()
    model = Model.from_network(network, card)
    with pytest.raises(LvmError, match="no part 'order'"), replace_by_noise(model, network, "order"):
        pass
    with pytest.raises(LvmError, match=f"one of {', '.join(PARTS)}, got 'luck'"):
        with replace_by_noise(model, network, "luck"):
            pass
