"""Small networks that ingest a short demo, and engines that are broken on purpose."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch

from edge_runtime.simulation.activities import ACTIVITIES
from engines.fake import FakeEngine
from engines.manifest import GRAPHS, ActivityClass, GraphName, Manifest
from engines.spec import Array, Engine, Feeds
from export.evaluation.stream_run import Model
from export.gates.drift import measure_drift
from export.gates.limits import GateSettings
from export.gates.result import Drift
from export.networks.model import LvmNet, TorchEngine
from export.parity.relative_error import Graphs
from export.stream_runs.footage import DemoReplay, ReplaySource
from tests.support.export_models import card, small_network

torch.set_num_threads(1)  # toys are too small for two

DEMO = "demo?size=64x64"
SETTINGS = GateSettings(frames=12, every=4, asked=9, questions=18, sources=(DEMO,))
FOOTAGE = DemoReplay(DEMO)
Change = Callable[[dict[str, Array]], None]


def make_toy(seed: int = 0) -> LvmNet:
    """Make a small network whose classes are those of the demo."""
    return small_network(seed, activities=len(ACTIVITIES))


def make_manifest(network: LvmNet) -> Manifest:
    classes = tuple(ActivityClass(**activity._asdict()) for activity in ACTIVITIES)
    return Model.from_network(network, replace(card(network), classes=classes)).manifest


def make_graphs(network: LvmNet) -> dict[GraphName, Engine]:
    return {name: TorchEngine(network, name) for name in GRAPHS}


def run_drift(network: LvmNet, export: Graphs, footage: ReplaySource | None = None, **settings: Any) -> Drift:
    """Measure the drift of `export` against `network`, all in fp32."""
    return measure_drift(
        make_manifest(network),
        make_graphs(network),
        export,
        dict.fromkeys(GRAPHS, "fp32"),
        footage or FOOTAGE,
        SETTINGS.model_copy(update=settings),
    )


def change_outputs(
    network: LvmNet, name: GraphName, change: Change, calls: Iterable[int] | None = None
) -> Graphs:
    """Return the network's graphs; `change` alters the outputs of graph `name`, in these calls or in all."""
    inner, number = TorchEngine(network, name), iter(range(10**9))
    chosen = None if calls is None else set(calls)

    def run(feeds: Feeds) -> dict[str, Array]:
        outputs = inner(feeds)
        if (call := next(number)) is not None and (chosen is None or call in chosen):
            change(outputs)
        return outputs

    return {**make_graphs(network), name: FakeEngine(run, inner.inputs, inner.outputs)}


def remove_layer(network: LvmNet, name: GraphName, layer: str) -> Graphs:
    """Return the network's graphs, one of them without a layer, as from an exporter that forgets it."""
    broken = copy.deepcopy(network)
    *path, last = layer.split(".")
    part: Any = broken.part(name)
    for step in path:
        part = getattr(part, step)
    assert isinstance(getattr(part, last), torch.nn.LayerNorm)
    setattr(part, last, torch.nn.Identity())
    return {**make_graphs(network), name: TorchEngine(broken, name)}
