"""Train and evaluate one network for all tasks of a video; LSMCL before it, where there are few labels.

Letters: B videos of a batch, L tokens, F frames, d_b token width, C classes of a task.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from export.papers.longform.videos import TASKS, Videos
from export.papers.networks.vis4mer import LongformConfig, LongformNet

START_TEMPERATURE, END_TEMPERATURE = 1.0, 0.5
"""Temperature of learned masks at the first and the last step."""


@dataclass(frozen=True)
class FitSettings:
    steps: int = 120
    batch: int = 16
    learning_rate: float = 5e-3
    weight_decay: float = 0.05
    seed: int = 0


class LongformClassifier(nn.Module):
    """The network with a linear head for each task."""

    def __init__(self, config: LongformConfig) -> None:
        super().__init__()
        self.net = LongformNet(config)
        self.norm = nn.BatchNorm1d(config.out)
        self.heads = nn.ModuleList(nn.Linear(config.out, classes) for classes in TASKS.values())

    def forward(
        self, tokens: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> list[Tensor]:
        """Return logits (B, C) of each task for tokens (B, L, d_b)."""
        seen = self.norm(self.net(tokens, temperature, generator))
        return [head(seen) for head in self.heads]


def train_classifier(
    config: LongformConfig, videos: Videos, fit: FitSettings, start: LongformNet | None = None
) -> LongformClassifier:
    """Train a classifier on all tasks together, from `start`'s stack if given. Equal arguments give equal
    weights."""
    torch.manual_seed(fit.seed)
    classifier = LongformClassifier(config)
    if start is not None:
        classifier.net.load_state_dict(start.state_dict())
    labels, draws = torch.from_numpy(videos.labels), torch.Generator().manual_seed(fit.seed)

    def loss(batch: Tensor, temperature: float) -> Tensor:
        outputs = classifier(_select_tokens(videos, batch.numpy()), temperature, draws)
        truth = labels[batch]
        parts = [nn.functional.cross_entropy(logits, truth[:, i]) for i, logits in enumerate(outputs)]
        return torch.stack(parts).sum()

    minimise(classifier, len(videos), fit, loss, classifier.net.update_copy)
    return classifier.eval()


def predict_correct(classifier: LongformClassifier, videos: Videos, batch: int = 16) -> np.ndarray:
    """Return whether each video was classified correctly, by task: (V, 4) of 0 and 1. Random masks are drawn
    from one seed."""
    draws, right = torch.Generator().manual_seed(0), []
    with torch.no_grad():
        for start in range(0, len(videos), batch):
            rows = np.arange(start, min(start + batch, len(videos)))
            outputs = classifier(_select_tokens(videos, rows), generator=draws)
            best = np.stack([logits.argmax(1).numpy() for logits in outputs], 1)  # (B, 4)
            right.append(best == videos.labels[rows])
    return np.concatenate(right).astype(np.float64)


# -- LSMCL --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ContrastSettings:
    """Long-short masked contrastive learning: a short clip of `short` frames beside the whole video.

    `hidden` is the share of tokens that are masked on both sides, `queue` the number of keys of earlier
    batches that are negatives too (MoCo), 0 for none.
    """

    fit: FitSettings = FitSettings()
    short: int = 6
    hidden: float = 0.5
    temperature: float = 0.1
    momentum: float = 0.99
    queue: int = 0


class _ProjectedNet(nn.Module):
    def __init__(self, config: LongformConfig) -> None:
        super().__init__()
        self.net = LongformNet(config)
        self.project = nn.Sequential(
            nn.Linear(config.out, 4 * config.out), nn.GELU(), nn.Linear(4 * config.out, config.out)
        )

    def forward(self, tokens: Tensor, draws: torch.Generator, hidden: float) -> Tensor:
        """Encode tokens (B, L, d_b), seen through a random mask, as (B, out) of length 1."""
        count = tokens.shape[1]
        indices = torch.rand(tokens.shape[:2], generator=draws).topk(round((1 - hidden) * count), 1).indices
        index = indices.sort(1).values[..., None].expand(-1, -1, tokens.shape[2])
        return nn.functional.normalize(self.project(self.net(tokens.gather(1, index), 1.0, draws)), dim=1)


def pretrain(config: LongformConfig, videos: Videos, contrast: ContrastSettings) -> LongformNet:
    """Train a stack without labels. The key network follows: f_k <- m f_k + (1 - m) f_q (the paper's poster
    has it the other way round)."""
    fit = contrast.fit
    torch.manual_seed(fit.seed)
    query = _ProjectedNet(config)
    key = copy.deepcopy(query).requires_grad_(False)
    draws = torch.Generator().manual_seed(fit.seed)
    keys: list[Tensor] = []

    def loss(batch: Tensor, temperature: float) -> Tensor:
        rows = batch.numpy()
        long, short = (
            _select_tokens(videos, rows),
            _select_tokens(videos, rows, _draw_window(videos, contrast.short, draws)),
        )
        total, new = torch.zeros(()), []
        for view, other in ((short, long), (long, short)):
            with torch.no_grad():
                against = key(other, draws, contrast.hidden)
            queries = query(view, draws, contrast.hidden)
            total = total + info_nce(queries, against, keys, contrast.temperature) / 2
            new.append(against)
        # Only now: in the loop a clip would be a negative of its own video, seen from the other side.
        keys.extend(new if contrast.queue else ())
        while sum(len(part) for part in keys) > contrast.queue:
            keys.pop(0)
        return total

    def follow() -> None:
        query.net.update_copy()
        update_average(key, query, contrast.momentum)

    minimise(query, len(videos), fit, loss, follow)
    return query.net


def info_nce(query: Tensor, key: Tensor, others: list[Tensor], temperature: float) -> Tensor:
    """Return the loss by which each of query (B, out) should be most similar to its own of key (B, out),
    among all keys and `others`."""
    logits = query @ torch.cat([key, *others]).T / temperature
    return nn.functional.cross_entropy(logits, torch.arange(len(query)))


def update_average(follower: nn.Module, leader: nn.Module, momentum: float) -> None:
    """Compute follower <- momentum follower + (1 - momentum) leader."""
    with torch.no_grad():
        for own, other in zip(follower.parameters(), leader.parameters(), strict=True):
            own.mul_(momentum).add_(other, alpha=1 - momentum)


# -- shared -------------------------------------------------------------------------------------------------


def minimise(
    module: nn.Module,
    count: int,
    fit: FitSettings,
    loss: Callable[[Tensor, float], Tensor],
    after: Callable[[], None],
) -> None:
    """Run AdamW with warm-up and cosine over shuffled batches of `count` videos. Raises ValueError where the
    loss is not finite."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    adam = torch.optim.AdamW(parameters, lr=fit.learning_rate, weight_decay=fit.weight_decay)
    module.train()
    for step, batch in enumerate(_draw_batches(count, fit)):
        share = step / max(1, fit.steps - 1)
        rate = min(1.0, (step + 1) / (0.1 * fit.steps)) * 0.5 * (1 + math.cos(math.pi * share))
        for group in adam.param_groups:
            group["lr"] = fit.learning_rate * rate
        value = loss(batch, START_TEMPERATURE + (END_TEMPERATURE - START_TEMPERATURE) * share)
        if not torch.isfinite(value):
            raise ValueError(f"the loss at step {step} must be finite, got {float(value)}")
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        after()


def _draw_batches(count: int, fit: FitSettings) -> Iterator[Tensor]:
    draws, left = torch.Generator().manual_seed(fit.seed + 1), torch.zeros(0, dtype=torch.int64)
    for _ in range(fit.steps):
        if len(left) < min(fit.batch, count):
            left = torch.randperm(count, generator=draws)
        yield left[: fit.batch]
        left = left[fit.batch :]


def _select_tokens(videos: Videos, rows: np.ndarray, frames: tuple[int, int] | None = None) -> Tensor:
    """Return tokens (B, L, d_b) of some videos, all frames or those of a window."""
    first, last = frames or (0, videos.tokens.shape[1])
    chosen = videos.tokens[rows, first:last].astype(np.float32)
    return torch.from_numpy(chosen.reshape(len(rows), -1, chosen.shape[-1]))


def _draw_window(videos: Videos, frames: int, draws: torch.Generator) -> tuple[int, int]:
    first = int(torch.randint(videos.tokens.shape[1] - frames + 1, (1,), generator=draws))
    return first, first + frames
