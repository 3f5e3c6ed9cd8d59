"""Relax Gumbel top-k, the choice of k of n candidates, so that it has a gradient.

Letters: B batch, n candidates, k chosen.

The loop of Xie and Ermon ("Reparameterizable Subset Sampling via Continuous Relaxations", 2019) takes k
softmaxes one after the other; at temperatures from 1 on its entries are no inclusion probabilities (up to 6
where they should be below 1). This module therefore projects onto the capped simplex: entries in (0, 1) that
sum to k, found in 40 bisection steps. Both rank candidates alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS = 40
_EPSILON = 1e-9
_NEVER = -1e9


def gumbel_like(scores: Tensor) -> Tensor:
    """Draw standard Gumbel noise in the shape of `scores`."""
    uniform = torch.rand_like(scores).clamp(_EPSILON, 1 - 1e-7)
    return -torch.log(-torch.log(uniform))


def capped_simplex(keys: Tensor, k: int, temperature: float, valid: Tensor) -> Tensor:
    """Return a_i = sigmoid((key_i - tau) / t) with tau such that sum a = k. (B, n) -> (B, n)

    Invalid candidates get 0; if at most k are valid, all of them get 1. tau is found without gradient and
    then corrected once, so that the gradient is that of the implicit function: sum a stays k.
    """
    w = keys.masked_fill(~valid, _NEVER)
    with torch.no_grad():
        tau = _find_threshold(w, k, temperature)  # (B, 1)
        a = torch.sigmoid((w - tau) / temperature)
        rate = a * (1 - a)
        share = rate / rate.sum(1, keepdim=True).clamp(min=_EPSILON)
    tau = tau + (share * (w - w.detach())).sum(1, keepdim=True)
    a = torch.sigmoid((w - tau) / temperature) * valid
    few = valid.sum(1, keepdim=True) <= k
    return torch.where(few, valid.to(a.dtype), a)


def _find_threshold(w: Tensor, k: int, temperature: float) -> Tensor:
    """Return tau (B, 1) of w (B, n)."""
    real = w > _NEVER / 2
    low = torch.where(real, w, w.new_tensor(float("inf"))).amin(1, keepdim=True) - 50 * temperature
    high = torch.where(real, w, w.new_tensor(float("-inf"))).amax(1, keepdim=True) + 50 * temperature
    low, high = low.nan_to_num(posinf=0.0), high.nan_to_num(neginf=0.0)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        too_many = torch.sigmoid((w - middle) / temperature).sum(1, keepdim=True) > k
        low, high = torch.where(too_many, middle, low), torch.where(too_many, high, middle)
    return (low + high) / 2


def straight_through_bias(a: Tensor) -> Tensor:
    """Return log a - stopgrad(log a): zero forward, the sampler's gradient backward (attention key bias)."""
    log = torch.log(a.clamp(min=1e-6))
    return log - log.detach()
