"""Turn a cached video into a memory, by the runtime's own ingest.

Letters: F frames, T frames of a clip, n clips, d token width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.background_model import Background
from edge_runtime.memory.diversity import score_clip
from edge_runtime.memory.recurrent_state import initial_state, to_clip_outputs, update_state
from edge_runtime.memory.samplers import Novelty, Sampler, make_sampler
from edge_runtime.memory.token_memory import TokenMemory, Tokens
from edge_runtime.memory.version import Version, clip_tokens, empty_version
from edge_runtime.service.engine_pool import Engines
from engines.manifest import GRAPHS, Manifest, Thresholds
from engines.network_config import NetworkConfig
from engines.spec import Engine
from export.bundle.writer import ModelCard
from export.data.token_cache import VideoCache
from export.networks.model import LvmNet, TorchEngine

ClipOrder = Literal["stream", "random"]


@dataclass(frozen=True)
class Model:
    """A trained network in the form that the runtime takes: a manifest and three engines."""

    manifest: Manifest
    backbone: Engine
    sampler: Engine
    reader: Engine

    @classmethod
    def from_network(cls, network: LvmNet, card: ModelCard, thresholds: Thresholds | None = None) -> Model:
        """Make a model of a network in torch, where its parameters are."""
        manifest = Manifest(
            format_version=1,
            name=card.name,
            network=network.config,
            classes=card.classes,
            graphs={},
            weights=None,
            files={},
            training=card.training,
            thresholds=thresholds or card.thresholds,
        )
        backbone, sampler, reader = (TorchEngine(network, name) for name in GRAPHS)
        return cls(manifest, backbone, sampler, reader)

    @classmethod
    def from_engines(cls, engines: Engines) -> Model:
        """Make a model of a bundle on the backend of a device."""
        return cls(engines.bundle.manifest, engines.backbone, engines.sampler, engines.reader)

    def with_best_scores(self) -> Model:
        """Return the same networks over a memory that keeps the best scores, however similar the tokens."""
        network = self.network.model_copy(update={"spread": False})
        return replace(self, manifest=self.manifest.model_copy(update={"network": network}))

    def empty_version(self) -> Version:
        """Return the version before the first frame."""
        return empty_version(self.network)

    @property
    def network(self) -> NetworkConfig:
        return self.manifest.network


def build_memory(
    model: Model, cache: VideoCache, sampler: Sampler, order: ClipOrder = "stream", seed: int = 0
) -> Version:
    """Return the version after the whole video was seen once, in time order or clip by clip in random order.

    No device sees clips in random order; LVM-Net's own inference does.
    """
    if order == "stream":
        return _ingest_in_order(model, cache, sampler)
    # Background, coverage and the unfinished clip do not depend on who sampled.
    version = _ingest_in_order(model, cache, make_sampler("fifo", model.sampler))
    memory = TokenMemory.empty(model.network.memory_tokens, model.network.d_backbone)
    state = initial_state(model.network)
    oldest = int(cache.ticks[-1]) - round(model.network.horizon_s * TICKS_PER_SECOND)
    for clip in np.random.default_rng(seed).permutation(cache.clips):
        known = cache.background(int(clip), model.network)
        tokens, novelty = _select_candidates(model.network, cache, int(clip), sampler.prefilters)
        of_memory = _measure_novelty(known, memory.slots_as_tokens())
        both = np.concatenate([of_memory, novelty])
        output = score_clip(sampler, model.network, memory, tokens, both, state, oldest_tick=oldest)
        memory = memory.update(tokens, output.scores, oldest_tick=oldest)
        span = int(tokens.tick.min()), int(tokens.tick.max())
        state = update_state(state, to_clip_outputs(output.outputs, model.network), model.network, span)
    return replace(version, memory=memory)


def _ingest_in_order(model: Model, cache: VideoCache, sampler: Sampler) -> Version:
    ingest = Ingest(model.network, model.backbone, sampler, model.empty_version())
    try:
        return ingest.push_features(cache.tokens, (cache.ticks / TICKS_PER_SECOND).tolist())
    finally:
        ingest.close()


def _select_candidates(
    network: NetworkConfig, cache: VideoCache, clip: int, prefilters: bool
) -> tuple[Tokens, Novelty]:
    """Return the candidates of a clip with their novelty, as they were in time order."""
    if prefilters:
        features = cache.features[clip].astype(np.float32)
        return Tokens(features, cache.tick[clip], cache.cell[clip]), cache.novelty[clip]
    part = slice(clip * network.clip_frames, (clip + 1) * network.clip_frames)
    tokens = clip_tokens(np.asarray(cache.tokens[part], np.float32), cache.ticks[part].tolist())
    return tokens, _measure_novelty(cache.background(clip, network), tokens)


def _measure_novelty(known: Background | None, tokens: Tokens) -> Novelty:
    """Measure novelty; 0 where the network has no background, as during ingest."""
    return np.zeros(len(tokens), np.float32) if known is None else known.novelty(tokens)
