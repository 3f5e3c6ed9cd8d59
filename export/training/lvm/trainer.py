"""Third stage: sampler and reader learn together, from questions about what the memory was shown.

Letters: B videos of a batch, Q questions, m slots, K candidates, R recency tokens, n = m + R, E events,
L steps, C activities, d token width.

Each step: the clip of every video competes with its memory by Gumbel top-m, the questions are answered from
what was kept, and the new memory is written back detached (LVM-Net 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from edge_runtime.memory.diversity import find_redundant
from edge_runtime.query.decode import evidence_ticks, spread_ticks
from engines.network_config import NetworkConfig
from export.networks.model import make_sampler
from export.networks.reader import Reader
from export.training.lvm import losses
from export.training.lvm.box_loss import outline_loss
from export.training.lvm.memory_bank import FIELDS
from export.training.lvm.query_sampler import KINDS
from export.training.lvm.queue_entries import queue_inputs
from export.training.lvm.relaxed_topk import capped_simplex, gumbel_like, straight_through_bias
from export.training.recipe import LvmRecipe

Batch = Mapping[str, Tensor]
_ACTIVITY, _OBJECT, _TIME = (KINDS.index(kind) for kind in ("activity", "object", "time"))
_LEAST = 1e-6


class Kept(NamedTuple):
    """The next memories (B, m, ...), what is read (B, r, ...), what weighs that in attention (B, r), and the
    scores (B, m + K). Read are the new memories, or with the gradient `soft` all candidates."""

    memory: dict[str, Tensor]
    read: dict[str, Tensor]
    bias: Tensor | None
    scores: Tensor | None


class LvmTrainer(nn.Module):
    """Sampler and reader with their losses."""

    def __init__(self, network: NetworkConfig, recipe: LvmRecipe) -> None:
        super().__init__()
        self.network, self.recipe = network, recipe
        self.sampler = make_sampler(network)
        self.reader = Reader(network)
        if self.sampler.entry is not None:  # learned before
            self.sampler.entry.requires_grad_(False)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """`batch` as `LvmTask` makes it -> loss, its parts, the new memories (B, m, ...)."""
        kept = self._keep(batch)
        parts = self._answer(batch, kept)
        if self.recipe.guidance:
            parts["outline"] = self.recipe.guidance * outline_loss(self.reader.heads.places, batch)
        if kept.scores is not None and self.recipe.guidance:
            evidence = torch.cat([batch["memory_event"], batch["clip_event"]], 1) >= 0
            valid = torch.cat([batch["memory_valid"], batch["clip_valid"]], 1)
            parts["sampler"] = self.recipe.guidance * losses.balanced(kept.scores, evidence, valid)
        loss = torch.stack(list(parts.values())).sum()
        return loss, parts, {name: value.detach() for name, value in kept.memory.items()}

    # -- what is remembered --------------------------------------------------------------------------------

    def _keep(self, batch: Batch) -> Kept:
        both = {
            name: torch.cat([batch[f"memory_{name}"], batch[f"clip_{name}"]], 1)
            for name in (*FIELDS, "novelty")
        }  # (B, m + K, ...)
        scores, keys = None, batch.get("keys")
        carried = {"carried": batch["carried"]} if "carried" in batch else {}
        if keys is None:
            scores, carried = self._judged(both, carried)
            keys = scores + gumbel_like(scores) if self.training else scores
            if self.network.spread:
                both["valid"] = both["valid"] & ~_crowded(scores, both, self.network.memory_tokens)
        chosen = _best(keys.detach(), both, self.network.memory_tokens)  # (B, m)
        memory = {name: _rows(both[name], chosen) for name in FIELDS} | carried
        if scores is None:
            return Kept(memory, memory, None, None)
        a = capped_simplex(keys, self.network.memory_tokens, float(batch["temperature"]), both["valid"])
        if self.recipe.gradient == "soft" and self.training:
            return Kept(memory, {name: both[name] for name in FIELDS}, torch.log(a + _LEAST), scores)
        if self.recipe.gradient == "ste":
            of_kept = a.gather(1, chosen)[..., None]
            weighed = memory["features"] * (1 + of_kept - of_kept.detach())
            return Kept(memory, {**memory, "features": weighed}, None, scores)
        return Kept(memory, memory, straight_through_bias(a).gather(1, chosen), scores)

    def _judged(self, both: Batch, carried: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores (B, m + K), and the state of samplers that have one."""
        given = (
            both["features"],
            both["valid"],
            both["cell"] if self.network.sampler_cell_code else None,
            both["novelty"] if self.network.sampler_novelty else None,
        )
        scores, state = self.sampler.score_candidates(*given, carried.get("carried"))
        return scores, {} if state is None else {"carried": state}

    # -- what is asked -------------------------------------------------------------------------------------

    def _answer(self, batch: Batch, kept: Kept) -> dict[str, Tensor]:
        slot = batch["slot"]  # (Q,)
        tokens = {
            name: torch.cat([kept.read[name], batch[f"recent_{name}"]], 1)[slot] for name in FIELDS
        }  # (Q, n, ...)
        start, end = batch["start"][:, None], batch["end"][:, None]
        inside = tokens["valid"] & (tokens["tick"] >= start) & (tokens["tick"] <= end)  # (Q, n)
        steps, step_valid = self._steps(batch, tokens["tick"], inside)  # (Q, L)
        origin = torch.where(tokens["valid"], tokens["tick"], tokens["tick"].max()).amin(1, keepdim=True)
        moved = batch["shift"][:, None] - origin
        bias = None
        if kept.bias is not None:
            bias = nn.functional.pad(kept.bias, (0, tokens["tick"].shape[1] - kept.bias.shape[1]))[slot]
        output = self.reader(
            memory_features=tokens["features"],
            memory_tick=(tokens["tick"] + moved) * inside,
            memory_cell=tokens["cell"],
            memory_valid=inside,
            svd_basis=batch["basis"][slot] if self.network.summary_rank else None,
            svd_strength=batch["strength"][slot] if self.network.summary_rank else None,
            object_tokens=batch["object_tokens"],
            object_valid=batch["object_valid"],
            activity=batch["activity"],
            activity_valid=batch["activity_valid"],
            query_tick=(steps + moved) * step_valid,
            query_valid=step_valid,
            memory_bias=bias,
            **queue_inputs(batch, slot, moved),
        )
        about = batch["matching"].gather(1, tokens["event"].clamp(min=0))  # (Q, n)
        evidence = inside & about & (tokens["event"] >= 0)
        of_span = evidence & (tokens["event"] == batch["event"][:, None])  # of the event that `span` is of
        happened = batch["happened"]
        of_time = happened & (batch["kind"] == _TIME)
        target, annotated = self._boxes_at(batch, steps, step_valid)
        # What no longer is remembered cannot be answered; it still counts where forgetting must cost.
        there = inside.any(1)
        parts = {
            "activity": losses.focal(
                output.activity_logits, batch["activities"], happened & (batch["kind"] == 0) & there
            ),
            "box": 0.5 * losses.boxes(output.boxes_cxcywh, target, annotated),
            "span": 0.25
            * losses.spans(
                output.start_logits,
                output.end_logits,
                _padded(steps, step_valid),
                batch["span"],
                of_time & there & (batch["matching"].sum(1) == 1),
            ),
            # Of a box too: it lies where the tokens lie that the pointer names.
            "pointer": losses.pointer(
                output.pointer_logits, evidence, happened & (batch["kind"] != _ACTIVITY)
            ),
            "offset": losses.offsets(output.pointer_offsets, tokens["tick"], batch["span"], of_span, of_time),
            "presence": nn.functional.binary_cross_entropy_with_logits(
                output.presence_logit, happened.to(output.presence_logit.dtype)
            ),
        }
        if output.relevance is not None and self.recipe.guidance:
            parts["relevance"] = self.recipe.guidance * losses.balanced(output.relevance, evidence, inside)
        return parts

    def _steps(self, batch: Batch, tick: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Ticks (Q, L) of the decoder's steps and which of them are real, as the runtime chooses them."""
        count, length = len(tick), self.network.query_steps
        steps = np.zeros((count, length), np.int64)
        valid = np.zeros((count, length), np.bool_)
        ticks, flags = tick.cpu().numpy(), inside.cpu().numpy()
        for row in range(count):
            if int(batch["kind"][row]) == _OBJECT:
                at = evidence_ticks(ticks[row], flags[row], length)
            else:
                at = spread_ticks(int(batch["start"][row]), int(batch["end"][row]), length)
            steps[row, : len(at)], valid[row, : len(at)] = at, True
        return torch.from_numpy(steps).to(tick.device), torch.from_numpy(valid).to(tick.device)

    def _boxes_at(self, batch: Batch, steps: Tensor, step_valid: Tensor) -> tuple[Tensor, Tensor]:
        """Target boxes (Q, L, 4) cxcywh at the steps, and where they are annotated (Q, L)."""
        same = steps[:, :, None] == batch["box_tick"][:, None, :]  # (Q, L, F)
        annotated = same.any(2) & step_valid
        row = same.to(torch.uint8).argmax(2)  # (Q, L)
        return _rows(batch["box"], row), annotated


def _best(keys: Tensor, both: Mapping[str, Tensor], m: int) -> Tensor:
    """keys (B, m + K) -> indices (B, m) of the best valid ones in order of time and cell, empty ones last."""
    # Not topk: equal keys must go to the lower index, as on a device.
    best = keys.masked_fill(~both["valid"], -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :m]
    stamp = both["tick"] * 49 + both["cell"]
    stamp = stamp.masked_fill(~both["valid"], torch.iinfo(torch.int64).max).gather(1, best)
    return best.gather(1, stamp.argsort(dim=1))


def _crowded(scores: Tensor, both: Mapping[str, Tensor], m: int) -> Tensor:
    """Which of scores (B, m + K) belong to tokens that have to go, as on a device; the noise has no say."""
    names = ("tick", "cell", "valid")
    arrays = [one.detach().cpu().numpy() for one in (scores, *(both[name] for name in names))]
    gone = [
        find_redundant(score, tick, cell, valid, m) for score, tick, cell, valid in zip(*arrays, strict=True)
    ]
    return torch.from_numpy(np.stack(gone)).to(scores.device)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """values (B, n) or (B, n, d), index (B, k) -> (B, k) or (B, k, d)."""
    if values.dim() == 2:
        return values.gather(1, index)
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def _padded(steps: Tensor, valid: Tensor) -> Tensor:
    """Steps (Q, L) whose padding is later than any of them, so that they stay in order."""
    return torch.where(valid, steps, torch.iinfo(torch.int64).max)
