"""OnlineSVD against numpy's full SVD: tolerances are ten times what a prototype measured."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.memory.online_svd import OnlineSVD, _split_fast


def _projector(basis):
    return basis.T @ basis


def _fed(rows, size, **options):
    svd = OnlineSVD.empty(options.pop("rank", rows.shape[1]), rows.shape[1], **options)
    for start in range(0, len(rows), size):
        svd = svd.update(rows[start : start + size])
    return svd


@pytest.mark.parametrize("size", [1, 7, 16, 60])
def test_without_truncation_it_equals_the_batch_svd(size):
    rows = np.random.default_rng(0).normal(size=(120, 40))
    svd = _fed(rows, size)
    _, values, right = np.linalg.svd(rows, full_matrices=False)
    assert np.abs(svd.strength - values).max() < 4e-13 * 10
    assert np.abs(_projector(svd.basis) - _projector(right)).max() < 2e-14 * 10


def test_forgetting_equals_the_batch_svd_of_weighted_rows():
    rows = np.random.default_rng(1).normal(size=(96, 40))
    svd = _fed(rows, 8, forgetting=0.9)
    age = (len(rows) - 1 - np.arange(len(rows))) // 8
    values = np.linalg.svd(rows * 0.9 ** age[:, None], compute_uv=False)
    assert np.abs(svd.strength - values).max() < 1e-13 * 10


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 7e-13), (np.float32, 3.1e-5)])
def test_the_basis_stays_orthonormal_over_5000_truncated_updates(dtype, tolerance):
    rng = np.random.default_rng(2)
    svd = OnlineSVD.empty(10, 64, forgetting=0.988, dtype=dtype)
    for _ in range(5000):
        svd = svd.update(rng.normal(size=(4, 64)).astype(dtype))
    assert np.abs(svd.basis @ svd.basis.T - np.eye(10)).max() < tolerance


def test_a_planted_subspace_is_tracked():
    rng = np.random.default_rng(3)
    planted = np.linalg.qr(rng.normal(size=(128, 8)))[0].T  # (8, 128)
    svd = OnlineSVD.empty(8, 128, forgetting=0.95)
    for _ in range(200):
        svd = svd.update(rng.normal(size=(16, 8)) @ planted * 3 + rng.normal(size=(16, 128)) * 0.05)
    cosines = np.linalg.svd(svd.basis @ planted.T, compute_uv=False)
    assert cosines.min() > 0.999


def test_float32_stays_near_float64_over_1000_clips():
    rng = np.random.default_rng(4)
    planted = np.linalg.qr(rng.normal(size=(128, 10)))[0].T * np.linspace(6, 3, 10)[:, None]
    wide, narrow = (
        OnlineSVD.empty(10, 128, forgetting=0.988, dtype=kind) for kind in (np.float64, np.float32)
    )
    for _ in range(1000):
        rows = rng.normal(size=(16, 10)) @ planted + rng.normal(size=(16, 128)) * 0.1
        wide, narrow = wide.update(rows), narrow.update(rows.astype(np.float32))
    assert np.abs(_projector(wide.basis) - _projector(narrow.basis)).max() < 1e-3


@given(
    n=st.integers(1, 30),
    d=st.integers(1, 20),
    rank=st.integers(1, 12),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.0, 1e-12, 1.0, 1e6]),
)
@settings(max_examples=150, deadline=None)
def test_any_shape_and_scale_keeps_an_orthonormal_bounded_basis(n, d, rank, seed, scale):
    rng = np.random.default_rng(seed)
    svd = OnlineSVD.empty(rank, d)
    for _ in range(4):
        svd = svd.update(rng.normal(size=(n, d)) * scale)
        assert svd.basis.shape == (len(svd.strength), d)
        assert len(svd.strength) <= min(rank, d)
        assert (np.diff(svd.strength) <= 1e-12 * max(1.0, scale)).all()
        assert np.abs(svd.basis @ svd.basis.T - np.eye(len(svd.basis))).max(initial=0) < 1e-9


def test_rows_inside_the_span_add_no_direction():
    rng = np.random.default_rng(5)
    basis = rng.normal(size=(3, 50))
    svd = OnlineSVD.empty(10, 50)
    for _ in range(5):
        svd = svd.update(rng.normal(size=(8, 3)) @ basis)
    assert len(svd.strength) == 3


def test_projection_is_idempotent_and_residual_is_what_is_left():
    rng = np.random.default_rng(6)
    svd = _fed(rng.normal(size=(40, 30)), 8, rank=5)
    rows = rng.normal(size=(7, 30))
    once = svd.project(rows)
    assert np.abs(svd.project(once) - once).max() < 1e-13
    assert np.allclose(svd.residual(rows), np.linalg.norm(rows - once, axis=1), atol=1e-13)


def test_rows_nearly_inside_the_basis_are_split_by_a_second_round():
    rng = np.random.default_rng(10)
    basis = np.linalg.qr(rng.normal(size=(40, 5)))[0].T
    rows = rng.normal(size=(6, 5)) @ basis + rng.normal(size=(6, 40)) * 1e-3
    split = _split_fast(basis, rows)
    assert split is not None
    new = split.by_basis @ basis + split.by_rows @ split.rows
    both = np.concatenate([basis, new])
    assert np.abs(both @ both.T - np.eye(11)).max() < 1e-12
    assert np.allclose(split.within @ basis + split.coefficients @ new, rows, atol=1e-12)


def test_signs_do_not_jump_between_updates():
    rng = np.random.default_rng(7)
    planted = np.diag([9.0, 5.0, 2.5]) @ np.linalg.qr(rng.normal(size=(40, 3)))[0].T
    svd = OnlineSVD.empty(3, 40, forgetting=0.95)
    for step in range(60):
        after = svd.update(rng.normal(size=(16, 3)) @ planted)
        if step > 5:
            assert (np.diagonal(after.basis @ svd.basis.T) > 0).all()
        svd = after


@pytest.mark.parametrize(
    ("rank", "width", "forgetting"), [(0, 6, 1.0), (3, 0, 1.0), (3, 6, 0.0), (3, 6, 1.01), (3, 6, np.nan)]
)
def test_each_number_of_an_empty_state_is_checked(rank, width, forgetting):
    with pytest.raises(ValueError, match="rank and width must be >= 1 and forgetting in"):
        OnlineSVD.empty(rank, width, forgetting=forgetting)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_rows_are_refused_and_the_state_is_kept(bad):
    svd = _fed(np.random.default_rng(8).normal(size=(8, 6)), 4, rank=3)
    rows = np.zeros((2, 6))
    rows[1, 2] = bad
    before = svd.basis.copy()
    with pytest.raises(ValueError, match="finite"):
        svd.update(rows)
    with pytest.raises(ValueError, match=r"\(n, 6\)"):
        svd.update(np.zeros((2, 5)))
    assert (svd.basis == before).all()


def test_the_summary_feature_does_not_grow_with_time():
    rng = np.random.default_rng(9)
    svd, seen = OnlineSVD.empty(4, 20), []
    for _ in range(400):
        svd = svd.update(rng.normal(size=(8, 20)))
        seen.append(svd.summary_strength()[0])
    assert abs(seen[-1] - seen[40]) < 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_decomposition_that_does_not_converge_is_tried_the_other_way(dtype, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(5, 8, 24)).astype(dtype)
    svd, expected = (OnlineSVD.empty(6, 24, forgetting=0.9, dtype=dtype) for _ in range(2))
    for batch in rows:
        expected = expected.update(batch)
    decompose, failures = np.linalg.svd, []

    def fails_first(matrix, **options):
        failures.append(len(failures) % 2 == 0)
        if failures[-1]:
            raise np.linalg.LinAlgError("SVD did not converge")
        return decompose(matrix, **options)

    monkeypatch.setattr(np.linalg, "svd", fails_first)
    for batch in rows:
        svd = svd.update(batch)
    assert sum(failures) == len(rows)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(svd.strength, expected.strength, rtol=tolerance)
    np.testing.assert_allclose(svd.basis, expected.basis, atol=tolerance * 10)
