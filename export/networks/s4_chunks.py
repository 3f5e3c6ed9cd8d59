"""S4D over chunks of tokens, with a state that comes in and goes out: matrix products and nothing else.

B batch, c chunks of M tokens, H channels, N states of a channel (real parts first), P = N / 2 pairs.

Within a chunk every output is a fixed combination of the chunk's inputs (a Toeplitz matrix) and of the states
at its edges; the states of all chunks follow from one another by doubling, in log2(c) steps. There is no FFT,
no complex number and no loop, so ONNX opset 17 can say it. What depends on the parameters alone, a backend
computes once, when it loads the graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from export.networks.s4 import S4D, exponents_of

LARGEST = 128
"""Most tokens of a chunk: within it the cost grows with its square, across chunks with their number."""


def chunk_size(tokens: int) -> int:
    """Largest divisor of `tokens` up to 128."""
    return max(size for size in range(1, min(tokens, LARGEST) + 1) if tokens % size == 0)


class Chunks:
    """One layer's matrices for chunks of `size` tokens."""

    def __init__(self, layer: S4D, size: int) -> None:
        self.layer, self.size = layer, size
        like = layer.log_step
        re, im = layer.powers(exponents_of(like, size + 1))  # (H, P, M + 1) of dA^0 .. dA^M
        in_re, in_im = (one[..., None] for one in layer.gain())
        enter_re, enter_im = in_re * re - in_im * im, in_re * im + in_im * re  # dB dA^j
        first = torch.cat([enter_re, enter_im], 1)[..., :size]  # (H, N, M), newest first
        leaving = [_read(layer, 0, re[..., 1:], im[..., 1:])]
        entering = [first.flip(-1)]
        if layer.two_sided:
            entering.append(first)
            leaving.append(_read(layer, 1, re[..., :size].flip(-1), im[..., :size].flip(-1)))
        self._enter = torch.cat(entering, 1)  # (H, sides N, M): inputs -> what they add to the states
        self._leave = torch.cat([self._within(), *leaving], 2)  # (H, M, M + sides N) -> outputs

    def _within(self) -> Tensor:
        """Inputs of a chunk to its outputs: (H, M, M), row = output."""
        layer, size = self.layer, self.size
        kernel = layer.kernel(size)  # (sides, H, M)
        at_once = kernel[0, :, :1] + layer.through[:, None]
        past, zero = kernel[0, :, 1:], torch.zeros_like(kernel[0, :, 1:])
        later = kernel[1, :, : size - 1].flip(-1) if layer.two_sided else zero
        line = torch.cat([later, at_once, past], 1)  # (H, 2 M - 1): lag -(M - 1) .. M - 1
        at = torch.arange(size, device=line.device)
        lag = (at[:, None] - at[None, :] + size - 1).reshape(-1)
        return line.index_select(1, lag).reshape(-1, size, size)

    def cut(self, u: Tensor) -> Tensor:
        """u (B, c M, H) -> (H, M, B c)"""
        batch, tokens, width = u.shape
        parts = u.reshape(batch, tokens // self.size, self.size, width)
        return parts.permute(3, 2, 0, 1).reshape(width, self.size, -1)

    def added(self, parts: Tensor, chunks: int) -> Tensor:
        """What each chunk adds to the states: (H, sides, N, B, c)."""
        sides = 2 if self.layer.two_sided else 1
        return (self._enter @ parts).reshape(self.layer.width, sides, self.layer.states, -1, chunks)

    def outputs(self, parts: Tensor, before: list[Tensor], chunks: int) -> Tensor:
        """y (B, c M, H) from inputs and states (H, N, B, c): those before, for two sides also those after."""
        edges = [one.reshape(self.layer.width, self.layer.states, -1) for one in before]
        y = self._leave @ torch.cat([parts, *edges], 1)  # (H, M, B c)
        y = y.reshape(self.layer.width, self.size, -1, chunks).permute(2, 3, 1, 0)
        return y.reshape(y.shape[0], chunks * self.size, self.layer.width)

    def across(self, added: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
        """States (H, N, B, c) before each chunk, first `start` (H, N, B, 1), and that after the last."""
        if start is None:
            start = added[..., :1] * 0
        x = torch.cat([start, added], -1)  # (H, N, B, c + 1)
        shift = 1
        while shift < x.shape[-1]:
            moved = self._turned(x[..., :-shift], shift)
            x = torch.cat([x[..., :shift], x[..., shift:] + moved], -1)
            shift *= 2
        return x[..., :-1], x[..., -1:]

    def faded(self, state: Tensor, chunks: int) -> Tensor:
        """What of a state (H, N, B, 1) is left before each of `chunks` chunks of silence: (H, N, B, c)."""
        re, im = self.layer.powers(exponents_of(self.layer.log_step, chunks) * self.size)  # (H, P, c)
        return _product(state, re[:, :, None], im[:, :, None])

    def _turned(self, x: Tensor, chunks: int) -> Tensor:
        """States (H, N, B, ...) `chunks` chunks of silence later."""
        exponent = self.layer.log_step.new_full((1,), float(chunks * self.size))
        re, im = self.layer.powers(exponent)  # (H, P, 1)
        return _product(x, re[..., None], im[..., None])


def stream(layer: S4D, u: Tensor, state: Tensor | None, size: int) -> tuple[Tensor, Tensor]:
    """A one-sided layer over u (B, L, H), L a multiple of `size`, from a state (B, H, N): y and the next one.

    Equal to `S4D.steps`, and to one pass over what came before and u together.
    """
    if layer.two_sided:
        raise ValueError("a stream knows no future: a one-sided layer expected, got a two-sided one")
    if u.shape[1] % size:
        raise ValueError(f"tokens must be a multiple of {size}, got {u.shape[1]}")
    chunks, form = u.shape[1] // size, Chunks(layer, size)
    parts = form.cut(u)
    start = None if state is None else state.permute(1, 2, 0)[..., None]
    before, after = form.across(form.added(parts, chunks)[:, 0], start)
    return form.outputs(parts, [before], chunks), after[..., 0].permute(2, 0, 1)


def _read(layer: S4D, side: int, re: Tensor, im: Tensor) -> Tensor:
    """2 Re(C dA^j x) as a matrix (H, M, N) on the states (re, im)."""
    c_re, c_im = layer.read[0, side][..., None], layer.read[1, side][..., None]
    of_re, of_im = c_re * re - c_im * im, c_re * im + c_im * re  # (H, P, M)
    return 2 * torch.cat([of_re, -of_im], 1).transpose(1, 2)


def _product(x: Tensor, re: Tensor, im: Tensor) -> Tensor:
    """Complex product of states (H, N, B, ...), real parts first, with numbers (H, P, 1, ...)."""
    pairs = re.shape[1]
    a, b = x[:, :pairs], x[:, pairs:]
    return torch.cat([a * re - b * im, a * im + b * re], 1)
