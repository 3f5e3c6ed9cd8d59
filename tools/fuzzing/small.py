"""Make small services: real ingest, memory and asker over engines of numpy, for many cases a second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.catalogue.store import Catalogue
from edge_runtime.config.paths import default_bundle
from edge_runtime.frame import Frame
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Version, empty_version
from edge_runtime.persistence import Header, Snapshot
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.runtime import Service
from edge_runtime.system.errors import QueryError
from engines.bundle import Bundle
from engines.fake import FakeEngine
from engines.manifest import Manifest
from engines.network_config import NetworkConfig
from engines.select import Choice
from engines.spec import Array, Feeds, TensorSpec

D, STEPS = 8, 4


def make_small_manifest() -> Manifest:
    """Return the shipped manifest with a network of 12 slots and clips of 3 frames."""
    shipped = Bundle.open(default_bundle()).manifest
    network = shipped.network.model_copy(
        update=dict(
            image_size=32, d_backbone=D, d_model=8, heads=2, memory_tokens=12, clip_frames=3,
            clip_candidates=10, recency_tokens=6, reader_candidates=0, svd_rank=2, query_steps=STEPS,
            even_tokens=0, appearance=0, best_relevance=False,
        )
    )  # fmt: skip
    return shipped.model_copy(update={"network": NetworkConfig.model_validate(network.model_dump())})


def small_service(folder: Path) -> Service:
    """Return a whole service with one camera that has ingested eight frames; nothing is running."""
    manifest = make_small_manifest()
    shipped = Bundle.open(default_bundle())
    backbone, reader = _backbone(manifest.network), _reader(manifest.network)
    bundle = Bundle(shipped.path, shipped._files, manifest, shipped.digest)
    service = Service(Engines(bundle, Choice("fake", "for speed"), backbone, reader, reader))
    camera = service.add(CameraSettings("demo", folder / "state", sampler="fifo"))
    camera.ingest.push([SmallService._frame_at(float(t)) for t in range(8)])
    return service


class SmallService:
    """The part of a service that the targets need: `version`, `ask`, `snapshot`, `folder`."""

    @dataclass(frozen=True)
    class Folder:
        folder: Path

    def __init__(self, folder: Path, frames: int = 8) -> None:
        self.manifest = make_small_manifest()
        network = self.manifest.network
        self.folder = self.Folder(folder)
        self.cameras: dict[str, SmallService] = {}
        """Empty, because a status needs a real camera."""
        backbone = _backbone(network)
        reader = _reader(network)
        catalogue = folder / "catalogue"
        (catalogue / "milk").mkdir(parents=True, exist_ok=True)
        objects = ObjectEncoder(
            backbone, network, frame_at=lambda t: self._frame_at(t), catalogue=Catalogue(catalogue)
        )
        self.asker = Asker(self.manifest, reader, objects)
        self.version = empty_version(network)
        if frames:
            ingest = Ingest(network, backbone, make_sampler("fifo", reader), self.version)
            self.version = ingest.push([self._frame_at(float(t)) for t in range(frames)])
            ingest.close()
        self.header = Header(
            model="m" * 64,
            bundle="/b",
            source="demo",
            sampler="fifo",
            epoch=1.5e9,
            sample_fps=1.0,
            last_t=7.0,
        )

    def camera(self, name: str | None = None) -> SmallService:
        """Return the only camera, this object. Raises QueryError for a name."""
        if name is not None:
            raise QueryError(f"there is no camera {name[:100]!r}")
        return self

    def ask(self, query: Any, camera: str | None = None) -> Any:
        return self.camera(camera).asker.ask(query, self.version)

    def ask_version(self, query: Any, version: Version) -> Any:
        return self.asker.ask(query, version)

    def snapshot(self) -> Snapshot:
        return Snapshot(self.header, self.version)

    @staticmethod
    def _frame_at(t: float) -> Frame:
        return Frame(np.random.default_rng(int(abs(t))).integers(0, 255, (32, 32, 3), np.uint8), t)


def _backbone(network: NetworkConfig) -> FakeEngine:
    size = network.image_size

    def run(feeds: Feeds) -> dict[str, Array]:
        small = feeds["image"][:, :28, :28].reshape(-1, 7, 4, 7, 4, 3).mean(axis=(2, 4)).astype(np.float32)
        tokens = np.repeat(small.reshape(-1, 49, 3), 3, axis=2)[..., :D] / 255
        return {"tokens": np.ascontiguousarray(tokens)}  # (B, 49, D)

    return FakeEngine(
        run,
        (TensorSpec("image", "uint8", ("batch", size, size, 3)),),
        (TensorSpec("tokens", "float32", ("batch", 49, D)),),
    )


def _reader(network: NetworkConfig) -> FakeEngine:
    n, c = network.reader_tokens, network.activities
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "activity_logits": (c,), "boxes_cxcywh": (STEPS, 4), "start_logits": (STEPS,), "end_logits": (STEPS,),
        "pointer_logits": (n,), "pointer_offsets": (n, 2), "presence_logit": (), "evidence": (n,),
        "relevance": (n,),
    }  # fmt: skip
    made = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    input_specs = {
        "memory_features": ("float32", (n, D)), "memory_tick": ("int32", (n,)), "memory_cell": ("int32",
        (n,)),
        "memory_valid": ("bool", (n,)), "svd_basis": ("float32", (network.svd_rank, D)),
        "svd_strength": ("float32", (network.svd_rank,)), "object_tokens": ("float32", (49, D)),
        "object_valid": ("bool", ()), "activity": ("float32", (c,)), "activity_valid": ("bool", ()),
        "query_tick": ("int32", (STEPS,)), "query_valid": ("bool", (STEPS,)),
    }  # fmt: skip

    def run(feeds: Feeds) -> dict[str, Array]:
        q = len(feeds["object_valid"])
        return {name: np.repeat(np.asarray(array)[None], q, axis=0) for name, array in made.items()}

    return FakeEngine(
        run,
        tuple(TensorSpec(name, kind, ("batch", *shape)) for name, (kind, shape) in input_specs.items()),
        tuple(TensorSpec(name, "float32", ("batch", *shape)) for name, shape in shapes.items()),
    )
