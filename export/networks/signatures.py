"""Names, dtypes and shapes of the three graphs, derived from a configuration.

B batch (free), N sampler tokens, n reader memory tokens, r rank of the SVD, L steps, C activities.
"""

from __future__ import annotations

from engines.manifest import GraphName
from engines.network_config import NetworkConfig
from engines.spec import TensorSpec

BATCH = "batch"

READABLE_WHERE = {
    "score": "valid",
    "boxes_cxcywh": "query_valid",
    "start_logits": "query_valid",
    "end_logits": "query_valid",
    "pointer_logits": "memory_valid",
    "pointer_offsets": "memory_valid",
    "relevance": "memory_valid",
}
"""Outputs of which a caller may read only the entries that this input flags; all other outputs may be read in
full."""


def graph_inputs(config: NetworkConfig, name: GraphName) -> tuple[TensorSpec, ...]:
    """Return the inputs of a graph. Inputs that the configuration switches off are absent."""
    table = {"backbone": _backbone_inputs, "sampler": _sampler_inputs, "reader": _reader_inputs}
    return table[name](config)


def graph_outputs(config: NetworkConfig, name: GraphName) -> tuple[TensorSpec, ...]:
    """Return the outputs of a graph."""
    n, steps = config.reader_tokens, config.query_steps
    if name == "backbone":
        return (_spec("tokens", "float32", config.cells, config.d_backbone),)
    if name == "sampler":
        score = _spec("score", "float32", config.sampler_tokens)
        regions = (config.queue.regions, config.d_backbone)
        entry = (
            _spec("clip_activity", "float32", config.activities),
            _spec("clip_regions", "float32", *regions),
        )
        strangeness = (_spec("strangeness", "float32", 1),) if config.appearance else ()
        own_entry = entry if config.queues else ()
        return (score, *strangeness, *own_entry, *_sampler_state(config, "next_state"))
    return (
        _spec("activity_logits", "float32", config.activities),
        _spec("boxes_cxcywh", "float32", steps, 4),
        _spec("start_logits", "float32", steps),
        _spec("end_logits", "float32", steps),
        _spec("pointer_logits", "float32", n),
        _spec("pointer_offsets", "float32", n, 2),
        _spec("presence_logit", "float32"),
        _spec("evidence", "float32", n),
        *((_spec("relevance", "float32", n),) if config.reader_candidates else ()),
    )


def _spec(name: str, dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, dtype, (BATCH, *shape))


def _backbone_inputs(config: NetworkConfig) -> tuple[TensorSpec, ...]:
    return (_spec("image", "uint8", config.image_size, config.image_size, 3),)


def _sampler_inputs(config: NetworkConfig) -> tuple[TensorSpec, ...]:
    tokens = config.sampler_tokens
    cell = (_spec("cell", "int32", tokens),) if config.sampler_cell_code else ()
    novelty = (_spec("novelty", "float32", tokens),) if config.sampler_novelty else ()
    features = _spec("features", "float32", tokens, config.d_backbone)
    with_tick = config.queues or config.appearance
    tick = (_spec("clip_tick", "int32", config.clip_candidates),) if with_tick else ()
    state = _sampler_state(config, "sampler_state")
    return (features, *cell, *novelty, *tick, _spec("valid", "bool", tokens), *state)


def _sampler_state(config: NetworkConfig, name: str) -> tuple[TensorSpec, ...]:
    """Return the state that goes in with a clip and comes out for the next one."""
    return (_spec(name, "float32", *config.sampler_state),) if config.sampler == "s5" else ()


def _reader_inputs(config: NetworkConfig) -> tuple[TensorSpec, ...]:
    n, rank, steps = config.reader_tokens, config.summary_rank, config.query_steps
    svd = (_spec("svd_basis", "float32", rank, config.d_backbone), _spec("svd_strength", "float32", rank))
    return (
        _spec("memory_features", "float32", n, config.d_backbone),
        _spec("memory_tick", "int32", n),
        _spec("memory_cell", "int32", n),
        _spec("memory_valid", "bool", n),
        *(svd if rank else ()),
        *_queue_inputs(config),
        _spec("object_tokens", "float32", config.cells, config.d_backbone),
        _spec("object_valid", "bool"),
        _spec("activity", "float32", config.activities),
        _spec("activity_valid", "bool"),
        _spec("query_tick", "int32", steps),
        _spec("query_valid", "bool", steps),
    )


def _queue_inputs(config: NetworkConfig) -> tuple[TensorSpec, ...]:
    if not config.queues:
        return ()
    entries, queue = config.queue.length, config.queue
    text = _spec("queue_text", "int32", entries, queue.text_slots)
    region = _spec("queue_region", "float32", entries, queue.regions, config.d_backbone)
    return (
        *((text,) if "text" in config.context else ()),
        *((region,) if "region" in config.context else ()),
        _spec("queue_tick", "int32", entries),
        _spec("queue_valid", "bool", entries),
    )
