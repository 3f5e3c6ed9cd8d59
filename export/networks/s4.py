"""S4D: a state-space layer with a diagonal state matrix, in real arithmetic.

B batch, L tokens, H channels, N states of a channel, P = N / 2 conjugate pairs of them, J exponents.

x' = A x + u, y = 2 Re(C x) + D u for each channel and pair, in steps of dt with the input held between
them (ZOH): x_k = dA x_{k-1} + dB u_k with dA = exp(dt A), dB = (dA - 1) / A (Gu et al., S4D, 2022). Complex
numbers are pairs of real numbers, since neither ONNX nor any edge backend has them.
One layer, computed in three ways that give the same numbers:

`forward`     convolution with the kernel by FFT: training on whole sequences
`steps`       the recurrence, token by token: the definition
`s4_chunks`   matrix products over chunks of tokens, with a state that comes in and goes out: streams, export

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


Init = Literal["legs", "lin"]
STEP_RANGE = (1e-3, 1e-1)
"""Range of dt, drawn log-uniformly: memories of about 20 to 2,000 tokens."""
DYNAMICS = ("log_step", "log_decay", "frequency")
"""Parameters that set how long and at which frequencies a layer remembers; they get no weight decay."""


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
