"""Codes of ticks and cells."""

import math

import numpy as np
import pytest
import torch

from export.networks.positions import CellCode, TickCode, encode_cells, make_cell_table


def exact_code(ticks: np.ndarray, width: int, base: float) -> np.ndarray:
    """(N, d) in float64."""
    phase = ticks[:, None] * base ** -(np.arange(0, width, 2) / width)
    return np.stack((np.sin(phase), np.cos(phase)), -1).reshape(len(ticks), width)


@pytest.mark.parametrize("base", [10_000.0, 115_000.0])
def test_tick_code_stays_exact_after_ten_hours(base: float) -> None:
    ticks = np.array([0, 1, 5, 511, 512, 17_999, 179_999, 180_000])
    code = TickCode(64, base)(torch.tensor(ticks, dtype=torch.int32)[None])[0].numpy()
    worst = np.abs(code - exact_code(ticks, 64, base)).max()
    assert worst < 1e-3, worst


def test_tick_code_feeds_small_arguments_to_the_sine(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    sine = torch.sin
    monkeypatch.setattr(torch, "sin", lambda phase: seen.append(phase) or sine(phase))
    TickCode(32, 10_000.0)(torch.tensor([[0, 180_000, 2**24]], dtype=torch.int32))
    assert 0 <= float(seen[0].min()) and float(seen[0].max()) <= 2 * math.pi


def test_longest_wavelength_reaches_base() -> None:
    code = TickCode(512, 115_000.0)
    assert float(1 / code.turns_low[-1]) > 0.9 * 2 * math.pi * 115_000


def test_cell_code_has_y_in_its_first_half_and_x_in_its_second() -> None:
    table = make_cell_table(32).reshape(7, 7, 32)
    assert torch.equal(table[3, 0, :16], table[3, 6, :16])
    assert torch.equal(table[0, 5, 16:], table[6, 5, 16:])
    assert len(torch.unique(table.reshape(49, 32), dim=0)) == 49
    assert torch.allclose(table[6, 6, :2], torch.tensor([math.sin(2 * math.pi), 1.0]), atol=1e-6)


def test_cell_of_an_empty_slot_may_be_anything() -> None:
    hot = encode_cells(torch.tensor([[48, -1, 200]], dtype=torch.int32))
    code = CellCode(16)(hot)
    assert torch.equal(code[0, 0], make_cell_table(16)[48])
    assert not code[0, 1:].any()
