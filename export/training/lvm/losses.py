"""What an answer costs (LVM-Net 3.4, TubeDETR 3.3), and what boxes say about tokens.

Letters: Q questions, C activities, L decoder steps, n tokens. Each loss is 0 where no question has its kind.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
L1_WEIGHT, GIOU_WEIGHT = 5.0, 2.0
OFFSET_SCALE_S = 5.0
_NEVER = -1e9


def focal(logits: Tensor, target: Tensor, which: Tensor) -> Tensor:
    """Sigmoid focal loss, summed over classes (Q, C), mean over the questions `which` (Q,) bool."""
    p = torch.sigmoid(logits)
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = 1 - (p * target + (1 - p) * (1 - target))
    alpha = FOCAL_ALPHA * target + (1 - FOCAL_ALPHA) * (1 - target)
    return _mean((alpha * missed**FOCAL_GAMMA * each).sum(1), which)


def boxes(predicted: Tensor, target: Tensor, annotated: Tensor) -> Tensor:
    """5 L1 + 2 (1 - GIoU), mean over annotated steps (Q, L) bool; both boxes (Q, L, 4) cxcywh."""
    l1 = (predicted - target).abs().sum(-1)
    return _mean(
        L1_WEIGHT * l1 + GIOU_WEIGHT * (1 - generalised_iou(_xyxy(predicted), _xyxy(target))), annotated
    )


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU of boxes (..., 4) xyxy, in (-1, 1]."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = _area(a) + _area(b) - shared
    around = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return shared / union.clamp(min=1e-9) - (around - union) / around.clamp(min=1e-9)


def spans(start_logits: Tensor, end_logits: Tensor, ticks: Tensor, span: Tensor, which: Tensor) -> Tensor:
    """Cross entropy of first and last bin. Logits and ticks (Q, L), span (Q, 2) ticks, the end exclusive.

    A bin stands for the time up to the next one; padded steps come after all ticks and have logits of -1e9.
    """
    ordered = ticks.contiguous()
    first = torch.searchsorted(ordered, span[:, :1].contiguous(), right=True).squeeze(1) - 1
    last = torch.searchsorted(ordered, span[:, 1:].contiguous()).squeeze(1) - 1
    first = first.clamp(min=0)
    last = torch.maximum(last, first)
    each = _nll(start_logits, first) + _nll(end_logits, last)
    return _mean(each, which)


def pointer(logits: Tensor, evidence: Tensor, which: Tensor) -> Tensor:
    """-log of the probability that the pointer gives to evidence (Q, n) bool, where any was read."""
    of_evidence = logits.masked_fill(~evidence, _NEVER)
    read = which & (of_evidence > _NEVER / 2).any(1)
    return _mean(logits.logsumexp(1) - of_evidence.logsumexp(1), read)


def offsets(predicted: Tensor, tick: Tensor, span: Tensor, evidence: Tensor, which: Tensor) -> Tensor:
    """Distance of start and end as told by evidence tokens: (Q, n, 2) s, tick (Q, n), span (Q, 2) ticks."""
    true = torch.stack([tick - span[:, :1], span[:, 1:] - tick], dim=-1).clamp(min=0) / 5.0  # (Q, n, 2) s
    each = functional.smooth_l1_loss(predicted / OFFSET_SCALE_S, true / OFFSET_SCALE_S, reduction="none")
    return _mean(each.sum(-1), evidence & which[:, None])


def balanced(logits: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    """Binary cross entropy over tokens in which positives weigh as much as the others together."""
    each = functional.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype), reduction="none")
    return (_mean(each, positive & valid) + _mean(each, ~positive & valid)) / 2


def _nll(logits: Tensor, target: Tensor) -> Tensor:
    return logits.logsumexp(1) - logits.gather(1, target[:, None]).squeeze(1)


def _mean(each: Tensor, which: Tensor) -> Tensor:
    """Mean over `which`; whatever the others hold, also Inf, counts for nothing."""
    return torch.where(which, each, torch.zeros_like(each)).sum() / which.sum().clamp(min=1)


def _xyxy(boxes: Tensor) -> Tensor:
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)
