"""Write results as Markdown, in the form of LVM-Net's Tables 1 to 4, with the paper-reported figures beside
ours.

Recall is in per cent, as printed there; brackets hold 95 % intervals over videos and seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from export.data.records import Duration
from export.evaluation.report import (
    DURATIONS,
    TABLE_1,
    TABLE_2,
    TABLE_3,
    TABLE_4,
    TABLE_CELLS,
    TYPES,
    Ablation,
)
from export.evaluation.run_folders import OWN, SYSTEMS, TUBEDETR
from export.evaluation.summary import RANDOM, WITHOUT_OCL

Json = Mapping[str, Any]
_NONE = "–"


_READ_FRAMES = {
    "query": "all frames of the query window",
    "property": "the frames of the time that is asked about",
}
"""Frames that modified TubeDETR reads for an activity or an object; for a time, 120 frames of the query
window."""


def render_page(summary: Json, loads: Json | None = None, speeds: Sequence[Json] = ()) -> str:
    """Render the whole results page; `speeds` belong to one load with other windows of the baseline."""
    parts = [_render_head(summary), *map(render_table_1, speeds)]
    parts += [
        render_table_2(summary),
        render_table_3(summary),
        render_table_4(summary),
        _render_systems(summary),
        _render_details(summary),
    ]
    if loads is not None:
        parts.append(_render_frame_reads(loads))
    return "\n\n".join(part for part in parts if part) + "\n"


def render_table_1(speed: Json) -> str:
    """Render the minutes for a video of 27 minutes and 1,500 queries."""
    rows = []
    for kind, duration in TABLE_CELLS:
        cell = speed["cells"].get(f"{kind}/{duration}")
        paper = TABLE_1[kind, duration]
        then = f"{paper.tubedetr:g} / {paper.lvm_net:g} ({paper.tubedetr / paper.lvm_net:.3g}×)"
        if cell is None:
            rows.append([duration, kind, _NONE, _NONE, _NONE, _NONE, _NONE, then])
            continue
        minutes = [f"{cell['minutes'][name]:.3g}" for name in ("lvm-net", "tubedetr", "tubedetr cached")]
        rows.append(
            [
                duration,
                kind,
                *minutes,
                _format_ratio(cell["speed_up"]),
                _format_ratio(cell["speed_up_cached"]),
                then,
            ]
        )
    text = (
        f"Measured on {speed['machine']['cpu']}, {speed['threads']} threads, {speed['backend']} engines for "
        f"memory and backbones, torch for modified TubeDETR, which reads {_READ_FRAMES[speed['window']]}; "
        "50 queries a cell or more, in turns, extrapolated to 27 minutes of video and 1,500 queries. "
        f"Stage 1 takes {speed['stage_one_ms_a_frame']:.3g} ms a frame, "
        f"{speed['backbone_ms_a_frame']:.3g} ms of it the backbone. Printed: minutes on one A100."
    )
    header = [
        "window", "query", "LVM-Net, min", "TubeDETR, min", "with cached tokens, min", "faster",
        "faster than cached", "printed: TubeDETR / LVM-Net, min",
    ]  # fmt: skip
    return render_section(
        f"Table 1: time to answer, against {_READ_FRAMES[speed['window']]}", text, header, rows
    )


def render_table_2(summary: Json) -> str:
    """Render Recall@1x in the nine cells."""
    ours, theirs = summary["recall_1x"][OWN], summary["recall_1x"].get(TUBEDETR, {})
    paired = summary["against"].get(TUBEDETR, {}).get("recall_1x", {})
    rows = []
    for kind, duration in TABLE_CELLS:
        cell, paper = f"{kind}/{duration}", TABLE_2[kind, duration]
        difference = paired.get(cell, {}).get("difference")
        then = f"{paper.lvm_net:.1f} / {paper.tubedetr:.1f} / {paper.rest:.1f}"
        recall = map(format_percent, (ours.get(cell), theirs.get(cell)))
        rows.append([duration, kind, *recall, format_percent(difference, signed=True), then])
    header = ["window", "query", "LVM-Net", "TubeDETR", "difference", "printed: LVM-Net / TubeDETR / ReST"]
    # A page is read elsewhere: the folder's name, not where it lay.
    whose = ", ".join(f"{run['steps']} steps in {Path(run['run']).name}" for run in summary["baselines"])
    text = f"TubeDETR reads {_READ_FRAMES['property']}. It learned for {whose}." if whose else ""
    return render_section("Table 2: Recall@1x", text, header, rows)


def render_table_3(summary: Json) -> str:
    """Render the learned sampler against a random memory."""
    trained = "trained on it" if summary["random_is_trained"] else "the same networks, sampler replaced"
    title = f"Table 3: learned sampler against random memory ({trained})"
    return _render_ablation(title, summary, RANDOM, TABLE_3)


def render_table_4(summary: Json) -> str:
    """Render continual learning against none; empty without such runs."""
    if WITHOUT_OCL not in summary["recall_1x"]:
        return ""
    title = "Table 4: online continual learning against none, at matched supervision"
    return _render_ablation(title, summary, WITHOUT_OCL, TABLE_4)


def _render_ablation(title: str, summary: Json, other: str, paper: Mapping[Duration, Ablation]) -> str:
    if other not in summary["recall_1x"]:
        return ""
    rows = []
    once, thrice = summary["recall_1x"], summary["recall_3x"]
    for duration in DURATIONS:
        cell, then = f"activity/{duration}", paper[duration]
        with_, without = (
            f"{format_percent(once[name].get(cell))}, {format_percent(thrice[name].get(cell))}"
            for name in (OWN, other)
        )
        ratio = summary["against"][other]["recall_1x"].get(cell, {}).get("ratio")
        reported = (
            f"{then.recall_1x} ({then.recall_3x}) / {then.without_1x} ({then.without_3x}), "
            f"{then.recall_1x / then.without_1x:.2f}×"
        )
        rows.append([duration, with_, without, _format_ratio(ratio), reported])
    header = ["window", "with: R@1x, R@3x", "without: R@1x, R@3x", "ratio of R@1x", "printed"]
    return render_section(title, "Activity queries.", header, rows)


def _render_systems(summary: Json) -> str:
    """Render every control in the nine cells."""
    names = [name for name in (*SYSTEMS, WITHOUT_OCL) if name in summary["recall_1x"]]
    header = ["system", *(f"{kind} {duration}" for kind, duration in TABLE_CELLS), "events with evidence"]
    rows = []
    for name in names:
        cells = summary["recall_1x"][name]
        reached = summary["coverage"].get(name, {}).get("at_least_1")
        if name == RANDOM and summary["random_is_trained"]:
            reached = None
        recall = [format_percent(cells.get(f"{kind}/{duration}")) for kind, duration in TABLE_CELLS]
        rows.append([name, *recall, format_percent(reached)])
    return render_section("Controls", "Recall@1x.", header, rows)


def _render_details(summary: Json) -> str:
    """Render heads, windows, distance and confidence."""
    parts = []
    names = ("bins", "pointer")
    heads = [
        [duration, *(format_percent(summary["heads"][name].get(f"time/{duration}")) for name in names)]
        for duration in DURATIONS
    ]
    parts.append(
        render_section("Two heads for time", "Recall@1x (tIoU over 0.3).", ["window", *names], heads)
    )
    parts.append(_render_windows(summary))
    gaps = [
        [name, str(group["queries"]), format_percent(group["recall_1x"])]
        for name, group in summary["object_by_gap"].items()
    ]
    header = ["mean distance to remembered evidence", "answers", "Recall@1x (vIoU over 0.3)"]
    parts.append(render_section("Where objects were", "", header, gaps))
    sure = [
        [name, *map(_format_share, (errors["before"], errors["after"])), f"{errors['least']:.2f}"]
        + [str(errors["samples"])]
        for name, errors in summary["calibration"].items()
    ]
    header = ["confidence", "calibration error, raw", "with the manifest's scaling", "if honest", "answers"]
    parts.append(render_section("Whether confidences are honest", "", header, sure))
    presence = [[name, _format_share(interval)] for name, interval in summary["auroc"].items()]
    parts.append(render_section("Whether it happened at all", "", ["queries", "AUROC"], presence))
    parts.append(_render_delivered(summary))
    return "\n\n".join(parts)


def _render_windows(summary: Json) -> str:
    """Render questions that give the event's own time beside those with a longer window."""
    names = [name for name in (OWN, TUBEDETR) if name in summary["windows"]]
    ways = [(name, how) for name in names for how in ("tight", "loose")]
    rows = [
        [
            duration,
            kind,
            *(format_percent(summary["windows"][name][how].get(f"{kind}/{duration}")) for name, how in ways),
        ]
        for kind, duration in TABLE_CELLS
        if kind != "time"
    ]
    header = ["window", "query", *(f"{name}, {how}" for name, how in ways)]
    return render_section("How tightly the time is given", "Recall@1x.", header, rows)


def _render_delivered(summary: Json) -> str:
    """Render the recall that is left where a device answers that it did not see what is asked about."""
    rows = []
    for kind in TYPES:
        recall = [format_percent(summary["as_told"].get(f"{kind}/{duration}")) for duration in DURATIONS]
        refused = [format_percent(summary["withheld"][kind].get(name)) for name in ("happened", "never")]
        rows.append([kind, *recall, *refused])
    text = (
        "Above, an answer counts whether or not the device would give it, as in the papers. Here one that is "
        'withheld ("what was asked was not seen") counts as wrong.'
    )
    header = ["query", *DURATIONS, "withheld of what happened", "of what never did"]
    return render_section("What a person is told", text, header, rows)


def _render_frame_reads(loads: Json) -> str:
    rows = [
        [
            *reversed(name.split("/")),
            f"{reads['frames_a_query']:.0f}",
            f"{reads['ratio']:.3g}×",
            f"{reads['rest_ratio']:.0f}×",
        ]
        for name, reads in loads.items()
    ]
    text = "What per-query reading reads beside reading once, on any hardware (LVM-Net, Figure 1)."
    header = ["window", "query", "frames a query", "frames read, ratio", "at 1,500 queries in 27 minutes"]
    return render_section("Frame loads", text, header, rows)


def _render_head(summary: Json) -> str:
    return (
        "# Results\n\n"
        f"{len(summary['seeds'])} training seeds, {summary['videos']} unseen videos of split "
        f"{summary['split']}, {summary['queries']} queries for each seed, {summary['negatives']} of them "
        "about what never happened. "
        "Recall in per cent; brackets hold 95 % bootstrap intervals over videos and seeds, paired where two "
        "are compared. Printed figures are of other data (ReST-ADL): only ratios and orders compare. Made by "
        "`tools.papers.tables`."
    )


def render_section(title: str, text: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a heading, a sentence if there is one, and a table."""
    lines = [f"## {title}", ""]
    if text:
        lines += [text, ""]
    lines += [_render_row(header), _render_row(["---"] * len(header)), *(_render_row(row) for row in rows)]
    return "\n".join(lines)


def _render_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def format_percent(interval: Sequence[float] | None, *, signed: bool = False) -> str:
    """Format a share with its interval, in per cent."""
    if interval is None:
        return _NONE
    sign = "+" if signed else ""
    estimate, low, high = (f"{100 * value:{sign}.1f}" for value in interval)
    return f"{estimate} [{low}, {high}]"


def _format_share(interval: Sequence[float]) -> str:
    estimate, low, high = interval
    return f"{estimate:.3f} [{low:.3f}, {high:.3f}]"


def _format_ratio(interval: Sequence[float] | None) -> str:
    if interval is None:
        return _NONE
    estimate, low, high = interval
    return f"{estimate:.3g}× [{low:.3g}, {high:.3g}]"
