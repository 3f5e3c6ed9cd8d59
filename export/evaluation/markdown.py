"""Findings as Markdown, in the shape of LVM-Net's Tables 1 to 4 with the printed figures beside ours.

Recall is in per cent, as printed there; brackets hold 95 % intervals over videos and seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from export.data.records import Duration
from export.evaluation.paper_figures import TABLE_1, TABLE_2, TABLE_3, TABLE_4, Ablation
from export.evaluation.report import DURATIONS, NINE, TYPES
from export.evaluation.run_folders import OWN, SYSTEMS, TUBEDETR
from export.evaluation.summary import RANDOM, WITHOUT_OCL

Json = Mapping[str, Any]
_NONE = "–"


_READ = {"query": "all frames of the query window", "property": "the frames of the time that is asked about"}
"""What modified TubeDETR reads for an activity or an object; 120 frames of the query window for a time."""


def page(found: Json, loads: Json | None = None, speeds: Sequence[Json] = ()) -> str:
    """The whole results page; `speeds` of one load with other windows of the baseline."""
    parts = [_head(found), *map(table_1, speeds)]
    parts += [table_2(found), table_3(found), table_4(found), _systems(found), _more(found)]
    if loads is not None:
        parts.append(_loads(loads))
    return "\n\n".join(part for part in parts if part) + "\n"


def table_1(speed: Json) -> str:
    """Minutes for one video of 27 minutes and 1,500 queries."""
    rows = []
    for kind, duration in NINE:
        one = speed["cells"].get(f"{kind}/{duration}")
        printed = TABLE_1[kind, duration]
        then = f"{printed.tubedetr:g} / {printed.lvm_net:g} ({printed.tubedetr / printed.lvm_net:.3g}×)"
        if one is None:
            rows.append([duration, kind, _NONE, _NONE, _NONE, _NONE, _NONE, then])
            continue
        minutes = [f"{one['minutes'][name]:.3g}" for name in ("lvm-net", "tubedetr", "tubedetr cached")]
        rows.append([duration, kind, *minutes, _times(one["speed_up"]), _times(one["speed_up_cached"]), then])
    said = (
        f"Measured on {speed['machine']['cpu']}, {speed['threads']} threads, {speed['backend']} engines for "
        f"memory and backbones, torch for modified TubeDETR, which reads {_READ[speed['window']]}; "
        "50 queries a cell or more, in turns, extrapolated to 27 minutes of video and 1,500 queries. "
        f"Stage 1 takes {speed['stage_one_ms_a_frame']:.3g} ms a frame, "
        f"{speed['backbone_ms_a_frame']:.3g} ms of it the backbone. Printed: minutes on one A100."
    )
    header = [
        "window", "query", "LVM-Net, min", "TubeDETR, min", "with cached tokens, min", "faster",
        "faster than cached", "printed: TubeDETR / LVM-Net, min",
    ]  # fmt: skip
    return section(f"Table 1: time to answer, against {_READ[speed['window']]}", said, header, rows)


def table_2(found: Json) -> str:
    """Recall@1x in the nine cells."""
    ours, theirs = found["recall_1x"][OWN], found["recall_1x"].get(TUBEDETR, {})
    paired = found["against"].get(TUBEDETR, {}).get("recall_1x", {})
    rows = []
    for kind, duration in NINE:
        cell, printed = f"{kind}/{duration}", TABLE_2[kind, duration]
        difference = paired.get(cell, {}).get("difference")
        then = f"{printed.lvm_net:.1f} / {printed.tubedetr:.1f} / {printed.rest:.1f}"
        rows.append(
            [
                duration,
                kind,
                percent(ours.get(cell)),
                percent(theirs.get(cell)),
                percent(difference, signed=True),
                then,
            ]
        )
    header = ["window", "query", "LVM-Net", "TubeDETR", "difference", "printed: LVM-Net / TubeDETR / ReST"]
    # A page is read elsewhere: the folder's name, not where it lay.
    whose = ", ".join(f"{one['steps']} steps in {Path(one['run']).name}" for one in found["baselines"])
    said = f"TubeDETR reads {_READ['property']}. It learned for {whose}." if whose else ""
    return section("Table 2: Recall@1x", said, header, rows)


def table_3(found: Json) -> str:
    """The learned sampler against a random memory."""
    trained = "trained on it" if found["random_is_trained"] else "the same networks, sampler replaced"
    return _ablation(f"Table 3: learned sampler against random memory ({trained})", found, RANDOM, TABLE_3)


def table_4(found: Json) -> str:
    """Continual learning against none; left out where there are no such runs."""
    if WITHOUT_OCL not in found["recall_1x"]:
        return ""
    return _ablation(
        "Table 4: online continual learning against none, at matched supervision",
        found,
        WITHOUT_OCL,
        TABLE_4,
    )


def _ablation(title: str, found: Json, other: str, printed: Mapping[Duration, Ablation]) -> str:
    if other not in found["recall_1x"]:
        return ""
    rows = []
    for duration in DURATIONS:
        cell, then = f"activity/{duration}", printed[duration]
        with_, without = (
            f"{percent(found['recall_1x'][name].get(cell))}, {percent(found['recall_3x'][name].get(cell))}"
            for name in (OWN, other)
        )
        ratio = found["against"][other]["recall_1x"].get(cell, {}).get("ratio")
        rows.append(
            [
                duration,
                with_,
                without,
                _times(ratio),
                f"{then.recall_1x} ({then.recall_3x}) / {then.without_1x} ({then.without_3x}), "
                f"{then.recall_1x / then.without_1x:.2f}×",
            ]
        )
    header = ["window", "with: R@1x, R@3x", "without: R@1x, R@3x", "ratio of R@1x", "printed"]
    return section(title, "Activity queries.", header, rows)


def _systems(found: Json) -> str:
    """Every control, in the nine cells."""
    names = [name for name in (*SYSTEMS, WITHOUT_OCL) if name in found["recall_1x"]]
    header = ["system", *(f"{kind} {duration}" for kind, duration in NINE), "events with evidence"]
    rows = []
    for name in names:
        cells = found["recall_1x"][name]
        reached = found["coverage"].get(name, {}).get("at_least_1")
        if name == RANDOM and found["random_is_trained"]:
            reached = None
        rows.append(
            [name, *(percent(cells.get(f"{kind}/{duration}")) for kind, duration in NINE), percent(reached)]
        )
    return section("Controls", "Recall@1x.", header, rows)


def _more(found: Json) -> str:
    """Heads, windows, distance, confidence."""
    parts = []
    heads = [
        [duration, *(percent(found["heads"][head].get(f"time/{duration}")) for head in ("bins", "pointer"))]
        for duration in DURATIONS
    ]
    parts.append(
        section("Two heads for time", "Recall@1x (tIoU over 0.3).", ["window", "bins", "pointer"], heads)
    )
    parts.append(_windows(found))
    gaps = [
        [name, str(one["queries"]), percent(one["recall_1x"])] for name, one in found["object_by_gap"].items()
    ]
    header = ["mean distance to remembered evidence", "answers", "Recall@1x (vIoU over 0.3)"]
    parts.append(section("Where objects were", "", header, gaps))
    sure = [
        [name, _share(one["before"]), _share(one["after"]), f"{one['least']:.2f}", str(one["samples"])]
        for name, one in found["calibration"].items()
    ]
    header = ["confidence", "calibration error, raw", "with the manifest's scaling", "if honest", "answers"]
    parts.append(section("Whether confidences are honest", "", header, sure))
    told = [[name, _share(one)] for name, one in found["auroc"].items()]
    parts.append(section("Whether it happened at all", "", ["queries", "AUROC"], told))
    parts.append(_told(found))
    return "\n\n".join(parts)


def _windows(found: Json) -> str:
    """Questions whose time is that of the event beside those with a longer one."""
    names = [name for name in (OWN, TUBEDETR) if name in found["windows"]]
    ways = [(name, how) for name in names for how in ("tight", "loose")]
    rows = [
        [
            duration,
            kind,
            *(percent(found["windows"][name][how].get(f"{kind}/{duration}")) for name, how in ways),
        ]
        for kind, duration in NINE
        if kind != "time"
    ]
    header = ["window", "query", *(f"{name}, {how}" for name, how in ways)]
    return section("How tightly the time is given", "Recall@1x.", header, rows)


def _told(found: Json) -> str:
    """What is left of recall where a device says that it did not see what it is asked about."""
    rows = []
    for kind in TYPES:
        recall = [percent(found["as_told"].get(f"{kind}/{duration}")) for duration in DURATIONS]
        refused = [percent(found["withheld"][kind].get(name)) for name in ("happened", "never")]
        rows.append([kind, *recall, *refused])
    said = (
        "Above, an answer counts whether or not the device would give it, as in the papers. Here one that is "
        'withheld ("what was asked was not seen") counts as wrong.'
    )
    header = ["query", *DURATIONS, "withheld of what happened", "of what never did"]
    return section("What a person is told", said, header, rows)


def _loads(loads: Json) -> str:
    rows = [
        [
            *reversed(name.split("/")),
            f"{one['frames_a_query']:.0f}",
            f"{one['ratio']:.3g}×",
            f"{one['rest_ratio']:.0f}×",
        ]
        for name, one in loads.items()
    ]
    said = "What per-query reading reads beside reading once, on any hardware (LVM-Net, Figure 1)."
    header = ["window", "query", "frames a query", "frames read, ratio", "at 1,500 queries in 27 minutes"]
    return section("Frame loads", said, header, rows)


def _head(found: Json) -> str:
    return (
        "# Results\n\n"
        f"{len(found['seeds'])} training seeds, {found['videos']} unseen videos of split {found['split']}, "
        f"{found['queries']} queries for each seed, {found['negatives']} of them about what never happened. "
        "Recall in per cent; brackets hold 95 % bootstrap intervals over videos and seeds, paired where two "
        "are compared. Printed figures are of other data (ReST-ADL): only ratios and orders compare. Made by "
        "`tools.papers.tables`."
    )


def section(title: str, said: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A heading, a sentence where there is one, and a table."""
    lines = [f"## {title}", ""]
    if said:
        lines += [said, ""]
    lines += [_row(header), _row(["---"] * len(header)), *(_row(row) for row in rows)]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def percent(interval: Sequence[float] | None, *, signed: bool = False) -> str:
    """A share with its interval, in per cent."""
    if interval is None:
        return _NONE
    sign = "+" if signed else ""
    estimate, low, high = (f"{100 * value:{sign}.1f}" for value in interval)
    return f"{estimate} [{low}, {high}]"


def _share(interval: Sequence[float]) -> str:
    estimate, low, high = interval
    return f"{estimate:.3f} [{low:.3f}, {high:.3f}]"


def _times(interval: Sequence[float] | None) -> str:
    if interval is None:
        return _NONE
    estimate, low, high = interval
    return f"{estimate:.3g}× [{low:.3g}, {high:.3g}]"
