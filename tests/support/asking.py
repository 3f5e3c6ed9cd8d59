"""A fake reader, memories and questions for tests of answers.

Letters: Q questions of a run, n tokens (memory, then recency), L steps, C classes.
"""

import base64
import json

import cv2
import numpy as np

from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.schema import parse_query
from engines.fake import FakeEngine
from engines.manifest import ActivityClass, Manifest, Thresholds, TrainingRecord
from engines.spec import TensorSpec
from export.networks.signatures import graph_inputs
from tests.support.fakes import fake_backbone, fake_sampler, frames, small_network

NETWORK = small_network()
N, STEPS, CLASSES = NETWORK.reader_tokens, NETWORK.query_steps, NETWORK.activities
NAMES = ("scan", "bag", "Return_Shelf")


def make_manifest(network=NETWORK, *, trained=True, **thresholds) -> Manifest:
    return Manifest(
        format_version=1,
        name="fake",
        network=network,
        classes=tuple(ActivityClass(name=name, doing=name) for name in NAMES),
        graphs={},
        weights=None,
        files={},
        training=TrainingRecord(trained=trained, recipe="none"),
        thresholds=Thresholds(**thresholds),
    )


class FakeReader(FakeEngine):
    """A reader that records its feeds; a row's outputs depend on all of its inputs and on no other row."""

    def __init__(self, network=NETWORK, *, presence: float = 5.0) -> None:
        n, width = network.reader_tokens, network.d_backbone
        svd = (
            TensorSpec("svd_basis", "float32", ("batch", network.svd_rank, width)),
            TensorSpec("svd_strength", "float32", ("batch", network.svd_rank)),
        )
        inputs = (
            TensorSpec("memory_features", "float32", ("batch", n, width)),
            TensorSpec("memory_tick", "int32", ("batch", n)),
            TensorSpec("memory_cell", "int32", ("batch", n)),
            TensorSpec("memory_valid", "bool", ("batch", n)),
            *(svd if network.summary_rank else ()),
            *(spec for spec in graph_inputs(network, "reader") if spec.name.startswith("queue_")),
            TensorSpec("object_tokens", "float32", ("batch", 49, width)),
            TensorSpec("object_valid", "bool", ("batch",)),
            TensorSpec("activity", "float32", ("batch", CLASSES)),
            TensorSpec("activity_valid", "bool", ("batch",)),
            TensorSpec("query_tick", "int32", ("batch", STEPS)),
            TensorSpec("query_valid", "bool", ("batch", STEPS)),
        )
        super().__init__(self._answer, inputs, ())
        self.calls: list[dict[str, np.ndarray]] = []
        self.presence = presence

    def _answer(self, feeds):
        self.calls.append({name: array.copy() for name, array in feeds.items()})
        q = len(feeds["activity"])
        seed = feeds["object_tokens"].mean((1, 2)) + feeds["activity"] @ np.arange(1, CLASSES + 1) / 10
        step = feeds["query_tick"].astype(np.float32)[..., None]  # (Q, L, 1)
        box = np.concatenate([0.2 + 0 * step, 0.3 + 0 * step, 0.1 + step / 1e4, 0.2 + 0 * step], -1)
        evidence = np.abs(feeds["memory_features"].sum(-1)) + seed[:, None] ** 2 + 0.1  # (Q, n)
        return {
            "activity_logits": np.stack([seed, seed * 2 + 1, seed - 1], 1).astype(np.float32),
            "boxes_cxcywh": box.astype(np.float32),
            "start_logits": (-np.abs(step[..., 0] - 20)).astype(np.float32),
            "end_logits": (-np.abs(step[..., 0] - 40)).astype(np.float32),
            "pointer_logits": evidence.astype(np.float32),
            "pointer_offsets": np.full((q, evidence.shape[1], 2), 0.5, np.float32),
            "presence_logit": np.full(q, self.presence, np.float32),
            "evidence": (evidence / evidence.sum(1, keepdims=True)).astype(np.float32),
        }


def make_version(count: int, network=NETWORK, start: float = 0.0):
    ingest = make_ingest(network)
    ingest.push(frames(count, start=start))
    return ingest.version


def make_ingest(network=NETWORK):
    sampler = make_sampler("neural", fake_sampler(network))
    return Ingest(network, fake_backbone(network), sampler, empty_version(network))


def make_asker(reader, network=NETWORK, **manifest) -> Asker:
    shown = {frame.t: frame for frame in frames(60, size=64)}
    objects = ObjectEncoder(fake_backbone(network), network, frame_at=lambda t: shown[int(t)], catalogue=None)
    return Asker(make_manifest(network, **manifest), reader, objects)


def make_photo(seed: int = 0) -> str:
    image = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), np.uint8)
    return base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode()


def make_query(kind: str, *, activity: str = "bag", seed: int = 0, **more):
    body = {"type": kind, **more}
    if kind != "object":
        body["object"] = {"photos": [make_photo(seed)]}
    if kind != "activity":
        body["activity"] = activity
    return parse_query(json.dumps(body))


def without_time_taken(answer):
    return answer.model_copy(update={"milliseconds": 0.0})
