"""Compute the losses of answers (LVM-Net 3.4, TubeDETR 3.3) and of tokens with known boxes.

Letters: Q questions, C activities, L decoder steps, n tokens, S tokens of all videos, d_b backbone width. A
loss is 0 if no question has its kind.

The box head is trained on single tokens of all videos, independent of questions and memories: the tokens of a
batch's memories show the same few rooms for a hundred steps; trained on those, boxes had hardly improved
after 150 steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from export.data.token_cache import VideoCache
from export.networks.box_head import BoxHead
from export.networks.positions import encode_cells

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
L1_WEIGHT, GIOU_WEIGHT = 5.0, 2.0
OFFSET_SCALE_S = 5.0
_NEVER = -1e9
_COUNT = 512
"""Tokens in each step."""


def focal_loss(logits: Tensor, target: Tensor, which: Tensor) -> Tensor:
    """Return the sigmoid focal loss: sum over classes (Q, C), mean over questions `which` (Q,) bool."""
    p = torch.sigmoid(logits)
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = 1 - (p * target + (1 - p) * (1 - target))
    alpha = FOCAL_ALPHA * target + (1 - FOCAL_ALPHA) * (1 - target)
    return _masked_mean((alpha * missed**FOCAL_GAMMA * each).sum(1), which)


def box_loss(predicted: Tensor, target: Tensor, annotated: Tensor) -> Tensor:
    """Return 5 L1 + 2 (1 - GIoU), mean over annotated steps (Q, L) bool; boxes (Q, L, 4) cxcywh."""
    l1 = (predicted - target).abs().sum(-1)
    return _masked_mean(
        L1_WEIGHT * l1 + GIOU_WEIGHT * (1 - generalised_iou(_to_xyxy(predicted), _to_xyxy(target))), annotated
    )


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the GIoU of boxes (..., 4) xyxy, in (-1, 1]."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = _area(a) + _area(b) - shared
    around = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return shared / union.clamp(min=1e-9) - (around - union) / around.clamp(min=1e-9)


def span_loss(start_logits: Tensor, end_logits: Tensor, ticks: Tensor, span: Tensor, which: Tensor) -> Tensor:
    """Return the cross entropy of first and last bin. Logits, ticks (Q, L); span (Q, 2) ticks, end exclusive.

    A bin covers the time up to the next one; padded steps come after all ticks and have logits of -1e9.
    """
    ordered = ticks.contiguous()
    first = torch.searchsorted(ordered, span[:, :1].contiguous(), right=True).squeeze(1) - 1
    last = torch.searchsorted(ordered, span[:, 1:].contiguous()).squeeze(1) - 1
    first = first.clamp(min=0)
    last = torch.maximum(last, first)
    each = _nll(start_logits, first) + _nll(end_logits, last)
    return _masked_mean(each, which)


def pointer_loss(logits: Tensor, evidence: Tensor, which: Tensor) -> Tensor:
    """Return -log of the pointer's probability of evidence (Q, n) bool, for questions that read any."""
    evidence_logits = logits.masked_fill(~evidence, _NEVER)
    read = which & (evidence_logits > _NEVER / 2).any(1)
    return _masked_mean(logits.logsumexp(1) - evidence_logits.logsumexp(1), read)


def offset_loss(predicted: Tensor, tick: Tensor, span: Tensor, evidence: Tensor, which: Tensor) -> Tensor:
    """Return the error of evidence tokens' offsets (Q, n, 2) s to start and end of span (Q, 2) ticks."""
    true = torch.stack([tick - span[:, :1], span[:, 1:] - tick], dim=-1).clamp(min=0) / 5.0  # (Q, n, 2) s
    each = functional.smooth_l1_loss(predicted / OFFSET_SCALE_S, true / OFFSET_SCALE_S, reduction="none")
    return _masked_mean(each.sum(-1), evidence & which[:, None])


def balanced_loss(logits: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    """Return the binary cross entropy over tokens, positives together weighing as much as the others."""
    each = functional.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype), reduction="none")
    return (_masked_mean(each, positive & valid) + _masked_mean(each, ~positive & valid)) / 2


def _nll(logits: Tensor, target: Tensor) -> Tensor:
    return logits.logsumexp(1) - logits.gather(1, target[:, None]).squeeze(1)


def _masked_mean(each: Tensor, which: Tensor) -> Tensor:
    """Return the mean over `which`; other values, even Inf, are ignored."""
    return torch.where(which, each, torch.zeros_like(each)).sum() / which.sum().clamp(min=1)


def _to_xyxy(box_loss: Tensor) -> Tensor:
    centre, half = box_loss[..., :2], box_loss[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def _area(box_loss: Tensor) -> Tensor:
    return (box_loss[..., 2:] - box_loss[..., :2]).clamp(min=0).prod(-1)


class LabelledTokens:
    """The candidates of `caches` that show the product of an event, with its box."""

    def __init__(self, caches: Sequence[VideoCache]) -> None:
        width = caches[0].features.shape[-1] if caches else 0
        features, cell = [np.zeros((0, width), np.float16)], [np.zeros(0, np.int64)]
        box = [np.zeros((0, 4), np.float32)]
        for cache in caches:
            shows = cache.event >= 0  # (n, K)
            features.append(cache.features[shows])
            cell.append(cache.cell[shows].astype(np.int64))
            box.append(cache.truth.boxes_at(cache.event[shows], cache.tick[shows]))
        self._features, self._cell = np.concatenate(features), np.concatenate(cell)
        self._box = np.concatenate(box)

    def draw(self, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Draw `single_features` (S, d_b), `single_cell` (S,), `single_box` (S, 4) cxcywh; S may be 0."""
        count = len(self._cell)
        rows = rng.integers(count, size=_COUNT) if count else np.zeros(0, np.int64)
        return {
            "single_features": self._features[rows].astype(np.float32),
            "single_cell": self._cell[rows],
            "single_box": self._box[rows],
        }


def box_regression_loss(box_head: BoxHead, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the loss of the single tokens in `batch`; 0 if there are none."""
    predicted = box_head.predict_product_boxes(
        batch["single_features"], encode_cells(batch["single_cell"], box_head.grid)
    )  # (S, 4)
    target = batch["single_box"]
    return box_loss(predicted, target, torch.ones_like(target[:, 0], dtype=torch.bool))
