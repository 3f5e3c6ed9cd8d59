"""Third stage: train sampler and reader together, by questions about the clips that a memory has seen.

Letters: B videos of a batch, Q questions, m slots, K candidates, R recency tokens, n = m + R, E events,
L steps, C activities, d token width.

In each step the clip of every video competes with its memory by Gumbel top-m, the questions are answered from
the selected tokens, and the new memory is written back detached (LVM-Net 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from edge_runtime.memory.diversity import find_redundant
from edge_runtime.query.decode import evidence_ticks, spread_ticks
from engines.network_config import MAX_GRID, NetworkConfig
from export.networks.model import make_sampler
from export.networks.reader import Reader
from export.training.lvm import losses
from export.training.lvm.inputs import FIELDS
from export.training.lvm.losses import box_regression_loss
from export.training.lvm.query_sampler import KINDS
from export.training.lvm.queue_entries import queue_inputs
from export.training.lvm.relaxed_topk import capped_simplex, gumbel_like, straight_through_bias
from export.training.recipe import LvmRecipe

Batch = Mapping[str, Tensor]
_ACTIVITY, _OBJECT, _TIME = (KINDS.index(kind) for kind in ("activity", "object", "time"))
_EPSILON = 1e-6


class SelectedTokens(NamedTuple):
    """The next memories (B, m, ...), the tokens to read (B, r, ...), their attention bias (B, r), and all
    scores (B, m + K). The new memories are read, or with the gradient `soft` all candidates."""

    memory: dict[str, Tensor]
    read: dict[str, Tensor]
    bias: Tensor | None
    scores: Tensor | None


class LvmTrainer(nn.Module):
    """The sampler and the reader with their losses."""

    def __init__(self, network: NetworkConfig, recipe: LvmRecipe) -> None:
        super().__init__()
        self.network, self.recipe = network, recipe
        self.sampler = make_sampler(network)
        self.reader = Reader(network)
        if self.sampler.entry is not None:  # trained before
            self.sampler.entry.requires_grad_(False)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Take a batch of `LvmTask` -> loss, its parts, the new memories (B, m, ...)."""
        selected = self._select(batch)
        parts = self._answer(batch, selected)
        if self.recipe.guidance:
            parts["outline"] = self.recipe.guidance * box_regression_loss(self.reader.heads.places, batch)
        if selected.scores is not None and self.recipe.guidance:
            evidence = torch.cat([batch["memory_event"], batch["clip_event"]], 1) >= 0
            valid = torch.cat([batch["memory_valid"], batch["clip_valid"]], 1)
            parts["sampler"] = self.recipe.guidance * losses.balanced_loss(selected.scores, evidence, valid)
        loss = torch.stack(list(parts.values())).sum()
        return loss, parts, {name: value.detach() for name, value in selected.memory.items()}

    # -- memory --------------------------------------------------------------------------------------------

    def _select(self, batch: Batch) -> SelectedTokens:
        both = {
            name: torch.cat([batch[f"memory_{name}"], batch[f"clip_{name}"]], 1)
            for name in (*FIELDS, "novelty")
        }  # (B, m + K, ...)
        scores, keys = None, batch.get("keys")
        carried = {"carried": batch["carried"]} if "carried" in batch else {}
        if keys is None:
            scores, carried = self._score(both, carried)
            keys = scores + gumbel_like(scores) if self.training else scores
            if self.network.spread:
                both["valid"] = both["valid"] & ~_find_redundant(scores, both, self.network)
        chosen = _select_best(keys.detach(), both, self.network.memory_tokens)  # (B, m)
        memory = {name: _gather_rows(both[name], chosen) for name in FIELDS} | carried
        if scores is None:
            return SelectedTokens(memory, memory, None, None)
        a = capped_simplex(keys, self.network.memory_tokens, float(batch["temperature"]), both["valid"])
        if self.recipe.gradient == "soft" and self.training:
            return SelectedTokens(
                memory, {name: both[name] for name in FIELDS}, torch.log(a + _EPSILON), scores
            )
        if self.recipe.gradient == "ste":
            weight = a.gather(1, chosen)[..., None]
            weighted = memory["features"] * (1 + weight - weight.detach())
            return SelectedTokens(memory, {**memory, "features": weighted}, None, scores)
        return SelectedTokens(memory, memory, straight_through_bias(a).gather(1, chosen), scores)

    def _score(self, both: Batch, carried: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return scores (B, m + K), and the state of recurrent samplers."""
        inputs = (
            both["features"],
            both["valid"],
            both["cell"] if self.network.sampler_cell_code else None,
            both["novelty"] if self.network.sampler_novelty else None,
        )
        scores, state = self.sampler.score_candidates(*inputs, carried.get("carried"))
        return scores, {} if state is None else {"carried": state}

    # -- answers -------------------------------------------------------------------------------------------

    def _answer(self, batch: Batch, selected: SelectedTokens) -> dict[str, Tensor]:
        slot = batch["slot"]  # (Q,)
        tokens = {
            name: torch.cat([selected.read[name], batch[f"recent_{name}"]], 1)[slot] for name in FIELDS
        }  # (Q, n, ...)
        start, end = batch["start"][:, None], batch["end"][:, None]
        inside = tokens["valid"] & (tokens["tick"] >= start) & (tokens["tick"] <= end)  # (Q, n)
        steps, step_valid = self._choose_steps(batch, tokens["tick"], inside)  # (Q, L)
        origin = torch.where(tokens["valid"], tokens["tick"], tokens["tick"].max()).amin(1, keepdim=True)
        shift = batch["shift"][:, None] - origin
        bias = None
        if selected.bias is not None:
            free = tokens["tick"].shape[1] - selected.bias.shape[1]
            bias = nn.functional.pad(selected.bias, (0, free))[slot]
        output = self.reader(
            memory_features=tokens["features"],
            memory_tick=(tokens["tick"] + shift) * inside,
            memory_cell=tokens["cell"],
            memory_valid=inside,
            svd_basis=batch["basis"][slot] if self.network.summary_rank else None,
            svd_strength=batch["strength"][slot] if self.network.summary_rank else None,
            object_tokens=batch["object_tokens"],
            object_valid=batch["object_valid"],
            activity=batch["activity"],
            activity_valid=batch["activity_valid"],
            query_tick=(steps + shift) * step_valid,
            query_valid=step_valid,
            memory_bias=bias,
            **queue_inputs(batch, slot, shift),
        )
        matching = batch["matching"].gather(1, tokens["event"].clamp(min=0))  # (Q, n)
        evidence = inside & matching & (tokens["event"] >= 0)
        span_evidence = evidence & (tokens["event"] == batch["event"][:, None])  # of the event of `span`
        happened = batch["happened"]
        asks_time = happened & (batch["kind"] == _TIME)
        target, annotated = self._make_box_targets(batch, steps, step_valid)
        # Without any token an answer cannot be learned; forgetting still costs in the other losses.
        has_tokens = inside.any(1)
        parts = {
            "activity": losses.focal_loss(
                output.activity_logits,
                batch["activities"],
                happened & (batch["kind"] == _ACTIVITY) & has_tokens,
            ),
            "box": 0.5 * losses.box_loss(output.boxes_cxcywh, target, annotated),
            "span": 0.25
            * losses.span_loss(
                output.start_logits,
                output.end_logits,
                _pad_steps(steps, step_valid),
                batch["span"],
                asks_time & has_tokens & (batch["matching"].sum(1) == 1),
            ),
            # For object questions too: the box lies where the pointed tokens lie.
            "pointer": losses.pointer_loss(
                output.pointer_logits, evidence, happened & (batch["kind"] != _ACTIVITY)
            ),
            "offset": losses.offset_loss(
                output.pointer_offsets, tokens["tick"], batch["span"], span_evidence, asks_time
            ),
            "presence": nn.functional.binary_cross_entropy_with_logits(
                output.presence_logit, happened.to(output.presence_logit.dtype)
            ),
        }
        if output.relevance is not None and self.recipe.guidance:
            parts["relevance"] = self.recipe.guidance * losses.balanced_loss(
                output.relevance, evidence, inside
            )
        return parts

    def _choose_steps(self, batch: Batch, tick: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Return ticks (Q, L) of the decoder's steps and which are valid, as the runtime chooses them."""
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

    def _make_box_targets(self, batch: Batch, steps: Tensor, step_valid: Tensor) -> tuple[Tensor, Tensor]:
        """Return target boxes (Q, L, 4) cxcywh at the steps, and where they are annotated (Q, L)."""
        same = steps[:, :, None] == batch["box_tick"][:, None, :]  # (Q, L, F)
        annotated = same.any(2) & step_valid
        row = same.to(torch.uint8).argmax(2)  # (Q, L)
        return _gather_rows(batch["box"], row), annotated


def _select_best(keys: Tensor, both: Mapping[str, Tensor], m: int) -> Tensor:
    """Return indices (B, m) of the best valid keys (B, m + K), by time and cell, empty slots last."""
    # Not topk: of equal keys the lower index must win, as on a device.
    best = keys.masked_fill(~both["valid"], -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :m]
    stamp = both["tick"] * MAX_GRID**2 + both["cell"]
    stamp = stamp.masked_fill(~both["valid"], torch.iinfo(torch.int64).max).gather(1, best)
    return best.gather(1, stamp.argsort(dim=1))


def _find_redundant(scores: Tensor, both: Mapping[str, Tensor], network: NetworkConfig) -> Tensor:
    """Return which tokens of scores (B, m + K), without noise, are redundant, as on a device."""
    names = ("tick", "cell", "valid")
    arrays = [array.detach().cpu().numpy() for array in (scores, *(both[name] for name in names))]
    redundant = [
        find_redundant(score, tick, cell, valid, network.memory_tokens, network.grid)
        for score, tick, cell, valid in zip(*arrays, strict=True)
    ]
    return torch.from_numpy(np.stack(redundant)).to(scores.device)


def _gather_rows(values: Tensor, index: Tensor) -> Tensor:
    """Gather values (B, n) or (B, n, d) by index (B, k) -> (B, k) or (B, k, d)."""
    if values.dim() == 2:
        return values.gather(1, index)
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def _pad_steps(steps: Tensor, valid: Tensor) -> Tensor:
    """Return steps (Q, L) with padding later than all valid steps, so that they stay in order."""
    return torch.where(valid, steps, torch.iinfo(torch.int64).max)
