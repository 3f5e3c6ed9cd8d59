"""Compare five samplers with the plain context, and every trained context, on the same questions.

    python -m tools.papers.tables memories --data DATA --cache CACHE --output FOLDER \
        --attention bundles/tiny --s5 runs/s5-0 runs/s5-1 \
        --contexts runs/svd-0 runs/text-0 runs/svd-text-0 --activity svd+text=RESULTS:HEAD

`--attention` and `--s5` are bundles or run folders, one for each training seed. svd-novelty, random and fifo
are samplers of the first of them. `--contexts` are run folders with equal training except for their context;
their networks name the context and group the folders. Answers in --output are not asked again where network,
thresholds, questions and events are the same. `--activity` takes the mAP of activity detection with a context
from the output of tools.papers.detection: over all activities, or over those of its --activities, which the
column then names. The mAP of all contexts must be over the same activities.

Costs are medians of processor time on one onnxruntime thread, all variants in turn on one video: a clip whose
tokens are known (background, sampler, memory, queues), and a question that is asked alone. Writes memories.md
and memories.json; the last line of standard output is that JSON object.

A variant is one system of some run folders, one folder for each training seed. Recall is LVM-Net's Recall@1x
by kind of question, all durations together. Gains are paired by video and by question. Letters: F frames of a
clip, d token width.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.persistence import to_arrays
from edge_runtime.query.executor import Asker
from edge_runtime.query.schema import AnyQuery
from edge_runtime.service.engine_pool import Engines
from engines.bundle import Bundle
from engines.errors import LvmError
from engines.manifest import TimeHead
from export.bundle.writer import write_bundle
from export.data.checks import read_data_folder
from export.data.files import EVENTS, QUERIES, DataFolder
from export.data.records import QueryRecord, Split
from export.data.token_cache import VideoCache
from export.evaluation import bootstrap, report
from export.evaluation.evaluate import CachedObjects, Crops, to_query
from export.evaluation.markdown import Json, format_percent, render_section
from export.evaluation.report import TYPES
from export.evaluation.results import EventResult, Result, require_same_queries
from export.evaluation.run_folders import (
    CHECKPOINT,
    OWN,
    TrainedRun,
    is_bundle,
    read_events,
    read_results,
    results_file,
)
from export.evaluation.stream_run import Model
from export.evaluation.summary import make_recall_by_seed
from export.evaluation.videos import encode_crops, open_caches
from export.onnx_graphs.external_weights import hash_weights
from export.quantization.plan import Plan
from export.training.evaluate_cli import answer_queries
from tools.console import finish, run_tool

UNTRAINED = ("svd-novelty", "random", "fifo")
PLAIN = "svd"
"""The plain context of the token memory: summary tokens of the background."""


@dataclass(frozen=True)
class _AnsweredRun:
    """A run or bundle with the folder of its answers."""

    run: TrainedRun
    answers: Path


class MemoryComparison:
    """Asks all variants about one data folder; the answers are in `output`."""

    def __init__(self, data: DataFolder, split: Split, cache: Path, output: Path) -> None:
        self.data, self.split, self.cache, self.output = data, split, cache, output
        content = b"".join((data.root / name).read_bytes() for name in (QUERIES, EVENTS))
        self._questions = hashlib.sha256(content).hexdigest()[:8]

    def make_variant(
        self, name: str, folders: Sequence[Path], system: str = OWN
    ) -> tuple[MemoryVariant, tuple[Bundle, str]]:
        """Return the answers of `system` by the runs in `folders`, and the bundle and sampler behind them."""
        answered = [self._ask(folder, system) for folder in folders]
        heads = {each.run.seed: each.run.card.thresholds.time_head for each in answered}
        if len(heads) < len(answered):
            seeds = ", ".join(str(each.run.seed) for each in answered)
            raise LvmError(f"{name}: one run for each training seed expected, got seeds {seeds}")
        variant = MemoryVariant(name, [each.answers for each in answered], system, heads)
        return variant, (self._open_bundle(answered[0]), "neural" if system == OWN else system)

    def _ask(self, folder: Path, system: str) -> _AnsweredRun:
        run = TrainedRun.open(folder)
        place = self.output / "answers" / f"{digest_answerer(run)}-{self._questions}"
        if not results_file(place, self.split, system).is_file():
            print(f"{folder}: {system}", file=sys.stderr, flush=True)
            answer_queries(run, self.data, self.split, [system], self.cache, place)
        return _AnsweredRun(run, place)

    def _open_bundle(self, answered: _AnsweredRun) -> Bundle:
        if is_bundle(answered.run.folder):
            return Bundle.open(answered.run.folder)
        place = answered.answers / "bundle"
        if not place.exists():
            write_bundle(answered.run.network, answered.run.card, place, Plan("fp32", ("onnxruntime",)))
        return Bundle.open(place)

    def measure_costs(self, variants: dict[str, tuple[Bundle, str]], run: Path, each: int) -> dict[str, Any]:
        """Measure the costs of all variants in turn, on the first video of the split."""
        opened = TrainedRun.open(run)
        model = Model.from_network(opened.network, opened.card)
        digest = opened.backbone_digest()
        cache = next(
            iter(open_caches(self.data, self.split, opened.config, model.backbone, digest, self.cache))
        )
        queries = [query for query in self.data.queries if query.video == cache.name]
        video = self.data.videos[cache.name]
        crops = encode_crops(self.data, video, queries, opened.config, model.backbone)
        return measure_costs(variants, cache, queries, each, crops)


def digest_answerer(run: TrainedRun) -> str:
    """Return a digest of all that a run's answers depend on: equal weights may differ in memory slots."""
    card, config = run.card, run.config
    parts = f"{hash_weights(run.network)} {config.model_dump_json()} {card.thresholds.model_dump_json()}"
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def group_by_context(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the run folders by their reader's context, the plain one first.

    Raises LvmError if no run has the plain context.
    """
    groups: dict[str, list[Path]] = {}
    for folder in folders:
        name = "+".join(TrainedRun.open(folder).config.context) or "none"
        groups.setdefault(name, []).append(folder)
    if groups and PLAIN not in groups:
        raise LvmError(f"--contexts needs a run with the context {PLAIN}, which the others are held against")
    names = sorted(groups, key=lambda name: (name != PLAIN, name.count("+"), name))
    return {name: groups[name] for name in names}


def read_activity(
    given: Sequence[str], contexts: Sequence[str], classes: Sequence[str]
) -> tuple[dict[str, list[float]], list[str]]:
    """Read the mAP with its interval of each CONTEXT=FOLDER:HEAD, by context.

    Also return the activities that the mAP is over, an empty list if they are all: those that the file names,
    else `classes`. Raises LvmError for a context that is none of `contexts`, and for files whose mAP is over
    different activities.
    """
    precision: dict[str, list[float]] = {}
    over: list[str] = []
    partial = False
    for option in given:
        context, equals, where = option.partition("=")
        folder, colon, head = where.rpartition(":")
        if not equals or not colon:
            raise LvmError(f"--activity must look like text=RESULTS:text-6-1, got {option!r}")
        if context not in contexts:
            known = ", ".join(contexts) or "none (name runs by --contexts)"
            raise LvmError(f"--activity {option}: contexts of the table are {known}, got {context!r}")
        file = Path(folder) / "detection.json"
        if not file.is_file():
            raise LvmError(
                f"--activity {option}: {file} does not exist: write it with tools.papers.detection"
            )
        result = json.loads(file.read_text(encoding="utf-8"))
        heads = result["heads"]
        if head not in heads:
            raise LvmError(f"--activity {option}: {file} has heads {', '.join(heads)}, got {head}")
        scored = list(result.get("asked", heads[head]["by_activity"]))
        if over and set(scored) != set(over):
            raise LvmError(
                f"--activity {option}: {file} has the mAP over {', '.join(scored)}, the one before over "
                f"{', '.join(over)}: write both with tools.papers.detection and the same --activities"
            )
        over = over or scored
        partial = partial or not set(result.get("classes", classes)) <= set(scored)
        precision[context] = heads[head]["map"]
    return precision, over if partial else []


def run_comparison(given: argparse.Namespace) -> dict[str, Any]:
    """Return the result that the last line prints."""
    split = cast(Split, given.split)
    comparison = MemoryComparison(
        read_data_folder(given.data), split, given.cache or given.output / "cache", given.output
    )
    contexts = group_by_context(given.contexts)
    classes = [activity.name for activity in comparison.data.classes]
    activity, over = read_activity(given.activity, list(contexts), classes)
    groups: dict[str, dict[str, tuple[MemoryVariant, tuple[Bundle, str]]]] = {"samplers": {}, "contexts": {}}
    groups["samplers"]["neural"] = comparison.make_variant("neural", given.attention)
    if given.s5:
        groups["samplers"]["s5"] = comparison.make_variant("s5", given.s5)
    for name in UNTRAINED:
        groups["samplers"][name] = comparison.make_variant(name, given.attention, name)
    for name, folders in contexts.items():
        groups["contexts"][name] = comparison.make_variant(name, folders)
    bundles = {
        f"{group} {name}": bundle
        for group, variants in groups.items()
        for name, (_, bundle) in variants.items()
    }
    costs = comparison.measure_costs(bundles, given.attention[0], given.questions)
    result: dict[str, Any] = {"data": str(given.data), "split": split}
    for group, variants in groups.items():
        if variants:
            result[group] = compare_variants([variant for variant, _ in variants.values()], split)
            result[f"{group}_costs"] = {name: costs[f"{group} {name}"] for name in variants}
    result["activity"], result["activity_of"] = activity, over or "all"
    return result


def render_page(result: dict[str, Any]) -> str:
    """Render the tables as Markdown."""
    over = [] if result["activity_of"] == "all" else result["activity_of"]
    sections = {
        "samplers": ("Samplers, with the plain context", "Gains over neural.", {}),
        "contexts": ("Contexts, trained alike", f"Gains over {PLAIN}.", result["activity"]),
    }
    parts = [
        render_table(title, text, result[group], result[f"{group}_costs"], activity, over)
        for group, (title, text, activity) in sections.items()
        if group in result
    ]
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="tools.papers.tables memories",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    folder = f"a bundle, or a run folder with {CHECKPOINT}"
    parser.add_argument("--data", type=Path, required=True, help="data folder with queries")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--cache", type=Path, help="tokens of videos; default in --output")
    parser.add_argument("--output", type=Path, required=True, help="folder of answers and tables")
    parser.add_argument("--attention", type=Path, nargs="+", required=True, help=folder)
    parser.add_argument("--s5", type=Path, nargs="*", default=[], help=folder)
    parser.add_argument("--contexts", type=Path, nargs="*", default=[], help=folder)
    parser.add_argument("--activity", nargs="*", default=[], metavar="CONTEXT=FOLDER:HEAD")
    parser.add_argument("--questions", type=int, default=20, help="of each kind that are timed")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    result = run_comparison(given)
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "memories.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (given.output / "memories.md").write_text(render_page(result), encoding="utf-8")
    finish(result)
    return 0


ALL = "all"
"""Questions of every kind together."""
KINDS = (*TYPES, ALL)


@dataclass(frozen=True)
class MemoryVariant:
    """The answers of `system` in `folders`; `heads` has the time head of each seed."""

    name: str
    folders: Sequence[Path]
    system: str
    heads: Mapping[int, TimeHead]


def compare_variants(variants: Sequence[MemoryVariant], split: str) -> dict[str, Any]:
    """Return recall, coverage and seeds of every variant, and its gain over the first one.

    Figures are `[estimate, low, high]`. Raises LvmError if answers are missing, or if two variants answered
    different questions.
    """
    answers = {variant.name: _read_answers(variant, split) for variant in variants}
    base = variants[0].name
    rows: dict[str, Any] = {}
    for variant in variants:
        results, events = answers[variant.name]
        require_same_queries(results, answers[base][0])
        scores = _score_by_kind(variant, results)
        rows[variant.name] = {
            "seeds": list(report.list_seeds(results)),
            "recall_1x": {kind: list(bootstrap.mean_interval(own)[:3]) for kind, own in scores.items()},
            "coverage": list(report.coverage_interval(events)[:3]),
        }
        if variant.name != base:
            base_scores = _score_by_kind(variants[0], answers[base][0])
            pairs = {kind: (scores[kind], base_scores[kind]) for kind in scores}
            rows[variant.name]["gain"] = {
                k: list(bootstrap.difference_interval(*pair)[:3]) for k, pair in pairs.items()
            }
            rows[variant.name]["ratio"] = {
                k: list(bootstrap.ratio_interval(*pair)[:3]) for k, pair in pairs.items()
            }
    return rows


def _read_answers(variant: MemoryVariant, split: str) -> tuple[list[Result], list[EventResult]]:
    results = read_results(variant.folders, split, variant.system)
    events = read_events(variant.folders, split, variant.system)
    if not results or not events:
        places = ", ".join(map(str, variant.folders))
        raise LvmError(
            f"{variant.name}: answers of {variant.system} to split {split} expected in {places}, got none: "
            "write them with lvm-train evaluate"
        )
    return results, events


def _score_by_kind(variant: MemoryVariant, results: Sequence[Result]) -> dict[str, bootstrap.Scores]:
    metric = make_recall_by_seed(variant.heads)
    parts = {kind: [result for result in results if kind in (result.type, ALL)] for kind in KINDS}
    by_kind = {kind: report.to_scores(part, metric) for kind, part in parts.items()}
    return {kind: scores for kind, scores in by_kind.items() if scores is not None}


def render_table(
    title: str, text: str, rows: Json, costs: Json, activity: Json, over: Sequence[str] = ()
) -> str:
    """Render the rows of `compare_variants` with their costs, and mAP of detection where `activity` has one.

    The mAP is `over` these activities, over all if none are named.
    """
    precision = f"mAP of {', '.join(over)}, %" if over else "activity mAP, %"
    header = [
        "", *(f"{kind}, %" for kind in KINDS), "all, gain", "events covered, %", precision,
        "state, bytes", "ms a clip", "ms a question", "seeds",
    ]  # fmt: skip
    lines = []
    for name, row in rows.items():
        cost = costs.get(name)
        lines.append(
            [
                name,
                *(format_percent(row["recall_1x"].get(kind)) for kind in KINDS),
                format_percent(row.get("gain", {}).get(ALL), signed=True),
                format_percent(row["coverage"]),
                format_percent(activity.get(name)),
                f"{cost['state_bytes']:,}" if cost else format_percent(None),
                f"{cost['clip_ms']:.1f}" if cost else format_percent(None),
                f"{cost['question_ms']:.1f}" if cost else format_percent(None),
                str(len(row["seeds"])),
            ]
        )
    return render_section(title, text, header, lines)


@dataclass
class TimedMemory:
    """One bundle with one sampler, and the milliseconds of processor time that it took."""

    engines: Engines
    ingest: Ingest
    asker: Asker
    clip_ms: list[float] = field(default_factory=list)
    question_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def load(cls, bundle: Bundle, sampler: str, objects: CachedObjects) -> TimedMemory:
        engines = Engines.load(bundle, "onnxruntime", 1)
        network = bundle.manifest.network
        made = make_sampler(sampler, engines.sampler)
        ingest = Ingest(network, engines.backbone, made, empty_version(network))
        return cls(engines, ingest, Asker(bundle.manifest, engines.reader, objects))

    def close(self) -> None:
        self.ingest.close()
        self.engines.close()

    def ingest_clip(self, cache: VideoCache, clip: int) -> None:
        """Ingest one clip whose tokens (F, 49, d) are known.

        Its time counts in the second half of the video only, when memory and queues are full.
        """
        frames = self.ingest.network.clip_frames
        part = slice(clip * frames, (clip + 1) * frames)
        tokens, times = cache.tokens[part], (cache.ticks[part] / TICKS_PER_SECOND).tolist()
        started = time.process_time()
        self.ingest.push_features(tokens, times)
        if clip >= cache.clips // 2:
            self.clip_ms.append(1e3 * (time.process_time() - started))

    def ask(self, kind: str, question: AnyQuery) -> None:
        started = time.process_time()
        self.asker.ask(question, self.ingest.version)
        self.question_ms[kind].append(1e3 * (time.process_time() - started))

    def summarise(self) -> dict[str, Any]:
        """Return medians; for questions the median of each kind, and their mean."""
        by_kind = {kind: statistics.median(ms) for kind, ms in self.question_ms.items()}
        return {
            "state_bytes": sum(array.nbytes for array in to_arrays(self.ingest.version).values()),
            "clip_ms": statistics.median(self.clip_ms),
            "question_ms": statistics.fmean(by_kind.values()),
            "question_ms_by_kind": by_kind,
        }


def measure_costs(
    variants: dict[str, tuple[Bundle, str]],
    cache: VideoCache,
    queries: Sequence[QueryRecord],
    per_kind: int,
    crops: Crops,
) -> dict[str, dict[str, Any]]:
    """Return bytes of state and processor time of a clip, its tokens known, and of a question asked alone.

    All variants take turns at every clip of `cache`, then at its first `per_kind` queries of each kind;
    `crops` are the tokens (49, d) of objects that are no catalogue photo, by qid.
    """
    objects = CachedObjects(cache, queries, crops)
    timed_memories = {
        name: TimedMemory.load(bundle, sampler, objects) for name, (bundle, sampler) in variants.items()
    }
    try:
        for clip in range(cache.clips):
            for timed in _rotate(list(timed_memories.values()), clip):
                timed.ingest_clip(cache, clip)
        for number, query in enumerate(_select_queries(queries, per_kind)):
            for timed in _rotate(list(timed_memories.values()), number):
                names = [activity.name for activity in timed.engines.bundle.manifest.classes]
                if not number:  # the first question fills the caches of a version
                    timed.asker.ask(to_query(query, names), timed.ingest.version)
                timed.ask(query.type, to_query(query, names))
        return {name: timed.summarise() for name, timed in timed_memories.items()}
    finally:
        for timed in timed_memories.values():
            timed.close()


def _rotate(timed_memories: list[TimedMemory], number: int) -> list[TimedMemory]:
    """Rotate the list, so that each is first, in the middle and last equally often."""
    at = number % len(timed_memories)
    return timed_memories[at:] + timed_memories[:at]


def _select_queries(queries: Sequence[QueryRecord], per_kind: int) -> list[QueryRecord]:
    """Return the first `per_kind` queries of each kind, or all there are, kinds in turn."""
    kinds: dict[str, list[QueryRecord]] = defaultdict(list)
    for query in queries:
        if len(kinds[query.type]) < per_kind:
            kinds[query.type].append(query)
    in_turn = itertools.zip_longest(*kinds.values())
    return [query for queries in in_turn for query in queries if query is not None]


if __name__ == "__main__":
    run_tool(main)
