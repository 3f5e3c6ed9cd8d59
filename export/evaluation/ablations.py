"""Replace one part of a network by noise of the same shape: what the answers lose is what the part is worth.

    svd        the summary that the reader gets: random orthonormal rows, with the strengths of the true ones
    novelty    how novel each candidate is: the true values, dealt out again among the tokens of the clip
    order      what says of a token whether it was early or late: another token's
    likeness   what says of a token how similar it is to the product in question: another token's
    spread     which tokens leave a full memory: those of the lowest scores, however much they lie apart

Noise of the true values' own distribution is milder than zeros: a part that a network merely leans on, as
on a constant, loses little by it. Everything is deterministic.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.memory.background_model import Background
from edge_runtime.memory.token_memory import Cells
from edge_runtime.memory.version import Version, empty_version
from engines.errors import LvmError
from engines.spec import Array, Engine, Feeds
from export.evaluation.stream_run import Model
from export.networks.model import LvmNet

PARTS = ("svd", "novelty", "order", "likeness", "spread")


@contextmanager
def replace_by_noise(model: Model, network: LvmNet, part: str) -> Iterator[Model]:
    """Yield `model`, whose engines run `network`, with one of `PARTS` replaced.

    Raises LvmError for another part, and for one that the network does not have.
    """
    config = network.config
    modules = {"order": network.reader.order, "likeness": network.reader.embed.likeness}
    has = {"svd": bool(config.summary_rank), "novelty": bool(config.svd_rank), "spread": config.spread}
    if part not in PARTS:
        raise LvmError(f"the part that is replaced must be one of {', '.join(PARTS)}, got {part!r}")
    if not has.get(part, modules.get(part) is not None):
        raise LvmError(f"this network has no part {part!r} that could be replaced: leave it out")
    if part == "svd":
        yield replace(model, reader=RandomSummary(model.reader))
    elif part == "novelty":
        yield _RandomNovelty(**vars(model))
    elif part == "spread":
        yield model.with_best_scores()
    else:
        module = modules[part]
        assert module is not None
        handle = module.register_forward_hook(_exchange_tokens)
        try:
            yield model
        finally:
            handle.remove()


class RandomSummary(Engine):
    """A reader that gets random orthonormal rows instead of the basis of the online SVD."""

    def __init__(self, reader: Engine) -> None:
        self.backend, self.inputs, self.outputs = reader.backend, reader.inputs, reader.outputs
        self._reader = reader

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        basis = feeds["svd_basis"]  # (B, r, d)
        rows = np.random.default_rng(0).standard_normal(basis.shape[1:])
        random = np.linalg.qr(rows.T)[0].T.astype(basis.dtype)
        # Rows of strength 0 stand for nothing, in the true basis as well.
        noise = np.where(feeds["svd_strength"][..., None] > 0, random, basis)
        return self._reader({**feeds, "svd_basis": noise})


class RandomNovelty(Background):
    """A background that deals its novelties out again among the tokens that were asked about."""

    def standardise(self, residual: NDArray[np.float32], cell: Cells) -> NDArray[np.float32]:
        true = super().standardise(residual, cell)
        return np.random.default_rng([self.svd.updates, len(true)]).permutation(true)


class _RandomNovelty(Model):
    """A model whose memory begins with such a background."""

    def empty_version(self) -> Version:
        version = empty_version(self.network)
        assert version.background is not None
        return replace(version, background=RandomNovelty(**vars(version.background)))


def _exchange_tokens(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """Return what a module says of tokens (B, n, d) with the tokens exchanged."""
    generator = torch.Generator().manual_seed(0)
    return output[:, torch.randperm(output.shape[1], generator=generator).to(output.device)]
