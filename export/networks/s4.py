"""S4D: a state-space layer with a diagonal state matrix, in real arithmetic.

B batch, L tokens, H channels, N states of a channel, P = N / 2 conjugate pairs of them, J exponents.

x' = A x + u, y = 2 Re(C x) + D u for each channel and pair, in steps of dt with the input held between
them (ZOH): x_k = dA x_{k-1} + dB u_k with dA = exp(dt A), dB = (dA - 1) / A (Gu et al., S4D, 2022). Complex
numbers are pairs of real numbers, since neither ONNX nor any edge backend has them.
One layer, computed in three ways that give the same numbers:

`forward`     convolution with the kernel by FFT: training on whole sequences
`steps`       the recurrence, token by token: the definition
`Chunks`      matrix products over chunks of tokens, with a state that comes in and goes out: streams, export

`Chunks`: c chunks of M tokens. Within a chunk every output is a fixed combination of the chunk's inputs (a
Toeplitz matrix) and of the states at its edges; the states of all chunks follow from one another by doubling,
in log2(c) steps. There is no FFT, no complex number and no loop, so ONNX opset 17 can express it. A backend
computes what depends on the parameters alone once, when it loads the graph.

A two-sided layer has a second C for what comes after a token, as S4's bidirectional form.

Layers begin with HiPPO-LegS: x' = A x + B u with A_nk = -sqrt((2n+1)(2k+1)) below the diagonal, -(n+1) on it,
0 above, and B_n = sqrt(2n+1) (Gu et al., "HiPPO", 2020). A + P P^T with P_n = sqrt(n + 1/2) is -1/2 I plus a
skew matrix, so its eigenvalues have real part -1/2: these are what S4D-LegS keeps (Gu et al., "On the
Parameterization and Initialization of Diagonal State Space Models", 2022).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Real = NDArray[np.float64]
Init = Literal["legs", "lin"]
STEP_RANGE = (1e-3, 1e-1)
"""Range of dt, drawn log-uniformly: memories of about 20 to 2,000 tokens."""
DYNAMICS = ("log_step", "log_decay", "frequency")
"""Parameters that set how long and at which frequencies a layer remembers; they get no weight decay."""
MAX_CHUNK = 128
"""Maximum tokens of a chunk: the cost grows with the square of a chunk and with the number of chunks."""


def make_legs(states: int) -> tuple[Real, Real]:
    """Return A (N, N) and B (N,) of HiPPO-LegS."""
    root = np.sqrt(2 * np.arange(states) + 1.0)
    a = -np.tril(np.outer(root, root), -1) - np.diag(np.arange(states) + 1.0)
    return a, root


def make_legs_eigenvalues(states: int) -> NDArray[np.complex128]:
    """Return the N / 2 eigenvalues with positive imaginary part of LegS's normal part, in order. N
    is even."""
    a, _ = make_legs(states)
    p = np.sqrt(np.arange(states) + 0.5)
    normal = a + np.outer(p, p)  # -1/2 I + skew
    skew = normal + 0.5 * np.eye(states)
    imaginary = np.linalg.eigvalsh(-1j * skew)
    return np.asarray(-0.5 + 1j * np.sort(imaginary[imaginary > 0]))


def make_lin_eigenvalues(states: int) -> NDArray[np.complex128]:
    """Return the eigenvalues of S4D-Lin: -1/2 + i pi n for n below N / 2."""
    return np.asarray(-0.5 + 1j * np.pi * np.arange(states // 2))


class S4D(nn.Module):
    """State-space layer; `states` N is even. Every channel begins with the same eigenvalues and learns its
    own."""

    def __init__(self, width: int, states: int = 16, *, init: Init = "legs", two_sided: bool = False) -> None:
        super().__init__()
        if states < 2 or states % 2:
            raise ValueError(f"states must be even and at least 2, got {states}")
        pairs = states // 2
        eigenvalues = {"legs": make_legs_eigenvalues, "lin": make_lin_eigenvalues}[init](states)
        low, high = (math.log(bound) for bound in STEP_RANGE)
        self.width, self.states, self.two_sided = width, states, two_sided
        self.log_step = nn.Parameter(torch.rand(width) * (high - low) + low)  # (H,)
        self.log_decay = nn.Parameter(
            torch.tensor(-eigenvalues.real).log().float().repeat(width, 1)
        )  # (H, P)
        self.frequency = nn.Parameter(torch.tensor(eigenvalues.imag).float().repeat(width, 1))  # (H, P)
        sides = 2 if two_sided else 1
        self.read = nn.Parameter(torch.randn(2, sides, width, pairs) * 0.5**0.5)  # re, im of C
        self.through = nn.Parameter(torch.randn(width))  # D (H,)

    def forward(self, u: Tensor) -> Tensor:
        """Compute y (B, L, H) from u (B, L, H) and a zero state, by FFT."""
        length = u.shape[1]
        kernel = self.compute_kernel(length)  # (sides, H, L)
        whole = nn.functional.pad(kernel[0], (0, length))  # (H, 2 L)
        if self.two_sided:
            whole = whole + nn.functional.pad(kernel[1].flip(-1), (length, 0))
        x = u.transpose(1, 2)  # (B, H, L)
        y = torch.fft.irfft(torch.fft.rfft(x, n=2 * length) * torch.fft.rfft(whole), n=2 * length)
        out: Tensor = y[..., :length] + x * self.through[:, None]
        return out.transpose(1, 2)

    def steps(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the recurrence: u (B, L, H) and a state (B, H, N) -> y (B, L, H) and the next state.

        The other side of a two-sided layer runs from the end, from a zero state.
        """
        y, state = self._run(u, state, 0)
        if self.two_sided:
            # What comes after a token begins with the next one.
            later = nn.functional.pad(u, (0, 0, 0, 1))[:, 1:].flip(1)
            y = y + self._run(later, None, 1)[0].flip(1)
        return y + u * self.through, state

    def _run(self, u: Tensor, state: Tensor | None, side: int) -> tuple[Tensor, Tensor]:
        (re, im), (in_re, in_im) = self.compute_powers(u.new_ones(1)), self.compute_gain()
        re, im = re[..., 0], im[..., 0]  # (H, P)
        c_re, c_im = self.read[0, side], self.read[1, side]
        zero = u.new_zeros(u.shape[0], self.width, self.states)
        x, z = (zero if state is None else state).chunk(2, dim=-1)  # (B, H, P) each
        outputs = []
        for k in range(u.shape[1]):
            value = u[:, k, :, None]
            x, z = re * x - im * z + in_re * value, im * x + re * z + in_im * value
            outputs.append(2 * (c_re * x - c_im * z).sum(-1))
        return torch.stack(outputs, 1), torch.cat([x, z], -1)

    # -- what all forms share ------------------------------------------------------------------------------

    def compute_powers(self, exponents: Tensor) -> tuple[Tensor, Tensor]:
        """Return the real and imaginary part of dA^j for exponents (J,): (H, P, J) each."""
        step = self.log_step.exp()[:, None, None]
        size = (-self.log_decay.exp()[..., None] * step * exponents).exp()
        angle = self.frequency[..., None] * step * exponents
        return size * angle.cos(), size * angle.sin()

    def compute_gain(self) -> tuple[Tensor, Tensor]:
        """Return the real and imaginary part of dB = (dA - 1) / A: (H, P) each."""
        re, im = self.compute_powers(self.log_step.new_ones(1))
        re, im = re[..., 0] - 1, im[..., 0]
        a, w = -self.log_decay.exp(), self.frequency
        square = a * a + w * w
        return (re * a + im * w) / square, (im * a - re * w) / square

    def compute_kernel(self, length: int) -> Tensor:
        """Return 2 Re(C dB dA^j) for j below `length`: (sides, H, L)."""
        (re, im), (in_re, in_im) = (
            self.compute_powers(make_exponents(self.log_step, length)),
            self.compute_gain(),
        )
        c_re, c_im = self.read[0], self.read[1]  # (sides, H, P)
        of_re, of_im = c_re * in_re - c_im * in_im, c_re * in_im + c_im * in_re
        kernel = of_re[:, :, None] @ re - of_im[:, :, None] @ im  # (sides, H, 1, L)
        return 2 * kernel[:, :, 0]


def make_exponents(like: Tensor, length: int, start: int = 0) -> Tensor:
    """Return start, start + 1, ... as numbers of the type of `like`. (length,)"""
    return torch.arange(start, start + length, device=like.device).to(like.dtype)


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
