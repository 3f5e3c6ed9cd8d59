"""S4D over chunks of tokens, with a state that comes in and goes out, in matrix products only.

B batch, c chunks of M tokens, H channels, N states of a channel (real parts first), P = N / 2 pairs.

Within a chunk every output is a fixed combination of the chunk's inputs (a Toeplitz matrix) and of the states
at its edges; the states of all chunks follow from one another by doubling, in log2(c) steps. There is no FFT,
no complex number and no loop, so ONNX opset 17 can express it. A backend computes what depends on the
parameters alone once, when it loads the graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from export.networks.s4 import S4D, make_exponents

MAX_CHUNK = 128
"""Maximum tokens of a chunk: the cost grows with the square of a chunk and with the number of chunks."""


def choose_chunk_size(tokens: int) -> int:
    """Return the largest divisor of `tokens` up to 128."""
    return max(size for size in range(1, min(tokens, MAX_CHUNK) + 1) if tokens % size == 0)


class Chunks:
    """The matrices of one layer for chunks of `size` tokens."""

    def __init__(self, layer: S4D, size: int) -> None:
        self.layer, self.size = layer, size
        like = layer.log_step
        re, im = layer.compute_powers(make_exponents(like, size + 1))  # (H, P, M + 1) of dA^0 .. dA^M
        in_re, in_im = (part[..., None] for part in layer.compute_gain())
        enter_re, enter_im = in_re * re - in_im * im, in_re * im + in_im * re  # dB dA^j
        first = torch.cat([enter_re, enter_im], 1)[..., :size]  # (H, N, M), newest first
        leaving = [_make_readout(layer, 0, re[..., 1:], im[..., 1:])]
        entering = [first.flip(-1)]
        if layer.two_sided:
            entering.append(first)
            leaving.append(_make_readout(layer, 1, re[..., :size].flip(-1), im[..., :size].flip(-1)))
        self._enter = torch.cat(entering, 1)  # (H, sides N, M): inputs -> what they add to the states
        self._leave = torch.cat([self._make_toeplitz(), *leaving], 2)  # (H, M, M + sides N) -> outputs

    def _make_toeplitz(self) -> Tensor:
        """Return the matrix from inputs of a chunk to its outputs: (H, M, M), row = output."""
        layer, size = self.layer, self.size
        kernel = layer.compute_kernel(size)  # (sides, H, M)
        at_once = kernel[0, :, :1] + layer.through[:, None]
        past, zero = kernel[0, :, 1:], torch.zeros_like(kernel[0, :, 1:])
        later = kernel[1, :, : size - 1].flip(-1) if layer.two_sided else zero
        line = torch.cat([later, at_once, past], 1)  # (H, 2 M - 1): lag -(M - 1) .. M - 1
        at = torch.arange(size, device=line.device)
        lag = (at[:, None] - at[None, :] + size - 1).reshape(-1)
        return line.index_select(1, lag).reshape(-1, size, size)

    def split(self, u: Tensor) -> Tensor:
        """Split u (B, c M, H) into chunks (H, M, B c)."""
        batch, tokens, width = u.shape
        parts = u.reshape(batch, tokens // self.size, self.size, width)
        return parts.permute(3, 2, 0, 1).reshape(width, self.size, -1)

    def add_inputs(self, parts: Tensor, chunks: int) -> Tensor:
        """Return what each chunk adds to the states: (H, sides, N, B, c)."""
        sides = 2 if self.layer.two_sided else 1
        return (self._enter @ parts).reshape(self.layer.width, sides, self.layer.states, -1, chunks)

    def outputs(self, parts: Tensor, before: list[Tensor], chunks: int) -> Tensor:
        """Compute y (B, c M, H) from inputs and the states (H, N, B, c) before each chunk, with two sides
        also those after."""
        edges = [states.reshape(self.layer.width, self.layer.states, -1) for states in before]
        y = self._leave @ torch.cat([parts, *edges], 1)  # (H, M, B c)
        y = y.reshape(self.layer.width, self.size, -1, chunks).permute(2, 3, 1, 0)
        return y.reshape(y.shape[0], chunks * self.size, self.layer.width)

    def scan(self, added: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the states (H, N, B, c) before each chunk, beginning with `start` (H, N, B, 1), and the
        state after the last."""
        if start is None:
            start = added[..., :1] * 0
        x = torch.cat([start, added], -1)  # (H, N, B, c + 1)
        shift = 1
        while shift < x.shape[-1]:
            moved = self._advance(x[..., :-shift], shift)
            x = torch.cat([x[..., :shift], x[..., shift:] + moved], -1)
            shift *= 2
        return x[..., :-1], x[..., -1:]

    def decay(self, state: Tensor, chunks: int) -> Tensor:
        """Return what is left of a state (H, N, B, 1) before each of `chunks` chunks of silence: (H, N, B,
        c)."""
        re, im = self.layer.compute_powers(
            make_exponents(self.layer.log_step, chunks) * self.size
        )  # (H, P, c)
        return _multiply_complex(state, re[:, :, None], im[:, :, None])

    def _advance(self, x: Tensor, chunks: int) -> Tensor:
        """Return states (H, N, B, ...) after `chunks` chunks of silence."""
        exponent = self.layer.log_step.new_full((1,), float(chunks * self.size))
        re, im = self.layer.compute_powers(exponent)  # (H, P, 1)
        return _multiply_complex(x, re[..., None], im[..., None])


def run_stream(layer: S4D, u: Tensor, state: Tensor | None, size: int) -> tuple[Tensor, Tensor]:
    """Run a one-sided layer over u (B, L, H), L a multiple of `size`, from a state (B, H, N). Return y and
    the next state.

    Equal to `S4D.steps`, and to one pass over the earlier tokens and u together.
    """
    if layer.two_sided:
        raise ValueError("a stream knows no future: a one-sided layer expected, got a two-sided one")
    if u.shape[1] % size:
        raise ValueError(f"tokens must be a multiple of {size}, got {u.shape[1]}")
    chunks, form = u.shape[1] // size, Chunks(layer, size)
    parts = form.split(u)
    start = None if state is None else state.permute(1, 2, 0)[..., None]
    before, after = form.scan(form.add_inputs(parts, chunks)[:, 0], start)
    return form.outputs(parts, [before], chunks), after[..., 0].permute(2, 0, 1)


def _make_readout(layer: S4D, side: int, re: Tensor, im: Tensor) -> Tensor:
    """Return 2 Re(C dA^j x) as a matrix (H, M, N) on the states (re, im)."""
    c_re, c_im = layer.read[0, side][..., None], layer.read[1, side][..., None]
    of_re, of_im = c_re * re - c_im * im, c_re * im + c_im * re  # (H, P, M)
    return 2 * torch.cat([of_re, -of_im], 1).transpose(1, 2)


def _multiply_complex(x: Tensor, re: Tensor, im: Tensor) -> Tensor:
    """Multiply states (H, N, B, ...), real parts first, by complex numbers (H, P, 1, ...)."""
    pairs = re.shape[1]
    a, b = x[:, :pairs], x[:, pairs:]
    return torch.cat([a * re - b * im, a * im + b * re], 1)
