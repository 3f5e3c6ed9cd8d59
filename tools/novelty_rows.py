"""Which rows should the SVD get of each clip, and does novelty find the events?

    PYTHONPATH=. python tools/novelty_rows.py --seeds 6 --minutes 10

Ground truth is the demo world: a token is evidence if its cell overlaps the box of an active product at that
tick. Novelty is causal, each clip is judged by the background before it. For every choice: AUC of evidence
against other tokens, and the share of evidence that is left after thinning a clip to its most novel tokens;
both without the first clips, and as the paired difference to the shipped choice with a 95 % interval.

Not covered: what the sampler makes of novelty, and other worlds than the demo's. Features come from the named
bundle's backbone; figures of one backbone say little of another one's.

Letters: F frames, P = 49 cells, d width of a token.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.config.paths import default_bundle
from edge_runtime.frame import CELLS
from edge_runtime.ingest.pipeline import BATCH_FRAMES, clip_tokens
from edge_runtime.memory.background_model import Background
from edge_runtime.memory.online_svd import OnlineSVD
from edge_runtime.query.decode import cell_box
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.world import World
from engines.bundle import Bundle
from engines.network_config import NetworkConfig
from engines.select import choose, load_engine
from engines.spec import Engine
from tools.console import Step, bootstrap_interval, finish, progress, run_tool, show

Real = NDArray[np.float32]
Rows = Callable[[Real, int], Real]

ROWS = 16


@dataclass(frozen=True)
class Footage:
    """One world: `clips` (F, 49, d) as in a memory, their `medians` (49, d), `evidence` (F, 49)."""

    clips: list[NDArray[np.float16]]
    evidence: list[NDArray[np.bool_]]
    medians: list[Real] = field(default_factory=list)


@dataclass(frozen=True)
class Choice:
    """One way to make a background. `rank` 0: no SVD, the distance to the cell mean alone."""

    rows: str = "frame means"
    cell_means: bool = True
    rank: int = 10
    forgetting: float = 0.988
    rate: float = 0.1
    scale: str = "each cell"
    scale_rate: float = 0.1
    floor: float = 0.5
    """A cell's deviation is at least this share of the mean deviation."""

    def __str__(self) -> str:
        means = f"cell means {self.rate:g}" if self.cell_means else "no cell means"
        svd = f"{self.rows}, rank {self.rank}, forgetting {self.forgetting:g}" if self.rank else "no SVD"
        return f"{svd}, {means}, scale of {self.scale} {self.scale_rate:g}, floor {self.floor:g}"


def frame_means(around: Real, clip: int) -> Real:
    """Means over all cells of consecutive frames."""
    groups = np.array_split(around.mean(axis=1), min(ROWS, len(around)))
    return np.stack([group.mean(axis=0) for group in groups])


def random_tokens(around: Real, clip: int) -> Real:
    """Sixteen tokens, drawn from the whole clip."""
    tokens = around.reshape(-1, around.shape[2])
    return tokens[np.random.default_rng(clip).choice(len(tokens), min(ROWS, len(tokens)), replace=False)]


def gram_summary(around: Real, clip: int) -> Real:
    """The sixteen rows with the Gram matrix nearest to that of all tokens, as long as an average token's."""
    tokens = around.reshape(-1, around.shape[2])
    values, vectors = np.linalg.eigh(tokens.T @ tokens / len(tokens))  # ascending
    strongest = np.sqrt(np.maximum(values[-ROWS:], 0))
    return np.asarray((vectors[:, -ROWS:] * strongest).T[::-1], np.float32)


def grid_rows(around: Real, clip: int) -> Real:
    """Means over each row of the grid in each half of the clip: 14 rows."""
    bands = around.reshape(len(around), 7, 7, -1).mean(axis=2)  # (F, 7, d)
    return np.concatenate([half.mean(axis=0) for half in np.array_split(bands, min(2, len(bands)))])


ROW_CHOICES: dict[str, Rows] = {
    "frame means": frame_means,
    "random tokens": random_tokens,
    "gram": gram_summary,
    "grid rows": grid_rows,
}


def choices(network: NetworkConfig) -> list[Choice]:
    """The shipped choice's neighbours: all of rows × cell means × rank, then one knob at a time."""
    base = Choice(rank=network.svd_rank, forgetting=network.svd_forgetting)
    found = [
        replace(base, rows=rows, cell_means=means, rank=rank)
        for rows in ROW_CHOICES
        for means in (True, False)
        for rank in (4, 10, 32)
    ]
    for rows in ROW_CHOICES:
        found += [replace(base, rows=rows, forgetting=value) for value in (1.0, 0.988, 0.95)]
        found += [replace(base, rows=rows, rate=value) for value in (0.02, 0.1, 0.3)]
        found += [replace(base, rows=rows, scale="all cells")]
    found += [replace(base, rank=0, rate=value) for value in (0.02, 0.1, 0.3)]
    found += [replace(base, rank=0, scale="all cells")]
    found += [replace(base, scale_rate=value) for value in (0.03, 0.3)]
    found += [replace(base, floor=value) for value in (0.0, 0.25, 1.0)]
    found += [replace(base, rate=0.3, scale_rate=0.3)]
    return list(dict.fromkeys(found))


def novelties(choice: Choice, footage: Footage) -> Iterator[Real]:
    """Standardised residuals (F, 49) of every clip but the first, each by what was known before it."""
    width = footage.clips[0].shape[2]
    svd = OnlineSVD.empty(max(choice.rank, 1), width, forgetting=choice.forgetting, dtype=np.float32)
    means = footage.medians[0] if choice.cell_means else np.zeros((CELLS, width), np.float32)
    axis = None if choice.scale == "all cells" else 0
    scale: tuple[Real, Real] | None = None
    for number, (half, median) in enumerate(zip(footage.clips, footage.medians, strict=True)):
        clip = half.astype(np.float32)
        if scale is not None:
            deviation = np.maximum(scale[1], max(choice.floor * float(scale[1].mean()), 1e-6))
            yield np.asarray((_residual(svd, clip - means) - scale[0]) / deviation, np.float32)
        if choice.rank:
            svd = svd.update(ROW_CHOICES[choice.rows](clip - means, number))
        if choice.cell_means:
            means = means + choice.rate * (median - means)
        rest = _residual(svd, clip - means)
        now = np.asarray(rest.mean(axis=axis)), np.asarray(rest.std(axis=axis))
        scale = (
            now
            if scale is None
            else (_moved(scale[0], now[0], choice.scale_rate), _moved(scale[1], now[1], choice.scale_rate))
        )


def shipped(network: NetworkConfig, footage: Footage) -> Iterator[Real]:
    """Novelty (F, 49) as the runtime has it, of every clip but the first."""
    background = Background.empty(network.svd_rank, network.d_backbone, network.svd_forgetting)
    for number, clip in enumerate(footage.clips):
        if number:
            yield background.novelty(clip_tokens(clip, range(len(clip)))).reshape(len(clip), CELLS)
        background = background.update(clip)


def film(level: str, seed: int, frames: int, backbone: Engine, network: NetworkConfig) -> Footage:
    """The first `frames` sampled frames of a world, whole clips only."""
    world, size = World(WorldConfig.level(level, seed=seed)), network.image_size
    clips, evidence = [], []
    for first in range(0, frames - network.clip_frames + 1, network.clip_frames):
        times = [(first + i) / network.sample_fps for i in range(network.clip_frames)]
        images = [world.frame(t, (size, size)) for t in times]
        batches = [np.stack(images[i : i + BATCH_FRAMES]) for i in range(0, len(images), BATCH_FRAMES)]
        tokens = np.concatenate([backbone({"image": batch})["tokens"] for batch in batches])
        clips.append(tokens.astype(np.float16))
        evidence.append(np.stack([_active_cells(world, t) for t in times]))
    medians = [np.median(clip.astype(np.float32), axis=0) for clip in clips]
    return Footage(clips, evidence, medians)


def measure(found: Iterator[Real], footage: Footage, candidates: int, skip: int) -> tuple[float, float]:
    """AUC of evidence over all judged clips, and the share of evidence among each clip's candidates."""
    scores, kept, total, evidence = [], 0, 0, footage.evidence[skip:]
    for novelty, truth in zip(list(found)[skip - 1 :], evidence, strict=True):
        best = np.argsort(-novelty.ravel(), kind="stable")[:candidates]
        kept += int(truth.ravel()[best].sum())
        total += int(truth.sum())
        scores.append(novelty.ravel())
    truth = np.concatenate([one.ravel() for one in evidence])
    return auc(np.concatenate(scores), truth), kept / max(total, 1)


def auc(scores: Real, truth: NDArray[np.bool_]) -> float:
    """Chance that evidence scores above something else, ties counting half (Mann-Whitney)."""
    values, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return float("nan")
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _residual(svd: OnlineSVD, around: Real) -> Real:
    rest = svd.residual(around.reshape(-1, around.shape[2]))
    return np.asarray(rest, np.float32).reshape(around.shape[:2])


def _moved(old: Real, new: Real, rate: float) -> Real:
    return np.asarray(old + rate * (new - old), np.float32)


def _active_cells(world: World, t: float) -> NDArray[np.bool_]:
    cells = np.array([cell_box(cell) for cell in range(CELLS)])  # (49, 4)
    hit = np.zeros(CELLS, np.bool_)
    for track in world.truth(t).active:
        x1, y1, x2, y2 = track.box
        hit |= (cells[:, 0] < x2) & (cells[:, 2] > x1) & (cells[:, 1] < y2) & (cells[:, 3] > y1)
    return hit


def _film_all(arguments: argparse.Namespace, bundle: Bundle, step: Step) -> dict[str, list[Footage]]:
    network = bundle.manifest.network
    frames = round(arguments.minutes * 60 * network.sample_fps)
    found: dict[str, list[Footage]] = {}
    with load_engine(bundle, "backbone", choose(arguments.backend, bundle.manifest).backend) as backbone:
        for level in arguments.levels:
            for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
                found.setdefault(level, []).append(film(level, seed, frames, backbone, network))
                step(f"filming {level}")
    return found


def _row(name: str, measured: dict[str, NDArray[np.float64]], base: NDArray[np.float64]) -> dict[str, Any]:
    """`measured` of each level and `base` (worlds, 2): AUC and recall."""
    everything = np.concatenate(list(measured.values()))  # (worlds, 2)
    paired = everything - base
    out: dict[str, Any] = {"choice": name}
    for column, key in enumerate(("auc", "recall")):
        out[key] = {level: float(values[:, column].mean()) for level, values in measured.items()}
        difference = paired[:, column]
        out[key]["difference"] = float(difference.mean())
        out[key]["interval"] = bootstrap_interval(difference)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--levels", nargs="+", default=["L1", "L2"])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--skip", type=int, default=1, help="first clips that are learned and not judged")
    parser.add_argument("--only", nargs="+", default=[""], help="choices with one of these in their name")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    network = bundle.manifest.network
    tried = [one for one in choices(network) if any(part in str(one) for part in arguments.only)]
    with progress(len(arguments.levels) * arguments.seeds + len(tried) + 1) as step:
        films = _film_all(arguments, bundle, step)

        def each(judge: Callable[[Footage], Iterator[Real]]) -> dict[str, NDArray[np.float64]]:
            return {
                level: np.array(
                    [measure(judge(one), one, network.clip_candidates, arguments.skip) for one in footages]
                )
                for level, footages in films.items()
            }

        base = each(partial(shipped, network))
        step("shipped")
        flat = np.concatenate(list(base.values()))
        rows = [_row("shipped", base, flat)]
        for choice in tried:
            rows.append(_row(str(choice), each(partial(novelties, choice)), flat))
            step(str(choice))
    _print(rows, arguments.levels)
    finish(
        {
            "trained": bundle.manifest.training.trained,
            "worlds": len(flat),
            "frames_per_world": len(films[arguments.levels[0]][0].clips) * network.clip_frames,
            "evidence_share": float(
                np.mean([np.mean(c) for footages in films.values() for one in footages for c in one.evidence])
            ),
            "candidates": network.clip_candidates,
            "shipped": rows[0],
            "choices": rows[1:],
        }
    )
    return 0


def _print(rows: list[dict[str, Any]], levels: list[str]) -> None:
    columns = ["choice", *(f"AUC {level}" for level in levels), "± shipped", "95 %"]
    columns += [*(f"recall {level}" for level in levels), "± shipped", "95 %"]
    cells = []
    for row in [rows[0], *sorted(rows[1:], key=lambda one: -one["recall"]["difference"])]:
        line: list[object] = [row["choice"]]
        for key in ("auc", "recall"):
            low, high = row[key]["interval"]
            line += [f"{row[key][level]:.3f}" for level in levels]
            line += [f"{row[key]['difference']:+.3f}", f"{low:+.3f} {high:+.3f}"]
        cells.append(line)
    show("Novelty against evidence", columns, cells)


if __name__ == "__main__":
    run_tool(main)
