"""Compare S5's masks with random ones, none, and attention on long-form tasks of the checkout world.

    python -m tools.papers.longform --cache CACHE --output longform.json
    python -m tools.papers.longform --cache CACHE --output longform.json --parts table curve lsmcl cost

`table`  every mask generator, on raw tokens and on S4 features, beside no mask and random masks
`curve`  linear masks on S4 features, and stacked ones on tokens, against random ones at several shares hidden
`lsmcl`  half of the labels, with and without pre-training on all videos: the stack without a mask, and with
         linear masks on S4 features, pre-trained with them too
`cost`   processor seconds and saved memory of a training step: masks or none, attention, at equal length

Each row is trained --seeds times and evaluated on unseen worlds; intervals of 95 % draw videos and seeds.
Rows that are in --output already are not run again, so a run that was killed continues, and --seeds and
--parts can be added later; all other settings must be the same. The last line of standard output is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_runtime.config.paths import default_bundle
from edge_runtime.persistence import model_digest
from engines.bundle import Bundle
from engines.errors import LvmError
from engines.select import load_engines
from export.papers.longform.train import (
    ContrastSettings,
    FitSettings,
    predict_correct,
    pretrain,
    train_classifier,
)
from export.papers.longform.videos import TASKS, Videos, load_videos
from export.papers.networks.vis4mer import LongformConfig
from tools.console import finish, run_tool, show

TRAIN_SEED, TEST_SEED = 410_000, 420_000
RATIOS = (0.25, 0.5, 0.75, 0.9)
LEARNED_MASKS, RANDOM_MASK = ("linear, S4 features", "stacked, raw tokens"), "random mask"
"""The paper's own generator and the best one of the table; both should be better than random masks."""
PARTS = ("table", "curve", "lsmcl", "cost")
Correct = np.ndarray
"""Whether each answer is right, (seeds, V, 4)."""


def list_variants(base: LongformConfig) -> dict[str, LongformConfig]:
    """Return the rows of the table."""
    rows = {
        "no mask (ViS4mer)": replace(base, mask="none"),
        "random mask": replace(base, mask="random"),
    }
    kinds = (("linear", "linear"), ("transformer", "one transformer layer"), ("stacked", "stacked"))
    for kind, words in kinds:
        rows[f"{words}, raw tokens"] = replace(base, mask=kind, features=False)  # type: ignore[arg-type]
        rows[f"{words}, S4 features"] = replace(base, mask=kind, features=True)  # type: ignore[arg-type]
    return rows


def _row_name(name: str, ratio: float, config: LongformConfig) -> str:
    """Return a row's name; rows of the table are also points of the curve."""
    return name if ratio == config.hidden else f"{name}, {ratio:g} hidden"


class Ledger:
    """The rows measured so far with some settings, in a file. LvmError if its rows have other settings."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path, self._settings = path, settings
        self.rows: dict[str, Any] = {}
        if path.exists():
            self.rows = self._read()

    def once(self, name: str, run: Callable[[], Any]) -> Any:
        """Return the row called `name`; call `run` for it if it is not there."""
        if name not in self.rows:
            self.rows[name] = run()
            part = self._path.with_name(self._path.name + ".part")
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({"settings": self._settings, "rows": self.rows}), encoding="utf-8")
            os.replace(part, self._path)
            print(name, file=sys.stderr, flush=True)
        return self.rows[name]

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
            settings, rows = dict(known["settings"]), dict(known["rows"])
        except (ValueError, KeyError, TypeError):
            raise LvmError(
                f"{self._path} must be a file of measured rows with their settings, it has none: name "
                "another --output"
            ) from None
        if odd := [name for name, value in self._settings.items() if settings.get(name) != value]:
            raise LvmError(
                f"{self._path} holds rows with {odd[0]} {settings.get(odd[0])}, not "
                f"{self._settings[odd[0]]}: name another --output"
            )
        return rows


def list_settings(given: argparse.Namespace, model: str) -> dict[str, Any]:
    """Return all that a row depends on beside its name and seed; `model` is the digest of the bundle."""
    names = ("train", "test", "frames", "seconds", "side", "width", "steps", "contrast_steps", "queue")
    return {"model": model, **{name: getattr(given, name) for name in names}}


@dataclass(frozen=True)
class Study:
    """What all rows have in common: options, data and the base configuration."""

    given: argparse.Namespace
    ledger: Ledger
    base: LongformConfig
    train: Videos
    test: Videos

    def evaluate_mask(self, name: str, config: LongformConfig) -> Correct:
        """Train on all labels, once for each seed, and return the correct answers."""
        return self._seeds(name, lambda seed: self._count_correct(config, self.train, seed))

    def evaluate_half(self, name: str, config: LongformConfig, contrast: bool = False) -> Correct:
        """Train on half of the labels; with `contrast` after pre-training on all videos."""
        few = self.train.first(len(self.train) // 2)
        return self._seeds(name, lambda seed: self._count_correct(config, few, seed, contrast))

    def _seeds(self, name: str, run: Callable[[int], Any]) -> Correct:
        seeds = range(self.given.seeds)
        return np.array([self.ledger.once(f"{name} / seed {seed}", partial(run, seed)) for seed in seeds])

    def _count_correct(self, config: LongformConfig, among: Videos, seed: int, contrast: bool = False) -> Any:
        given, start = self.given, None
        if contrast:
            fit = FitSettings(steps=given.contrast_steps, seed=seed)
            stem = ContrastSettings(fit, short=max(1, given.frames // 5), queue=given.queue)
            start = pretrain(config, self.train, stem)
        classifier = train_classifier(config, among, FitSettings(steps=given.steps, seed=seed), start)
        return predict_correct(classifier, self.test).tolist()


def make_curve(study: Study) -> dict[str, Any]:
    """Return, by the share hidden, the generators, random masks, and the gain of the former."""
    table, rows = list_variants(study.base), {}
    for ratio in RATIOS:
        correct = {
            name: study.evaluate_mask(_row_name(name, ratio, table[name]), replace(table[name], hidden=ratio))
            for name in (*LEARNED_MASKS, RANDOM_MASK)
        }
        gains = {name: _interval((correct[name] - correct[RANDOM_MASK]).mean(2)) for name in LEARNED_MASKS}
        rows[str(ratio)] = {name: _summarise(values) for name, values in correct.items()} | {"gain": gains}
    return rows


def evaluate_pretraining(study: Study) -> dict[str, Any]:
    """Return the gain of pre-training: the stack without a mask, and as `masked` the paper's combination."""
    plain, linear = replace(study.base, mask="none"), list_variants(study.base)[LEARNED_MASKS[0]]
    return {
        **_compare_pretraining(study, "half the labels", plain),
        "masked": _compare_pretraining(study, "half the labels, masked", linear),
    }


def _compare_pretraining(study: Study, name: str, config: LongformConfig) -> dict[str, Any]:
    without = study.evaluate_half(name, config)
    pretrained = study.evaluate_half(f"{name}, LSMCL", config, contrast=True)
    gain = _interval(pretrained - without)
    return {"without": _summarise(without), "with": _summarise(pretrained), "gain": gain}


def main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    torch.set_num_threads(1)
    bundle = Bundle.open(given.bundle or default_bundle())
    ledger = Ledger(given.output, list_settings(given, model_digest(bundle)))
    train, test = (
        _load(given, bundle, *part) for part in ((given.train, TRAIN_SEED), (given.test, TEST_SEED))
    )
    study = Study(given, ledger, LongformConfig(train.tokens.shape[-1], width=given.width), train, test)
    result: dict[str, Any] = {
        "videos": [len(train), len(test)],
        "seeds": given.seeds,
        "steps": given.steps,
        "tokens": int(np.prod(train.tokens.shape[1:3])),
        "chance": _measure_chance(train, test),
    }
    if "table" in given.parts:
        rows = list_variants(study.base).items()
        result["table"] = {name: _summarise(study.evaluate_mask(name, config)) for name, config in rows}
    if "curve" in given.parts:
        result["curve"] = make_curve(study)
    if "lsmcl" in given.parts:
        result["lsmcl"] = evaluate_pretraining(study)
    if "cost" in given.parts:
        result["cost"] = _measure_costs(study.base, train)
    _print(result)
    finish(result)
    return 0


def _print(result: dict[str, Any]) -> None:
    def gain(figures: Sequence[float]) -> str:
        return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*figures)

    if "curve" in result:
        rows = [
            [f"{float(ratio):.0%}", *(row[name]["shown"][-1] for name in (RANDOM_MASK, *LEARNED_MASKS)),
             *(gain(row["gain"][name]) for name in LEARNED_MASKS)]
            for ratio, row in result["curve"].items()
        ]  # fmt: skip
        show(
            "mean of the tasks",
            ["hidden", RANDOM_MASK, *LEARNED_MASKS, *("over random" for _ in LEARNED_MASKS)],
            rows,
        )
    if "lsmcl" in result:
        both = {"no mask": result["lsmcl"], LEARNED_MASKS[0]: result["lsmcl"]["masked"]}
        rows = [
            [name, row["without"]["shown"][-1], row["with"]["shown"][-1], gain(row["gain"])]
            for name, row in both.items()
        ]
        show("half the labels, mean of the tasks", ["", "without LSMCL", "with LSMCL", "gain"], rows)
    if "table" in result:
        rows = [[name, *row["shown"]] for name, row in result["table"].items()]
        show("share of unseen videos classified correctly", ["", *TASKS, "mean"], rows)


def _load(given: argparse.Namespace, bundle: Bundle, count: int, first: int) -> Videos:
    _, engines = load_engines(bundle, "onnxruntime", threads=1)
    size = bundle.manifest.network.image_size
    videos = load_videos(
        range(first, first + count), engines["backbone"], model_digest(bundle), given.cache, size=size,
        frames=given.frames, seconds=given.seconds,
    )  # fmt: skip
    return videos.pooled(given.side)


def _summarise(right: Correct) -> dict[str, Any]:
    """Return the accuracy by task and their mean, with intervals over videos and seeds."""
    tasks = {name: _interval(right[:, :, i]) for i, name in enumerate(TASKS)}
    mean = _interval(right.mean(2))
    cells = [f"{interval[0]:.2f}" for interval in tasks.values()]
    cells.append(f"{mean[0]:.3f} [{mean[1]:.3f}, {mean[2]:.3f}]")
    return {"tasks": tasks, "mean": mean, "shown": cells}


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of (seeds, V, ...) and its 95 % interval from 2,000 draws of seeds and videos."""
    flat = values.reshape(*values.shape[:2], -1).mean(2)
    rng = np.random.default_rng(0)
    seeds = rng.integers(flat.shape[0], size=(2000, flat.shape[0]))
    videos = rng.integers(flat.shape[1], size=(2000, flat.shape[1]))
    drawn = [flat[np.ix_(s, v)].mean() for s, v in zip(seeds, videos, strict=True)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return round(float(flat.mean()), 4), round(float(low), 4), round(float(high), 4)


def _measure_chance(train: Videos, test: Videos) -> dict[str, float]:
    """Return the accuracy of always naming the commonest class of the training videos."""
    common = [int(np.bincount(train.labels[:, i]).argmax()) for i in range(len(TASKS))]
    return {name: float((test.labels[:, i] == common[i]).mean()) for i, name in enumerate(TASKS)}


def _measure_costs(base: LongformConfig, videos: Videos, rounds: int = 3, batch: int = 4) -> dict[str, Any]:
    """Return processor seconds of a training step of `batch` videos, and MB saved for its backward pass."""
    rows = {
        "attention, no mask": replace(base, mask="none", mixer="attention"),
        "S4, no mask": replace(base, mask="none"),
        "S4, random mask": replace(base, mask="random"),
        "S4, linear mask on S4 features": replace(base, mask="linear"),
        "S4, stacked mask on tokens": replace(base, mask="stacked", features=False),
        "S4, stacked mask on tokens, 0.75 hidden": replace(base, mask="stacked", features=False, hidden=0.75),
    }
    spent: dict[str, list[float]] = {name: [] for name in rows}
    saved: dict[str, int] = {}
    few = videos.first(batch)
    for number in range(rounds + 1):
        for name, config in rows.items():
            started = time.process_time()
            count = _count_saved_bytes(saved, name)
            with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
                train_classifier(config, few, FitSettings(steps=1, batch=batch))
            if number:
                spent[name].append(time.process_time() - started)
    return {
        name: {
            "processor_s": round(statistics.median(spent[name]), 4),
            "kept_mb": round(saved[name] / 1e6, 1),
        }
        for name in rows
    }


def _count_saved_bytes(saved: dict[str, int], name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a hook that counts in `saved` the bytes saved for the backward pass, each tensor once."""
    seen: set[int] = set()
    saved[name] = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in seen:
            seen.add(address)
            saved[name] += tensor.untyped_storage().nbytes()
        return tensor

    return count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder of videos' tokens")
    parser.add_argument("--output", type=Path, required=True, help="file of the rows measured so far")
    parser.add_argument("--bundle", type=Path, help="whose backbone; default the one that ships")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--train", type=int, default=256, help="training videos")
    parser.add_argument("--test", type=int, default=64, help="unseen videos")
    parser.add_argument("--frames", type=int, default=12, help="of each video")
    parser.add_argument("--seconds", type=float, default=120.0, help="of each video")
    parser.add_argument("--width", type=int, default=64, help="of the first of two blocks")
    parser.add_argument("--side", type=int, default=4, help="parts of a frame across, of 7 cells")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--contrast-steps", type=int, default=120)
    parser.add_argument("--queue", type=int, default=0, help="keys of earlier batches as further negatives")
    return parser


if __name__ == "__main__":
    run_tool(main)
