"""Measure whether the memory finds a product that the network was not trained on, by another photo of it.

    python -m tools.quality.catalogue --products DIR

DIR has one sub-folder of photos for each product. The products that the bundle's manifest names as held out
are handled at known times of long streams, among the others. Then the memory is asked when that was and what
was done, with one photo that the streams do not show, and with three. Baselines on the same frames: chance,
colour histograms, and the raw features of the bundle's backbone. See docs/products.md.

With --train-products DIR2 the others come from DIR2, and every product of DIR is asked about. With --results
FILE each stream is noted as soon as it is done, and a run that was stopped continues from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime.config.paths import default_bundle
from edge_runtime.persistence import model_digest
from edge_runtime.service.engine_pool import Engines
from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.photo_folders import list_product_photos
from engines.bundle import Bundle
from engines.errors import LvmError
from engines.manifest import Manifest
from export.evaluation.catalogue import Outcome, estimate_mean
from export.evaluation.catalogue_ask import BASELINES, PHOTOS, evaluate_stream
from export.evaluation.catalogue_stream import Casting, make_stream
from export.training.data.product_photos import select_held_out
from tools.console import finish, progress, run_tool, show

FIRST_SEED = 9_000_000
"""Seed of the first stream's world; training uses only lower ones."""
PHOTO_COUNTS = dict(zip(("one_photo", "three_photos"), PHOTOS, strict=True))
SIZES = {"closeups": True, "over_the_counter": False}
RECALLS = ("recall_at_1", "recall_at_5")
ANSWERS = ("time_given_activity", "activity_at_moment", "activity_in_found_span", "answered")


def choose_casting(manifest: Manifest, products: Path, train_products: Path | None) -> tuple[Casting, str]:
    """Return the products that are asked about, and what named them.

    `folders`: all of `products` that are not in `train_products`. Otherwise `manifest`, which names them as
    held out. `rule` where the manifest names none of them, because the training used another folder: then it
    is not certain that the bundle was not trained on them. Raises LvmError as list_product_photos does.
    """
    names = tuple(list_product_photos(products))
    if train_products is not None:
        others = tuple(list_product_photos(train_products))
        asked = tuple(name for name in names if name not in others)
        return Casting(products, asked, train_products, others), "folders"
    held_out: Sequence[str] = [name for name in manifest.training.held_out if name in names]
    named_by = "manifest" if held_out else "rule"
    held_out = held_out or select_held_out(names)
    asked = tuple(name for name in names if name in held_out)
    return Casting(products, asked, products, tuple(name for name in names if name not in held_out)), named_by


def check_classes(manifest: Manifest) -> None:
    """Raise LvmError if the bundle cannot name what people do in these streams."""
    known = {activity.name for activity in manifest.classes}
    if missing := [activity.name for activity in ACTIVITIES if activity.name not in known]:
        raise LvmError(f"the bundle must know the checkout's activities, it lacks {', '.join(missing)}")


class StreamLedger:
    """Outcomes of finished streams in a file, one line each; lines of other settings are ignored."""

    def __init__(self, file: Path | None, settings: str) -> None:
        self._file = file
        self._settings = settings
        self.done: dict[int, list[Outcome]] = {}
        if file is not None and file.exists():
            for number, line in enumerate(file.read_text().splitlines(), 1):
                self._parse(line, number)

    def add(self, stream: int, outcomes: list[Outcome]) -> None:
        self.done[stream] = outcomes
        if self._file is not None:
            rows = [outcome.model_dump() for outcome in outcomes]
            with self._file.open("a") as file:
                print(json.dumps({"settings": self._settings, "stream": stream, "rows": rows}), file=file)

    def _parse(self, line: str, number: int) -> None:
        try:
            entry = json.loads(line)
            if entry["settings"] == self._settings:
                self.done[entry["stream"]] = [Outcome.model_validate(row) for row in entry["rows"]]
        except (ValueError, KeyError, TypeError):
            # A run that was killed may have left half a line: that stream is done again.
            print(f"{self._file}: line {number} is no noted stream and is passed over", file=sys.stderr)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return every figure with its interval over products and streams."""
    baselines = {name: _table(outcomes, name, RECALLS) for name in BASELINES}
    return {
        **_table(outcomes, "memory", RECALLS + ANSWERS),
        # Chance does not use the photos: it is the same for one and for three.
        "chance": _table(outcomes, "chance", RECALLS)["one_photo"],
        "histogram": baselines["histogram"],
        "backbone": {name.removeprefix("backbone_"): baselines[name] for name in BASELINES[1:]},
        **{
            name: _table([outcome for outcome in outcomes if outcome.closeup is near], "memory", RECALLS)
            for name, near in SIZES.items()
            if any(outcome.closeup is near for outcome in outcomes)
        },
        "products": _by_product(outcomes),
    }


def _table(outcomes: Sequence[Outcome], method: str, measures: Sequence[str]) -> dict[str, Any]:
    return {
        name: {measure: estimate_mean(outcomes, count, method, measure).to_json() for measure in measures}
        for name, count in PHOTO_COUNTS.items()
    }


def _by_product(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for product in sorted({outcome.product for outcome in outcomes}):
        own = [outcome for outcome in outcomes if outcome.product == product]
        table[product] = {"streams": len({outcome.stream for outcome in own})}
        for name, count in PHOTO_COUNTS.items():
            hits = [outcome.scores["memory"]["recall_at_1"] for outcome in own if outcome.photos == count]
            table[product][name] = sum(hits) / len(hits)
    return table


def digest_settings(arguments: argparse.Namespace, bundle: Bundle, casting: Casting) -> str:
    """Return a digest of everything that a stream's outcomes depend on."""
    parts = [model_digest(bundle), repr(casting), str(arguments.backgrounds)]
    parts += [str(value) for value in (arguments.minutes, arguments.others, arguments.draws)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def run(arguments: argparse.Namespace, bundle: Bundle, casting: Casting) -> list[Outcome]:
    """Return the outcomes of all streams; those that are in --results already are not run again."""
    ledger = StreamLedger(arguments.results, digest_settings(arguments, bundle, casting))
    engines = Engines.load(bundle, arguments.backend, arguments.threads)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.streams)
    with progress(arguments.streams) as step:
        for seed in seeds:
            if seed not in ledger.done:
                stream = make_stream(
                    casting,
                    seed=seed,
                    seconds=60 * arguments.minutes,
                    others=arguments.others,
                    backgrounds=arguments.backgrounds,
                )
                ledger.add(seed, evaluate_stream(engines, stream, seed, arguments.draws))
            step(f"stream {seed}")
    engines.close()
    return [outcome for seed in seeds for outcome in ledger.done[seed]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--products", type=Path, required=True, help="one sub-folder of photos a product")
    parser.add_argument("--train-products", type=Path, help="the others come from here; all of DIR is asked")
    parser.add_argument("--backgrounds", type=Path, help="pictures behind the counter")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=10.0, help="length of a stream")
    parser.add_argument("--others", type=int, default=24, help="other products in a stream")
    parser.add_argument("--draws", type=int, default=2, help="sets of photos each product is asked with")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--results", type=Path, help="note each stream here, and go on from there")
    parser.add_argument("--json-only", action="store_true", help="no tables")
    arguments = parser.parse_args(argv)
    started = time.perf_counter()
    bundle = Bundle.open(arguments.bundle)
    check_classes(bundle.manifest)
    casting, named_by = choose_casting(bundle.manifest, arguments.products, arguments.train_products)
    outcomes = run(arguments, bundle, casting)
    result = summary(outcomes)
    result |= {
        "trained": bundle.manifest.training.trained,
        "held_out_named_by": named_by,
        "protocol": {
            "streams": arguments.streams,
            "minutes": arguments.minutes,
            "others": min(arguments.others, len(casting.others)),
            "asked": len(casting.asked),
            "questions": len(outcomes),
            "first_seed": arguments.first_seed,
        },
        "seconds": time.perf_counter() - started,
    }
    if not arguments.json_only:
        _print(result)
    finish(result)
    return 0


def _print(result: dict[str, Any]) -> None:
    def cell(figure: dict[str, Any]) -> str:
        low, high = figure["interval"]
        return f"{figure['value']:.3f} [{low:.3f}, {high:.3f}]"

    rows: list[list[object]] = []
    methods = {"memory": result}
    methods |= {f"memory, {n.replace('_', ' ')}": result[n] for n in SIZES if n in result}
    methods["histogram"] = result["histogram"]
    methods |= {f"backbone, {name}": table for name, table in result["backbone"].items()}
    for method, tables in methods.items():
        rows.append([method, *(cell(tables[name][measure]) for name in PHOTO_COUNTS for measure in RECALLS)])
    chance = [cell(result["chance"][measure]) for measure in RECALLS]
    rows.append(["chance", *chance, *chance])
    title = "The right moment" if result["trained"] else "Untrained bundle: its answers mean nothing"
    show(
        title, ["method", "1 photo, first", "1 photo, of five", "3 photos, first", "3 photos, of five"], rows
    )
    answers = [[measure, *(cell(result[name][measure]) for name in PHOTO_COUNTS)] for measure in ANSWERS]
    show("Other answers of the memory", ["", "1 photo", "3 photos"], answers)


if __name__ == "__main__":
    run_tool(main)
