"""Choosing k of n with a gradient."""

import numpy as np
import pytest
import torch

from export.training.lvm.relaxed_topk import (
    capped_simplex,
    gumbel_like,
    straight_through_bias,
)


def keys_of(*shape, scale=2.0, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * scale


def everything(keys):
    return torch.ones_like(keys, dtype=torch.bool)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.5])
@pytest.mark.parametrize(("n", "k"), [(20, 1), (20, 5), (20, 19), (1000, 600)])
def test_entries_lie_between_0_and_1_and_sum_to_k(n, k, temperature):
    keys = keys_of(3, n, dtype=torch.float64)
    a = capped_simplex(keys, k, temperature, everything(keys))
    torch.testing.assert_close(a.sum(1), torch.full((3,), float(k), dtype=a.dtype), rtol=0, atol=1e-6)
    assert ((a > 0) & (a < 1)).all()


def test_float32_sums_to_k_too():
    keys = keys_of(4, 882, scale=5.0)
    a = capped_simplex(keys, 588, 1.0, everything(keys))
    assert (a.sum(1) - 588).abs().max() < 0.01


def test_far_apart_keys_still_sum_to_k():
    keys = torch.tensor([[-500.0, -3.0, 0.0, 2.0, 800.0]])
    a = capped_simplex(keys, 2, 1.0, everything(keys))
    torch.testing.assert_close(a.sum(), torch.tensor(2.0), rtol=0, atol=1e-3)


def test_a_higher_key_has_a_higher_entry():
    keys = keys_of(1, 50, dtype=torch.float64)
    a = capped_simplex(keys, 10, 1.0, everything(keys))
    assert torch.equal(a.argsort(), keys.argsort())


def test_the_gradient_is_that_of_finite_differences():
    keys, valid = keys_of(2, 9, dtype=torch.float64), torch.ones(2, 9, dtype=torch.bool)
    valid[1, 3] = False

    def weighted(keys):
        return (
            capped_simplex(keys, 4, 0.7, valid) * torch.arange(18.0, dtype=torch.float64).view(2, 9)
        ).sum()

    exact = keys.clone().requires_grad_()
    weighted(exact).backward()
    step = 1e-4
    for row, column in np.ndindex(2, 9):
        moved = torch.zeros_like(keys)
        moved[row, column] = step
        difference = float(weighted(keys + moved) - weighted(keys - moved)) / (2 * step)
        assert float(exact.grad[row, column]) == pytest.approx(difference, abs=1e-5)


def test_the_sum_has_no_gradient():
    keys = keys_of(1, 30, dtype=torch.float64).requires_grad_()
    capped_simplex(keys, 12, 1.0, everything(keys)).sum().backward()
    assert keys.grad.abs().max() < 1e-9


def test_invalid_candidates_get_nothing_and_no_gradient():
    keys = keys_of(1, 10).requires_grad_()
    valid = torch.arange(10)[None] < 6
    a = capped_simplex(keys, 3, 1.0, valid)
    assert (a[~valid] == 0).all()
    torch.testing.assert_close(a.sum(), torch.tensor(3.0), rtol=0, atol=1e-4)
    (a * torch.arange(10.0)).sum().backward()
    assert (keys.grad[~valid] == 0).all() and keys.grad[valid].abs().min() > 0


@pytest.mark.parametrize("count", [0, 1, 4])
def test_where_no_more_than_k_are_valid_all_of_them_are_chosen(count):
    keys = keys_of(1, 10).requires_grad_()
    valid = torch.arange(10)[None] < count
    a = capped_simplex(keys, 4, 1.0, valid)
    assert torch.equal(a, valid.float())
    a.sum().backward()
    assert torch.isfinite(keys.grad).all()


def test_what_an_invalid_key_holds_changes_nothing():
    keys = keys_of(1, 10)
    valid = torch.arange(10)[None] != 4
    wild = keys.masked_fill(~valid, 1e6)
    assert torch.equal(capped_simplex(keys, 3, 1.0, valid), capped_simplex(wild, 3, 1.0, valid))


def test_gumbel_noise_has_its_mean_and_deviation():
    torch.manual_seed(0)
    noise = gumbel_like(torch.zeros(200_000))
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.01)
    assert float(noise.std()) == pytest.approx(np.pi / np.sqrt(6), abs=0.01)


def test_gumbel_top_1_is_drawn_by_softmax():
    torch.manual_seed(0)
    scores = torch.tensor([0.0, 1.0, -1.0, 2.0])
    many = scores.expand(40_000, 4)
    first = (many + gumbel_like(many)).argmax(1)
    shares = torch.bincount(first, minlength=4) / len(many)
    torch.testing.assert_close(shares, scores.softmax(0), rtol=0, atol=0.01)


def test_gumbel_top_2_is_drawn_without_replacement():
    """P(i in top 2) = p_i + sum over j of p_j p_i / (1 - p_j)."""
    torch.manual_seed(0)
    scores = torch.tensor([0.0, 1.0, -1.0, 2.0])
    many = scores.expand(40_000, 4)
    chosen = (many + gumbel_like(many)).topk(2, 1).indices
    found = torch.bincount(chosen.flatten(), minlength=4) / len(many)
    p = scores.softmax(0)
    second = torch.stack([sum(p[j] * p[i] / (1 - p[j]) for j in range(4) if j != i) for i in range(4)])
    torch.testing.assert_close(found, p + second, rtol=0, atol=0.015)


def test_the_bias_is_nothing_forward_and_the_gradient_of_the_logarithm_backward():
    a = torch.tensor([0.2, 0.5, 0.9], requires_grad=True)
    bias = straight_through_bias(a)
    assert torch.equal(bias.detach(), torch.zeros(3))
    bias.sum().backward()
    torch.testing.assert_close(a.grad, 1 / a.detach())


def test_the_bias_of_what_was_never_chosen_is_finite():
    a = torch.zeros(3, requires_grad=True)
    straight_through_bias(a).sum().backward()
    assert torch.isfinite(a.grad).all()
