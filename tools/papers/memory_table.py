"""Five samplers with the plain context, and every trained context, on the same videos and questions.

    python -m tools.papers.tables memories --data DATA --cache CACHE --output FOLDER \
        --attention edge_runtime/bundle --s5 runs/s5-0 runs/s5-1 \
        --contexts runs/svd-0 runs/text-0 runs/svd-text-0 --activity svd+text=RESULTS:HEAD

`--attention` and `--s5` are bundles or run folders, one for each training seed; svd-novelty, random and fifo
are samplers of the first of them. `--contexts` are run folders that learned alike but for their context; what
they are called and which belong together their networks say. Answers that lie in --output are not asked
again, where network, thresholds, questions and events are the same. `--activity` takes the mAP of activity
detection with a context from what tools.papers.detection wrote: over all activities, or over some that it was
asked about by --activities, which the column then names. Those of all contexts have to be over the same ones.

Costs are medians of processor time on one onnxruntime thread, all ways in turns on one video: a clip whose
tokens are known (background, sampler, memory, queues), and a question that is asked alone. Writes
memories.md and memories.json; the last line of standard output is that JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from engines.bundle import Bundle
from engines.errors import LvmError
from export.bundle.writer import write_bundle
from export.data.checks import read_data_folder
from export.data.files import EVENTS, QUERIES, DataFolder
from export.data.records import Split
from export.evaluation.run_folders import CHECKPOINT, OWN, TrainedRun, is_bundle, results_file
from export.evaluation.stream_run import Model
from export.evaluation.videos import encode_crops, open_caches
from export.onnx_graphs.external_weights import hash_weights
from export.quantization.plan import Plan
from export.training.evaluate_cli import answer_queries
from tools.console import finish, run_tool
from tools.papers.memory_comparison import Way, compared, table
from tools.papers.memory_costs import costs

UNTRAINED = ("svd-novelty", "random", "fifo")
PLAIN = "svd"
"""The context of LVM-Net's token memory as it is here: summary tokens of the background."""


@dataclass(frozen=True)
class _Asked:
    """A run or bundle, and the folder of its answers."""

    run: TrainedRun
    answers: Path


class Comparison:
    """Everything that is asked about one data folder, with its answers in `output`."""

    def __init__(self, data: DataFolder, split: Split, cache: Path, output: Path) -> None:
        self.data, self.split, self.cache, self.output = data, split, cache, output
        said = [(data.root / name).read_bytes() for name in (QUERIES, EVENTS)]
        self._questions = hashlib.sha256(b"".join(said)).hexdigest()[:8]

    def way(self, name: str, folders: Sequence[Path], system: str = OWN) -> tuple[Way, tuple[Bundle, str]]:
        """The answers of `system` by the runs in `folders`, and the bundle and sampler that give them."""
        asked = [self._asked(folder, system) for folder in folders]
        heads = {one.run.seed: one.run.card.thresholds.time_head for one in asked}
        if len(heads) < len(asked):
            seeds = ", ".join(str(one.run.seed) for one in asked)
            raise LvmError(f"{name}: one run for each training seed expected, got seeds {seeds}")
        way = Way(name, [one.answers for one in asked], system, heads)
        return way, (self._bundle(asked[0]), "neural" if system == OWN else system)

    def _asked(self, folder: Path, system: str) -> _Asked:
        run = TrainedRun.open(folder)
        place = self.output / "answers" / f"{answered_by(run)}-{self._questions}"
        if not results_file(place, self.split, system).is_file():
            print(f"{folder}: {system}", file=sys.stderr, flush=True)
            answer_queries(run, self.data, self.split, [system], self.cache, place)
        return _Asked(run, place)

    def _bundle(self, asked: _Asked) -> Bundle:
        if is_bundle(asked.run.folder):
            return Bundle.open(asked.run.folder)
        place = asked.answers / "bundle"
        if not place.exists():
            write_bundle(asked.run.network, asked.run.card, place, Plan("fp32", ("onnxruntime",)))
        return Bundle.open(place)

    def costs(self, ways: dict[str, tuple[Bundle, str]], run: Path, each: int) -> dict[str, Any]:
        """Of all ways in turns, on the first video of the split."""
        opened = TrainedRun.open(run)
        model = Model.from_network(opened.network, opened.card)
        digest = opened.backbone_digest()
        cache = next(
            iter(open_caches(self.data, self.split, opened.config, model.backbone, digest, self.cache))
        )
        queries = [one for one in self.data.queries if one.video == cache.name]
        video = self.data.videos[cache.name]
        crops = encode_crops(self.data, video, queries, opened.config, model.backbone)
        return costs(ways, cache, queries, each, crops)


def answered_by(run: TrainedRun) -> str:
    """All of a run that its answers depend on: bundles of equal weights may differ in memory slots."""
    card, config = run.card, run.config
    said = f"{hash_weights(run.network)} {config.model_dump_json()} {card.thresholds.model_dump_json()}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def by_context(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Run folders by what their readers get beside the memory, the plain context first."""
    found: dict[str, list[Path]] = {}
    for folder in folders:
        name = "+".join(TrainedRun.open(folder).config.context) or "none"
        found.setdefault(name, []).append(folder)
    if found and PLAIN not in found:
        raise LvmError(f"--contexts needs a run with the context {PLAIN}, which the others are held against")
    return dict(sorted(found.items(), key=lambda one: (one[0] != PLAIN, one[0].count("+"), one[0])))


def activity_of(
    given: Sequence[str], contexts: Sequence[str], classes: Sequence[str]
) -> tuple[dict[str, list[float]], list[str]]:
    """CONTEXT=FOLDER:HEAD -> mAP with its interval, by context; and the activities it is over, none where
    they are all: those that the file names, else `classes`.

    LvmError for a context that is none of `contexts`, and for files whose mAP is over different activities.
    """
    found: dict[str, list[float]] = {}
    over: list[str] = []
    some = False
    for one in given:
        context, equals, where = one.partition("=")
        folder, colon, head = where.rpartition(":")
        if not equals or not colon:
            raise LvmError(f"--activity must look like text=RESULTS:text-6-1, got {one!r}")
        if context not in contexts:
            known = ", ".join(contexts) or "none (name runs by --contexts)"
            raise LvmError(f"--activity {one}: contexts of the table are {known}, got {context!r}")
        file = Path(folder) / "detection.json"
        if not file.is_file():
            raise LvmError(f"--activity {one}: {file} does not exist: write it with tools.papers.detection")
        said = json.loads(file.read_text(encoding="utf-8"))
        heads = said["heads"]
        if head not in heads:
            raise LvmError(f"--activity {one}: {file} has heads {', '.join(heads)}, got {head}")
        judged = list(said.get("asked", heads[head]["by_activity"]))
        if over and set(judged) != set(over):
            raise LvmError(
                f"--activity {one}: {file} has the mAP over {', '.join(judged)}, the one before over "
                f"{', '.join(over)}: write both with tools.papers.detection and the same --activities"
            )
        over = over or judged
        some = some or not set(said.get("classes", classes)) <= set(judged)
        found[context] = heads[head]["map"]
    return found, over if some else []


def tables(given: argparse.Namespace) -> dict[str, Any]:
    """What the last line says."""
    split = cast(Split, given.split)
    comparison = Comparison(
        read_data_folder(given.data), split, given.cache or given.output / "cache", given.output
    )
    contexts = by_context(given.contexts)
    classes = [one.name for one in comparison.data.classes]
    activity, over = activity_of(given.activity, list(contexts), classes)
    groups: dict[str, dict[str, tuple[Way, tuple[Bundle, str]]]] = {"samplers": {}, "contexts": {}}
    groups["samplers"]["neural"] = comparison.way("neural", given.attention)
    if given.s5:
        groups["samplers"]["s5"] = comparison.way("s5", given.s5)
    for name in UNTRAINED:
        groups["samplers"][name] = comparison.way(name, given.attention, name)
    for name, folders in contexts.items():
        groups["contexts"][name] = comparison.way(name, folders)
    bundles = {f"{group} {name}": one[1] for group, ways in groups.items() for name, one in ways.items()}
    spent = comparison.costs(bundles, given.attention[0], given.questions)
    found: dict[str, Any] = {"data": str(given.data), "split": split}
    for group, ways in groups.items():
        if ways:
            found[group] = compared([way for way, _ in ways.values()], split)
            found[f"{group}_costs"] = {name: spent[f"{group} {name}"] for name in ways}
    found["activity"], found["activity_of"] = activity, over or "all"
    return found


def page(found: dict[str, Any]) -> str:
    """The tables as Markdown."""
    over = [] if found["activity_of"] == "all" else found["activity_of"]
    said = {
        "samplers": ("Samplers, with the plain context", "Gains over neural.", {}),
        "contexts": ("Contexts, trained alike", f"Gains over {PLAIN}.", found["activity"]),
    }
    parts = [
        table(title, words, found[group], found[f"{group}_costs"], activity, over)
        for group, (title, words, activity) in said.items()
        if group in found
    ]
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    torch.set_num_threads(1)
    found = tables(given)
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "memories.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (given.output / "memories.md").write_text(page(found), encoding="utf-8")
    finish(found)
    return 0


def _parser() -> argparse.ArgumentParser:
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
    return parser


if __name__ == "__main__":
    run_tool(main)
