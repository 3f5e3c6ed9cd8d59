"""Compare one bundle on several engines: are the tokens and the answers the same?

    python -m tools.quality.backends --frames 1000

At every clip of the demo all engines start from the first engine's memory and step once, so that differences
do not add up. The tool counts the tokens that one engine retains and another does not. Such a difference is a
near-tie if the token missed by less than 1e-3 of score, or of novelty where the prefilter decided. Where the
memory is selected for diversity (`edge_runtime/memory/diversity.py`), one token's score may decide about
another, so there no score may differ by that much. At some clips a fixed set of questions is asked about one
version through every engine. Exit status 3 unless all features agree to 1e-3, all differences are near-ties
and at least 99 % of the answers agree.

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
from tools.demo_queries import KINDS, make_questions

NEAR_TIE = 1e-3
"""Scores, novelties and features closer than this count as equal: the parity gate's tolerance for fp32."""
MIN_SIMILARITY = 0.95
"""Boxes or spans agree from this intersection over union on."""
MIN_AGREEING = 0.99


class RecordingEngine(Engine):
    """An engine that records its outputs until `outputs` is cleared."""

    def __init__(self, inner: Engine) -> None:
        self.backend, self.inputs, self.outputs = inner.backend, inner.inputs, inner.outputs
        self.recorded: list[dict[str, Array]] = []
        self._inner = inner

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        self.recorded.append(self._inner(feeds))
        return self.recorded[-1]

    def close(self) -> None:
        self._inner.close()


@dataclass
class LastScores:
    """The last scores of a sampler's candidates, by tick and cell."""

    scores: dict[TokenPosition, float] = field(default_factory=dict)


@dataclass
class EngineRun:
    """One engine, and how it differed from the first."""

    backbone: RecordingEngine
    sampler: Sampler
    scored: LastScores
    asker: Asker
    spread: bool
    overlap: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    features: list[float] = field(default_factory=list)
    similarities: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})


@dataclass(frozen=True)
class ClipOutcome:
    """One clip's tokens, their novelty by position, and the positions that the memory holds afterwards."""

    features: NDArray[np.float32]  # (T, 49, d)
    novelty: dict[TokenPosition, float]
    positions: set[TokenPosition]


def make_engine_run(manifest: Manifest, engines: dict[GraphName, Engine]) -> EngineRun:
    backbone, scored = RecordingEngine(engines["backbone"]), LastScores()
    objects = ObjectEncoder(backbone, manifest.network.image_size, frame_at=None, catalogue=None)
    sampler = make_sampler("neural", engines["sampler"])

    def run_graph(memory: TokenMemory, clip: Tokens, novelty: Novelty, state: Arrays) -> SamplerOutput:
        output = sampler.run(memory, clip, novelty, state)
        real = np.concatenate([memory.valid, np.ones(len(clip), np.bool_)])
        positions = list_positions(memory.tick, memory.cell) + list_positions(clip.tick, clip.cell)
        pairs = zip(positions, output.scores, real, strict=True)
        scored.scores = {position: float(value) for position, value, valid in pairs if valid}
        return output

    asker = Asker(manifest, engines["reader"], objects)
    return EngineRun(
        backbone, replace(sampler, graph=run_graph), scored, asker, spread=manifest.network.spread
    )


def load(bundle: Bundle, name: str, stack: ExitStack) -> EngineRun:
    """Load the engines of `name`: a backend of the runtime, or "torch", the network behind the graphs."""
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
    return make_engine_run(bundle.manifest, engines)


def step(run: EngineRun, manifest: Manifest, version: Version, clip: Clip) -> tuple[ClipOutcome, Version]:
    """Ingest one clip from `version`; return what came of it and the next version."""
    run.backbone.recorded.clear()
    ingest = Ingest(manifest.network, run.backbone, run.sampler, version)
    after = ingest.push_images(clip.images, clip.times)
    features = np.concatenate([outputs["tokens"] for outputs in run.backbone.recorded])
    positions = set(list_positions(after.memory.tokens().tick, after.memory.tokens().cell))
    return ClipOutcome(features, _novelty(version, features, clip.times), positions), after


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


def compare_clip(run: EngineRun, outcome: ClipOutcome, first: EngineRun, expected: ClipOutcome) -> None:
    """Note how `run` differs from `first` after the same clip."""
    run.features.append(float(np.abs(outcome.features - expected.features).max()))
    shared = outcome.positions & expected.positions
    run.overlap.append(len(shared) / max(len(expected.positions), 1))
    run.distances += [score_gap(p, first, expected, run) for p in outcome.positions - shared]
    run.distances += [score_gap(p, run, outcome, first) for p in expected.positions - shared]


def score_gap(position: TokenPosition, loser: EngineRun, outcome: ClipOutcome, keeper: EngineRun) -> float:
    """Return how far `position` lies below the last retained one, in the engine that did not retain it.

    `outcome` is the loser's. Where the memory is selected for diversity, return the largest difference
    between the two engines' scores instead.
    """
    scores = loser.scored.scores
    if position in scores and loser.spread:
        others = keeper.scored.scores
        return max(abs(scores[p] - others[p]) for p in scores.keys() & others.keys())
    if position in scores:
        return min(scores[p] for p in outcome.positions) - scores[position]
    return min(novelty for p, novelty in outcome.novelty.items() if p in scores) - outcome.novelty[position]


@dataclass(frozen=True)
class Clip:
    images: list[NDArray[np.uint8]]
    times: list[float]


def make_clips(manifest: Manifest, seed: int, frames: int) -> Iterator[Clip]:
    """Yield whole clips of the demo at the bundle's picture size and rate."""
    network = manifest.network
    size = (network.image_size, network.image_size)
    with DemoSource(WorldConfig(seed=seed), sample_fps=network.sample_fps, size=size) as source:
        stream = iter(source)
        for _ in range(frames // network.clip_frames):
            clip = [next(stream) for _ in range(network.clip_frames)]
            yield Clip([frame.image for frame in clip], [frame.t for frame in clip])


def summarise(run: EngineRun) -> dict[str, Any]:
    others = [distance for distance in run.distances if distance >= NEAR_TIE]
    answers = {
        kind: {
            "agree": float(np.mean(np.array(similarities) >= MIN_SIMILARITY)) if similarities else 1.0,
            "least": min(similarities, default=1.0),
            "questions": len(similarities),
        }
        for kind, similarities in run.similarities.items()
    }
    result: dict[str, Any] = {
        "engine": run.backbone.backend,
        "features": {"largest_difference": max(run.features, default=0.0)},
        "tokens": {
            "overlap": float(np.mean(run.overlap)) if run.overlap else 1.0,
            "least_overlap": min(run.overlap, default=1.0),
            "different": len(run.distances),
            "near_ties": len(run.distances) - len(others),
            "largest_other": max(others, default=0.0),
        },
        "answers": answers,
    }
    agreeing = all(row["agree"] >= MIN_AGREEING for row in answers.values())
    result["ok"] = result["features"]["largest_difference"] < NEAR_TIE and not others and agreeing
    return result


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
    asked = make_questions(World(WorldConfig(seed=arguments.seed)), manifest)
    with ExitStack() as stack, progress(count) as bar:
        runs = [load(bundle, name, stack) for name in arguments.engines]
        first, deviations = runs[0], []
        version = empty_version(manifest.network)
        for number, clip in enumerate(make_clips(manifest, arguments.seed, arguments.frames)):
            before = version
            expected, version = step(first, manifest, before, clip)
            deviations.append(float(np.std(list(first.scored.scores.values()))))
            for run in runs[1:]:
                compare_clip(run, step(run, manifest, before, clip)[0], first, expected)
            if number in asked_after:
                compare_answers(runs, version, asked)
            bar("clips")
    rows = {name: summarise(run) for name, run in zip(arguments.engines[1:], runs[1:], strict=True)}
    _print(arguments.engines[0], rows)
    ok = all(row["ok"] for row in rows.values())
    finish(
        {
            "trained": manifest.training.trained,
            "reference": arguments.engines[0],
            "frames": count * manifest.network.clip_frames,
            "clips": count,
            "slots": manifest.network.memory_tokens,
            "score_deviation": float(np.median(deviations)),
            "engines": rows,
            "ok": ok,
        }
    )
    return 0 if ok or arguments.report_only else 3


def compare_answers(runs: Sequence[EngineRun], version: Version, asked: dict[str, list[Any]]) -> None:
    """Ask every engine the same questions, and note how similar its answers are to the first one's."""
    for kind, queries in asked.items():
        expected = runs[0].asker.ask_all(queries, version)
        for run in runs[1:]:
            pairs = zip(expected, run.asker.ask_all(queries, version), strict=True)
            run.similarities[kind] += [answer_similarity(a, b) for a, b in pairs]


def _print(reference: str, summaries: dict[str, dict[str, Any]]) -> None:
    columns = ["engine", "features", "overlap", "min", "different", "near-ties", "largest other", *KINDS]
    rows = []
    for name, summary in summaries.items():
        tokens = summary["tokens"]
        row: list[object] = [f"{name} ({summary['engine']})", summary["features"]["largest_difference"]]
        row += [f"{tokens[key]:.6f}" for key in ("overlap", "least_overlap")]
        row += [tokens[key] for key in ("different", "near_ties", "largest_other")]
        row += [f"{summary['answers'][kind]['agree']:.4f}" for kind in KINDS]
        rows.append(row)
    show(f"Against {reference}", columns, rows)


if __name__ == "__main__":
    run_tool(main)
