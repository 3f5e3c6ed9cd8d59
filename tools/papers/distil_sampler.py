"""Distil a bundle's attention sampler into one of state-space layers; backbone and reader stay the same.

    python -m tools.papers.distil_sampler --bundle bundles/tiny --data DATA --cache CACHE --output RUN
    lvm-train evaluate RUN --data TEST --output RESULTS
    lvm-export --checkpoint RUN/checkpoint.safetensors --output s5-bundle

The bundle's own sampler scores the videos of a split clip by clip, in the runtime's ingest. The new sampler
carries its state from clip to clip. It learns to score each candidate as far above or below the threshold of
being retained (where the bundle selects for diversity: of being relevant,
`edge_runtime/memory/diversity.py`), and to score it equally under other dropout and with a few other tokens
missing from the memory (R-Drop, Liang et al. 2021): a scan responds to one token with a hundred small
changes, by which a half-precision engine drifts away from its network (docs/memories.md).

No labels are used: this takes minutes where a training takes hours, and can start one (`lvm-train` with
`start: RUN/checkpoint.safetensors`). A bundle with an S5 sampler cannot teach, nor can one with text or
region context, whose entries its sampler makes. The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.memory.diversity import RELEVANT
from edge_runtime.memory.samplers import Novelty, Sampler, make_sampler
from edge_runtime.memory.token_memory import Scores, TokenMemory, Tokens
from engines.bundle import Bundle
from engines.errors import LvmError
from engines.network_config import NetworkConfig
from export.bundle.checkpoint import from_bundle, save_checkpoint
from export.data.checks import read_data_folder
from export.data.token_cache import VideoCache
from export.evaluation.stream_run import Model, build_memory
from export.evaluation.videos import open_caches
from export.networks.model import LvmNet, make_untrained
from export.networks.s5 import S5Sampler
from export.onnx_graphs.external_weights import hash_weights
from export.training.loop.trainer import schedule
from export.training.recipe import Optimiser
from tools.console import finish, run_tool

MAX_MARGIN = 3.0
"""Targets are clipped at this distance from the threshold, in standard deviations of a round's scores."""

DROPPED_SHARE = 0.01
"""Share of the memory's tokens that each of the two views of a clip lacks."""
CONSISTENCY_WEIGHT = 0.3
"""Weight of the difference between the scores of the two views. Most of it comes from dropout (0.023 of 0.024
in a sampler trained like this).

0, 0.3, 1 and 10 (recall over all questions about eight unseen worlds; mean difference of scores between
halves and full precision over 2,000 frames; one seed): 0.864 and 0.0039, 0.860 and 0.0019, 0.842 and 0.0009,
0.792 and 0.0003 (480 steps, the two in the middle 960). Without views 0.854 and 0.0061.
"""


@dataclass(frozen=True)
class SamplerTargets:
    """The candidates of n clips of one video, (n, m + K, ...); `margin` is the score above the threshold."""

    features: NDArray[np.float16]
    cell: NDArray[np.int32]
    novelty: NDArray[np.float32]
    valid: NDArray[np.bool_]
    margin: NDArray[np.float32]


class _RecordingSampler:
    """The bundle's sampler, which records its inputs and scores."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.calls: list[tuple[TokenMemory, Tokens, Novelty, Scores]] = []

    def __call__(self, memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
        scores = self._sampler.score(memory, clip, novelty)
        self.calls.append((memory, clip, novelty, scores))
        return scores


def record_targets(model: Model, cache: VideoCache) -> SamplerTargets:
    """Record the sampler's candidates and their margins in all clips of one video."""
    teacher = _RecordingSampler(make_sampler("neural", model.sampler))
    build_memory(model, cache, Sampler("teacher", teacher, prefilters=True, scores_relevance=True))
    threshold = RELEVANT if model.network.spread else None
    rows = []
    for memory, clip, novelty, scores in teacher.calls:
        valid = np.concatenate([memory.valid, np.ones(len(clip), np.bool_)])
        features = np.concatenate([memory.features, clip.features]).astype(np.float16)
        cell = np.concatenate([memory.cell, clip.cell])
        rows.append((features, cell, novelty, valid, measure_margins(scores, valid, memory.slots, threshold)))
    return SamplerTargets(*(np.stack(column) for column in zip(*rows, strict=True)))


def measure_margins(
    scores: Scores, valid: NDArray[np.bool_], slots: int, threshold: float | None = None
) -> NDArray[np.float32]:
    """Return how far each candidate is above the threshold, in standard deviations of the scores.

    The threshold is by default between the `slots`-th best score and the next. The margin is 0 where invalid,
    and for all candidates while the memory retains everything, as nothing is decided then.
    """
    real = np.sort(scores[valid])[::-1]
    if len(real) <= slots:
        return np.zeros(len(scores), np.float32)
    if threshold is None:
        threshold = float(real[slots - 1] + real[slots]) / 2
    margins = (scores - threshold) / max(float(real.std()), 1e-6)
    return np.where(valid, np.clip(margins, -MAX_MARGIN, MAX_MARGIN), 0).astype(np.float32)


def train_student(
    student: S5Sampler,
    shape: tuple[int, int, int],
    given: Sequence[SamplerTargets],
    optimiser: Optimiser,
    seed: int,
) -> list[float]:
    """Train on all videos in parallel, in order of time; return the loss of each step."""
    adam = torch.optim.AdamW(
        student.parameters(), lr=optimiser.learning_rate, weight_decay=optimiser.weight_decay
    )
    # Each video begins at another clip, so that early clips are not forgotten while late ones are learned.
    clips = np.array([len(targets.margin) for targets in given])
    begins = np.arange(len(given)) * clips // len(given)
    state, losses = torch.zeros(len(given), *shape), []
    torch.manual_seed(seed)
    student.train()
    for step in range(optimiser.steps):
        for group in adam.param_groups:
            group["lr"] = optimiser.learning_rate * schedule(step, optimiser)
        at = (begins + step) % clips
        batch = make_batch(given, at)
        state = state * torch.from_numpy(at > 0)[:, None, None, None]
        views = [drop_tokens(batch, student.memory_tokens) for _ in range(2)]
        (scores, after), (others, _) = (score_view(student, view, state) for view in views)
        state = after.detach()
        decided = (batch["margin"] != 0).any(1, keepdim=True)
        if not decided.any():
            continue
        known = [decided & view.there for view in views]
        loss = CONSISTENCY_WEIGHT * (scores - others)[known[0] & known[1]].abs().mean()
        for view_scores, mask in zip((scores, others), known, strict=True):
            loss = loss + nn.functional.smooth_l1_loss(view_scores[mask], batch["margin"][mask]) / len(views)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), optimiser.clip_norm)
        adam.step()
        losses.append(float(loss.detach()))
        print(f"step {step + 1}: {losses[-1]:.4f}", file=sys.stderr, flush=True)
    student.eval()
    return losses


@dataclass(frozen=True)
class MemoryView:
    """A batch whose memories lack some tokens, as if these had never been retained.

    In `batch` the removed tokens lie among the empty slots, behind the others. `order` (V, n) is the position
    of each of its tokens in the original batch; `there` (V, n), in the original order, marks what is left.
    """

    batch: Mapping[str, Tensor]
    order: Tensor
    there: Tensor


def drop_tokens(batch: Mapping[str, Tensor], slots: int) -> MemoryView:
    """Remove a share DROPPED_SHARE of the tokens of each memory (V, `slots`), drawn by torch."""
    there = batch["valid"].clone()
    remembered = there[:, :slots]
    count = (DROPPED_SHARE * remembered.sum(1, keepdim=True)).round()
    draw = torch.rand(remembered.shape).masked_fill(~remembered, torch.inf)
    there[:, :slots] = remembered & (draw.argsort(1).argsort(1) >= count)
    memory = torch.argsort((~there[:, :slots]).to(torch.uint8), dim=1, stable=True)
    clip = torch.arange(slots, there.shape[1]).expand(len(there), -1)
    order = torch.cat([memory, clip], 1)
    features = batch["features"]
    seen = {
        "features": features.gather(1, order.unsqueeze(-1).expand_as(features)),
        "valid": there.gather(1, order),
        "cell": batch["cell"].gather(1, order),
        "novelty": batch["novelty"].gather(1, order),
    }
    return MemoryView(seen, order, there)


def score_view(student: S5Sampler, view: MemoryView, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores (V, n) in the original order, and the next state."""
    seen = view.batch
    scores, after = student.score_candidates(
        seen["features"], seen["valid"], seen["cell"], seen["novelty"], state
    )
    assert after is not None
    return torch.zeros_like(scores).scatter(1, view.order, scores), after


def make_batch(given: Sequence[SamplerTargets], clips: NDArray[np.int64]) -> dict[str, Tensor]:
    """Return clip number `clips[v]` of each video v, (V, m + K, ...)."""
    batch = {}
    for name in ("features", "cell", "novelty", "valid", "margin"):
        rows = np.stack([getattr(video, name)[clip] for video, clip in zip(given, clips, strict=True)])
        batch[name] = torch.from_numpy(rows.astype(np.float32) if name == "features" else rows)
    return batch


def replace_sampler(network: LvmNet, layers: int, seed: int) -> LvmNet:
    """Return a network with the same backbone and reader and a new S5 sampler."""
    config = NetworkConfig.model_validate(
        network.config.model_dump() | {"sampler": "s5", "sampler_layers": layers}
    )
    made = make_untrained(config, seed)
    made.backbone.load_state_dict(network.backbone.state_dict())
    made.reader.load_state_dict(network.reader.state_dict())
    return made


def check_teacher(config: NetworkConfig, bundle: Path) -> None:
    """Raise LvmError if the sampler of `bundle` cannot teach, or cannot be replaced alone."""
    advice = "use lvm-train with configs/training/s5.yaml instead"
    if config.sampler == "s5":
        raise LvmError(f"{bundle} must have a sampler of attention to learn from, its own is S5: {advice}")
    if made := [name for name in config.context if name in ("text", "region")]:
        # Their entries are made in the sampler: with a new one the reader would be given random ones.
        raise LvmError(
            f"{bundle} must have no text or region context, it has {', '.join(made)}, whose entries its "
            f"sampler makes: {advice}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True, help="whose sampler is attention")
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    parser.add_argument("--split", default="train", choices=["train", "val", "test"])
    parser.add_argument("--cache", type=Path, required=True, help="folder of videos' tokens")
    parser.add_argument("--output", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--steps", type=int, default=960)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    check_teacher(Bundle.open(given.bundle).manifest.network, given.bundle)
    network, card = from_bundle(given.bundle)
    model = Model.from_network(network, card)
    data = read_data_folder(given.data)
    caches = open_caches(
        data, given.split, network.config, model.backbone, hash_weights(network.backbone), given.cache
    )
    targets = [record_targets(model, cache) for cache in caches]
    made = replace_sampler(network, given.layers, given.seed)
    assert isinstance(made.sampler, S5Sampler)
    optimiser = Optimiser(steps=given.steps, learning_rate=given.rate, weight_decay=0.01)
    losses = train_student(made.sampler, made.config.sampler_state, targets, optimiser, given.seed)
    about = {"sampler": "s5, learned from the scores of attention", "steps": given.steps, "seed": given.seed,
             "start": card.name, "data": [str(given.data), given.split]}  # fmt: skip
    record = card.training.model_copy(update={"recipe": json.dumps(about), "seed": given.seed, "results": {}})
    given.output.mkdir(parents=True, exist_ok=True)
    save_checkpoint(
        made, replace(card, name=f"{card.name}-s5", training=record), given.output / "checkpoint.safetensors"
    )
    last = losses[-min(len(losses), 30) :]
    finish({"videos": len(targets), "steps": given.steps, "loss": float(np.mean(last)), "first": losses[0]})
    return 0


if __name__ == "__main__":
    run_tool(main)
