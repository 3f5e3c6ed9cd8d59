"""S4D in its three forms, and HiPPO-LegS: the same numbers whichever way they are computed."""

import numpy as np
import pytest
import torch

from export.networks.s4 import (
    S4D,
    choose_chunk_size,
    make_legs,
    make_legs_eigenvalues,
    make_lin_eigenvalues,
    run_stream,
)

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def _layer(dtype=torch.float64, **more) -> S4D:
    torch.manual_seed(0)
    return S4D(6, 16, **more).to(dtype)


def _inputs(tokens: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(3, tokens, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(
        dtype
    )


def test_legs_is_minus_half_and_a_skew_matrix_plus_rank_one():
    a, b = make_legs(16)
    p = np.sqrt(np.arange(16) + 0.5)
    normal = a + np.outer(p, p) + 0.5 * np.eye(16)
    assert np.abs(normal + normal.T).max() < 1e-12
    assert b[3] == pytest.approx(7**0.5) and a[2, 3] == 0 and a[3, 2] == pytest.approx(-(35**0.5))


def test_eigenvalues_of_legs_are_conjugate_pairs_with_real_part_minus_half():
    a, _ = make_legs(16)
    p = np.sqrt(np.arange(16) + 0.5)
    expected = np.linalg.eigvals(a + np.outer(p, p))
    found = make_legs_eigenvalues(16)
    assert len(found) == 8 and (found.imag > 0).all()
    assert np.allclose(np.sort_complex(np.concatenate([found, found.conj()])).imag, np.sort(expected.imag))
    assert np.allclose(expected.real, -0.5) and np.allclose(
        make_lin_eigenvalues(4), [-0.5, -0.5 + 1j * np.pi]
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("init", ["legs", "lin"])
def test_recurrence_convolution_and_chunks_agree(dtype, init):
    layer, u = _layer(dtype, init=init), _inputs(48, dtype)
    expected, after = layer.steps(u)
    for size in (1, 6, 16, 48):
        y, state = run_stream(layer, u, None, size)
        torch.testing.assert_close(y, expected, atol=TOLERANCE[dtype], rtol=0)
        torch.testing.assert_close(state, after, atol=TOLERANCE[dtype], rtol=0)
    torch.testing.assert_close(layer(u), expected, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_stream_in_parts_is_one_pass(dtype):
    layer, u = _layer(dtype), _inputs(60, dtype)
    state, found = None, []
    for part, size in zip(u.split([12, 40, 8], 1), (4, 10, 8), strict=True):
        y, state = run_stream(layer, part, state, size)
        found.append(y)
    torch.testing.assert_close(torch.cat(found, 1), layer(u), atol=TOLERANCE[dtype], rtol=0)
    torch.testing.assert_close(state, layer.steps(u)[1], atol=TOLERANCE[dtype], rtol=0)


def test_two_sides_by_convolution_are_two_recurrences():
    layer, u = _layer(two_sided=True), _inputs(30)
    torch.testing.assert_close(layer(u), layer.steps(u)[0], atol=1e-10, rtol=0)
    changed = u.clone()
    changed[:, 20:] += 1
    assert (layer(changed) - layer(u))[:, :20].abs().amin() > 1e-9  # each token sees what comes after


def test_one_side_never_sees_what_comes_after():
    layer, u = _layer(), _inputs(30)
    changed = u.clone()
    changed[:, 20:] += 1
    torch.testing.assert_close(layer.steps(changed)[0][:, :20], layer.steps(u)[0][:, :20], atol=0, rtol=0)


def test_a_state_fades_instead_of_growing_over_hours():
    layer = _layer(torch.float32)
    state = None
    for _ in range(200):
        _, state = run_stream(layer, torch.ones(3, 48, 6), state, 48)
    bound = 1 / layer.log_decay.exp().min()  # of a constant input: |B / A|
    assert state.abs().max() <= bound * 1.01


def test_chunks_are_the_largest_divisor_that_pays():
    assert [choose_chunk_size(n) for n in (294, 588, 5880, 30, 127, 131)] == [98, 98, 120, 30, 127, 1]


@pytest.mark.parametrize("states", [0, 1, 7])
def test_states_come_in_pairs(states):
    with pytest.raises(ValueError, match=f"even.*got {states}"):
        S4D(4, states)


def test_what_a_stream_cannot_be_is_said():
    with pytest.raises(ValueError, match="one-sided"):
        run_stream(_layer(two_sided=True), _inputs(8), None, 4)
    with pytest.raises(ValueError, match="multiple of 5, got 8"):
        run_stream(_layer(), _inputs(8), None, 5)
