"""The same bundle under several engines: the same tokens, the same answers?

    python -m tools.quality.backends --frames 1000

At every clip of the demo all engines start from the first engine's memory and step once, so that differences
do not add up. Counted are the tokens that one engine keeps and another does not; it is a near-tie if the
token missed by less than 1e-3 of score, or of novelty where thinning decided. Where the memory is spread
(`edge_runtime/memory/diversity.py`), one token's score may decide about another, so there no score may
differ by that much. At some clips a fixed set of questions is asked of one version through every engine.
Exit status 3 unless all features agree to 1e-3, all differences are near-ties and at least 99 % of the
answers agree.

Not covered: drift of an engine left to itself for hours, and reduced precision (tools/quality/drift.py).

Letters: m slots, k candidates.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.config.paths import default_bundle
from edge_runtime.frame import to_tick
from edge_runtime.ingest.pipeline import Ingest, round_to_half
from edge_runtime.memory.recurrent_state import Arrays
from edge_runtime.memory.samplers import Novelty, Sampler, SamplerOutput, make_sampler
from edge_runtime.memory.token_memory import TokenMemory, Tokens
from edge_runtime.memory.version import Version, clip_tokens, empty_version
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.world import World
from edge_runtime.sources.demo import DemoSource
from engines.bundle import Bundle
from engines.manifest import GraphName, Manifest
from engines.select import load_engine
from engines.spec import Array, Engine, Feeds
from export.gates.answer_agreement import TokenPosition, answer_similarity, list_positions
from tools.console import finish, progress, run_tool, show
from tools.demo_queries import KINDS, questions

NEAR = 1e-3
"""Scores, novelties and features closer than this count as equal: the parity gate's tolerance of fp32."""
ALIKE = 0.95
"""Intersection over union from which boxes or spans agree."""
AGREE = 0.99


class Remembering(Engine):
    """An engine that keeps what it answered since it was last emptied."""

    def __init__(self, inner: Engine) -> None:
        self.backend, self.inputs, self.outputs = inner.backend, inner.inputs, inner.outputs
        self.answered: list[dict[str, Array]] = []
        self._inner = inner

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        self.answered.append(self._inner(feeds))
        return self.answered[-1]

    def close(self) -> None:
        self._inner.close()


@dataclass
class Scored:
    """What a sampler said last: the scores of its candidates by tick and cell."""

    scores: dict[TokenPosition, float] = field(default_factory=dict)


@dataclass
class Lane:
    """One engine, and how it differed from the first."""

    backbone: Remembering
    sampler: Sampler
    scored: Scored
    asker: Asker
    spread: bool
    overlap: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    features: list[float] = field(default_factory=list)
    answer_similarity: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})


@dataclass(frozen=True)
class Stepped:
    """What came of one clip: its tokens, their novelty by place, the places that the memory now holds."""

    features: NDArray[np.float32]  # (T, 49, d)
    novelty: dict[TokenPosition, float]
    places: set[TokenPosition]


def make_lane(manifest: Manifest, engines: dict[GraphName, Engine]) -> Lane:
    backbone, scored = Remembering(engines["backbone"]), Scored()
    objects = ObjectEncoder(backbone, manifest.network.image_size, frame_at=None, catalogue=None)
    sampler = make_sampler("neural", engines["sampler"])

    def run_graph(memory: TokenMemory, clip: Tokens, novelty: Novelty, state: Arrays) -> SamplerOutput:
        output = sampler.run(memory, clip, novelty, state)
        real = np.concatenate([memory.valid, np.ones(len(clip), np.bool_)])
        places = list_positions(memory.tick, memory.cell) + list_positions(clip.tick, clip.cell)
        pairs = zip(places, output.scores, real, strict=True)
        scored.scores = {place: float(value) for place, value, valid in pairs if valid}
        return output

    asker = Asker(manifest, engines["reader"], objects)
    return Lane(backbone, replace(sampler, graph=run_graph), scored, asker, spread=manifest.network.spread)


def load(bundle: Bundle, name: str, stack: ExitStack) -> Lane:
    """`name` is a backend of the runtime or "torch", the network that the graphs were made from."""
    names: tuple[GraphName, ...] = ("backbone", "sampler", "reader")
    if name == "torch":
        from export.bundle.writer import load_network
        from export.networks.torch_engine import TorchEngine

        network = load_network(bundle)
        engines: dict[GraphName, Engine] = {graph: TorchEngine(network, graph) for graph in names}
    else:
        engines = {graph: load_engine(bundle, graph, name) for graph in names}
    for engine in engines.values():
        stack.callback(engine.close)
    return make_lane(bundle.manifest, engines)


def step(lane: Lane, manifest: Manifest, version: Version, clip: Clip) -> tuple[Stepped, Version]:
    """One clip from `version`."""
    lane.backbone.answered.clear()
    ingest = Ingest(manifest.network, lane.backbone, lane.sampler, version)
    after = ingest.push_images(clip.images, clip.times)
    features = np.concatenate([one["tokens"] for one in lane.backbone.answered])
    places = set(list_positions(after.memory.tokens().tick, after.memory.tokens().cell))
    return Stepped(features, _novelty(version, features, clip.times), places), after


def _novelty(
    version: Version, features: NDArray[np.float32], times: list[float]
) -> dict[TokenPosition, float]:
    half, ticks = round_to_half(features), [to_tick(t) for t in times]
    if version.background is None:
        return {}
    residual = version.background.frame_residual(half)
    clip = replace(version, pending=tuple(half), pending_residual=tuple(residual), pending_ticks=tuple(ticks))
    tokens = clip_tokens(half, ticks)
    return dict(zip(list_positions(tokens.tick, tokens.cell), clip.clip_novelty().tolist(), strict=True))


def compare(lane: Lane, stepped: Stepped, first: Lane, wanted: Stepped) -> None:
    """Note how `lane` differs from `first` after the same clip."""
    lane.features.append(float(np.abs(stepped.features - wanted.features).max()))
    lane.overlap.append(len(stepped.places & wanted.places) / max(len(wanted.places), 1))
    lane.distances += [_missed_by(place, first, wanted, lane) for place in stepped.places - wanted.places]
    lane.distances += [_missed_by(place, lane, stepped, first) for place in wanted.places - stepped.places]


def _missed_by(place: TokenPosition, loser: Lane, kept: Stepped, keeper: Lane) -> float:
    """How far below the last that was taken `place` lies, in the engine that did not keep it; where the
    memory is spread, how far the two engines' scores differ at most."""
    scores = loser.scored.scores
    if place in scores and loser.spread:
        others = keeper.scored.scores
        return max(abs(scores[one] - others[one]) for one in scores.keys() & others.keys())
    if place in scores:
        return min(scores[one] for one in kept.places) - scores[place]
    candidates = [novelty for one, novelty in kept.novelty.items() if one in scores]
    return min(candidates) - kept.novelty[place]


@dataclass(frozen=True)
class Clip:
    images: list[NDArray[np.uint8]]
    times: list[float]


def clips(manifest: Manifest, seed: int, frames: int) -> Iterator[Clip]:
    """Whole clips of the demo at the bundle's picture size and rate."""
    network = manifest.network
    size = (network.image_size, network.image_size)
    with DemoSource(WorldConfig(seed=seed), sample_fps=network.sample_fps, size=size) as source:
        stream = iter(source)
        for _ in range(frames // network.clip_frames):
            taken = [next(stream) for _ in range(network.clip_frames)]
            yield Clip([frame.image for frame in taken], [frame.t for frame in taken])


def figures(lane: Lane) -> dict[str, Any]:
    near = [one for one in lane.distances if one < NEAR]
    others = [one for one in lane.distances if one >= NEAR]
    answers = {
        kind: {
            "agree": float(np.mean(np.array(found) >= ALIKE)) if found else 1.0,
            "least": min(found, default=1.0),
            "questions": len(found),
        }
        for kind, found in lane.likeness.items()
    }
    out: dict[str, Any] = {
        "engine": lane.backbone.backend,
        "features": {"largest_difference": max(lane.features, default=0.0)},
        "tokens": {
            "overlap": float(np.mean(lane.overlap)) if lane.overlap else 1.0,
            "least_overlap": min(lane.overlap, default=1.0),
            "different": len(lane.distances),
            "near_ties": len(near),
            "largest_other": max(others, default=0.0),
        },
        "answers": answers,
    }
    agreeing = all(one["agree"] >= AGREE for one in answers.values())
    out["ok"] = out["features"]["largest_difference"] < NEAR and not others and agreeing
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--engines", nargs="+", default=["onnxruntime", "openvino", "torch"])
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--points", type=int, default=5, help="how often the questions are asked")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report-only", action="store_true", help="exit 0 even where a target is missed")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    manifest = bundle.manifest
    count = arguments.frames // manifest.network.clip_frames
    asked_after = set(np.rint(np.linspace(0, count - 1, arguments.points + 1)[1:]).astype(int).tolist())
    asked = questions(World(WorldConfig(seed=arguments.seed)), manifest)
    with ExitStack() as stack, progress(count) as bar:
        lanes = [load(bundle, name, stack) for name in arguments.engines]
        first, spread = lanes[0], []
        version = empty_version(manifest.network)
        for number, clip in enumerate(clips(manifest, arguments.seed, arguments.frames)):
            before = version
            wanted, version = step(first, manifest, before, clip)
            spread.append(float(np.std(list(first.scored.scores.values()))))
            for lane in lanes[1:]:
                compare(lane, step(lane, manifest, before, clip)[0], first, wanted)
            if number in asked_after:
                _ask(lanes, version, asked)
            bar("clips")
    found = {name: figures(lane) for name, lane in zip(arguments.engines[1:], lanes[1:], strict=True)}
    _print(arguments.engines[0], found)
    finish(
        {
            "trained": manifest.training.trained,
            "reference": arguments.engines[0],
            "frames": count * manifest.network.clip_frames,
            "clips": count,
            "slots": manifest.network.memory_tokens,
            "score_deviation": float(np.median(spread)),
            "engines": found,
            "ok": all(one["ok"] for one in found.values()),
        }
    )
    return 0 if all(one["ok"] for one in found.values()) or arguments.report_only else 3


def _ask(lanes: Sequence[Lane], version: Version, asked: dict[str, list[Any]]) -> None:
    for kind, queries in asked.items():
        wanted = lanes[0].asker.ask_all(queries, version)
        for lane in lanes[1:]:
            pairs = zip(wanted, lane.asker.ask_all(queries, version), strict=True)
            lane.likeness[kind] += [answer_similarity(a, b) for a, b in pairs]


def _print(reference: str, found: dict[str, dict[str, Any]]) -> None:
    columns = ["engine", "features", "overlap", "least", "different", "near-ties", "largest other", *KINDS]
    rows = []
    for name, one in found.items():
        tokens = one["tokens"]
        row: list[object] = [f"{name} ({one['engine']})", one["features"]["largest_difference"]]
        row += [f"{tokens[key]:.6f}" for key in ("overlap", "least_overlap")]
        row += [tokens[key] for key in ("different", "near_ties", "largest_other")]
        row += [f"{one['answers'][kind]['agree']:.4f}" for kind in KINDS]
        rows.append(row)
    show(f"Against {reference}", columns, rows)


if __name__ == "__main__":
    run_tool(main)
