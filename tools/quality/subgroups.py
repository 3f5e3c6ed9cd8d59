"""Measure whether what a person wears, or a person's skin, changes how often honest work is called theft.

    PYTHONPATH=. python -m tools.quality.subgroups --worlds 8 --first-seed 7401

Drawn worlds in which everybody wears clothes of any colour. Every honest event (all but `conceal`) belongs to
the garment's brightness and to the skin tone of whoever did it. It is a false accusation where a row that
names `conceal`, or has it among its alternatives, shares time with it and with no real one. As that is rare,
`score` is reported too: the mean probability of `conceal` during the honest events. `ratio` is
the worst group's over the best one's; intervals are over worlds. The last line of standard output is one
JSON object.

Not covered: real people. A drawn skin tone is a colour.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.activity.recognizer import ActivityRecogniser
from edge_runtime.activity.row import Row
from edge_runtime.config.paths import default_bundle
from edge_runtime.config.schema import ActivitySettings
from edge_runtime.service.engine_pool import Engines
from edge_runtime.simulation.activities import find_activity
from edge_runtime.simulation.config import LEVELS, WorldConfig
from edge_runtime.simulation.people import make_person
from edge_runtime.simulation.schedule import Event
from edge_runtime.sources.demo import DemoSettings
from engines.bundle import Bundle
from tools.console import finish, run_tool, show
from tools.quality.activities import LoggedRow, WorldRun, ingest_world, list_cadences, recognise
from tools.quality.foreign import ACCUSATION

GROUPS = ("dark", "middle", "bright")
_EDGES = (85.0, 170.0)
"""Mean of red, green and blue at which the next group begins."""
_RESAMPLES = 1000


@dataclass(frozen=True)
class HonestEvent:
    """An honest event in `world`: groups of garment and skin, whether it was accused, and of what score."""

    world: int
    garment: str
    skin: str
    accused: bool
    score: float


def find_group(colour: Sequence[int]) -> str:
    """Return the group of a colour's brightness."""
    return GROUPS[int(np.searchsorted(_EDGES, float(np.mean(colour)), side="right"))]


def is_accused(event: Event, rows: Sequence[LoggedRow], concealed: Sequence[Event]) -> bool:
    """Return whether a row accuses an honest `event` although nothing was `concealed` during that row."""

    def shared(row: Row, other: Event) -> float:
        return min(row.end, other.end) - max(row.start, other.start)

    for row in (logged.row for logged in rows):
        if ACCUSATION not in (row.activity, *row.alternatives) or shared(row, event) <= 0:
            continue
        if all(shared(row, other) <= 0 for other in concealed):
            return True
    return False


def examine_world(
    recogniser: ActivityRecogniser, number: int, config: WorldConfig, world: WorldRun, rows: list[LoggedRow]
) -> list[HonestEvent]:
    """Return the honest events of a world that was ingested whole."""
    accusation = find_activity(ACCUSATION)
    index = recogniser.names.index(ACCUSATION)
    concealed = [event for event in world.events if event.activity == accusation]
    events = []
    for event in world.events:
        after = [t for t in world.versions if t >= event.end]
        if event.activity == accusation or not after:
            continue
        person = make_person(config.seed, (event.start + event.end) / 2, event.hands, config.wardrobe)
        presence = recogniser.estimate_presence(world.versions[min(after)], event.start, event.end)
        events.append(
            HonestEvent(
                number,
                find_group(person.sleeve),
                find_group(person.skin),
                is_accused(event, rows, concealed),
                float(presence[index]),
            )
        )
    return events


def summarise(events: Sequence[HonestEvent], trait: str) -> dict[str, Any]:
    """Return rate and score of each group of a `trait` (`garment` or `skin`), and the ratios of worst and
    best with their intervals of 95 % over worlds."""
    worlds = sorted({event.world for event in events})
    groups = [group for group in GROUPS if any(getattr(event, trait) == group for event in events)]
    table = np.zeros((len(worlds), len(groups), 3))  # events, accused, sum of scores
    for event in events:
        cell = table[worlds.index(event.world), groups.index(getattr(event, trait))]
        cell += (1, event.accused, event.score)
    rng = np.random.default_rng(0)
    drawn = table[rng.integers(len(worlds), size=(_RESAMPLES, len(worlds)))].sum(axis=1)  # (R, G, 3)
    total = table.sum(axis=0)
    return {
        "groups": {
            group: {
                "events": int(count),
                "accused": int(accused),
                "rate": round(accused / count, 4),
                "score": round(score / count, 4),
            }
            for group, (count, accused, score) in zip(groups, total, strict=True)
        },
        "ratio_of_rates": _compare(total, drawn, 1),
        "ratio_of_scores": _compare(total, drawn, 2),
    }


def _compare(total: Any, drawn: Any, column: int) -> dict[str, Any] | None:
    """Return the ratio of worst and best group and its interval; None where the best has none at all."""
    values = total[:, column] / total[:, 0]
    worst, best = int(values.argmax()), int(values.argmin())
    if not values[best]:
        return None
    each = drawn[:, :, column] / np.maximum(drawn[:, :, 0], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = each[:, worst] / each[:, best]
    low, high = np.nanpercentile(ratios, (2.5, 97.5))
    return {"ratio": round(values[worst] / values[best], 2), "interval": [round(low, 2), round(high, 2)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--worlds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=7401)
    parser.add_argument("--level", default="L1", choices=tuple(LEVELS))
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--bundle", type=Path, default=None)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--min-confidence", type=float, default=ActivitySettings().min_confidence)
    given = parser.parse_args()
    engines = Engines.load(Bundle.open(given.bundle or default_bundle()), given.backend, given.threads)
    recogniser = ActivityRecogniser(engines.bundle.manifest, engines.reader)
    cadence = list_cadences(engines.bundle.manifest.network)[0]
    events: list[HonestEvent] = []
    for number in range(given.worlds):
        config = WorldConfig(seed=given.first_seed + number, **{**LEVELS[given.level], "wardrobe": 1.0})
        world = ingest_world(engines, DemoSettings(config), 60 * given.minutes)
        rows, _ = recognise(recogniser, world, cadence, given.min_confidence)
        events += examine_world(recogniser, number, config, world, rows)
        print(f"world {config.seed}: {len(world.events)} events", file=sys.stderr, flush=True)
    engines.close()
    traits = {trait: summarise(events, trait) for trait in ("garment", "skin")}
    for trait, found in traits.items():
        columns = (trait, "events", "accused", "rate", "score")
        show("Honest events", columns, [(group, *row.values()) for group, row in found["groups"].items()])
    finish({"level": given.level, "worlds": given.worlds, "honest_events": len(events), **traits})


if __name__ == "__main__":
    run_tool(main)
