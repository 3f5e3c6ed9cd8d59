"""One stream through one set of engines: ingest and answers."""

from __future__ import annotations

from collections.abc import Sequence

from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Version, empty_version
from edge_runtime.query.answers import Answer
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.schema import AnyQuery
from engines.manifest import Manifest
from export.parity.relative_error import Graphs


class StreamSession:
    """Three graphs with a memory of their own, exactly as on a device."""

    def __init__(self, manifest: Manifest, graphs: Graphs, version: Version | None = None) -> None:
        network = manifest.network
        self.ingest = Ingest(
            network,
            graphs["backbone"],
            make_sampler("neural", graphs["sampler"]),
            version or empty_version(network),
        )
        self.objects = ObjectEncoder(graphs["backbone"], network, frame_at=None, catalogue=None)
        self.asker = Asker(manifest, graphs["reader"], self.objects)

    @property
    def version(self) -> Version:
        return self.ingest.version

    def ask(self, queries: Sequence[AnyQuery]) -> list[Answer]:
        """Answer in full: what an answer would be is compared also where it abstains."""
        return [result.full for result in self.asker.answer_with_outputs(queries, self.version)]
