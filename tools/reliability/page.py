"""Render docs/lab/reliability.md from the results of the parts of `tools/reliability/__main__.py`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

SOAK_FAULTS = {
    "rtsp-stopped": "RTSP camera stopped and started again",
    "rtsp-stalled": "RTSP camera connected, no pictures for longer than the timeouts",
    "rtsp-slowed": "RTSP link at half the speed, then whole again",
    "rtsp-switched": "RTSP camera changes resolution and rate",
    "rtsp-broken": "RTSP connection broken",
    "http-cut": "MJPEG over HTTP breaks off inside a picture",
    "http-absent": "HTTP camera answers 404",
    "privacy-pause": "privacy pause of one camera, from its end",
    "disk-full": "full disk (files may not grow), until all is saved again",
    "broken-yaml": "SIGHUP with a broken YAML",
    "garbage": "four clients at a time that send garbage, for 10 s",
    "engine-fault": "every engine call fails for some seconds",
    "kill": "`kill -9`, until it answers again",
    "restart": "SIGTERM and start, until it answers again",
}
_HEAD = """# What each fault costs

Made by `python -m tools.reliability`: every fault injected into the real thing, what was lost, and how long
it took until all was well again. [reliability-sources.md](reliability-sources.md) and
[reliability-state.md](reliability-state.md) tell how that is done, [unattended.md](../unattended.md) how it
is run.

Machine: {machine}, shared with other work. One seed each.
`FOLDER` is where the results lie; a part whose results are there is not run again.
"""
_TAIL = """
## What this does not show

- No real camera, Wi-Fi, V4L2 device, GStreamer pipeline or GPU: cameras are real servers on loopback, USB
  ones are played. No real power cut: the disk is one in memory that keeps apart what was written and what was
  synced.
- The full disk of the soak is a limit on the size of the process's files, the engine fault a replaced call
  inside the real process (`tools/reliability/soaking/edge.py`); in both the process meets the same kind of
  error as in earnest.
- Times to recover are those of a machine that does other work too. The soak's demo falls behind its speed
  where cores are missing, and is then judged on what it saw.
- How a soak is judged was changed four times after soaks had been seen: seconds are allowed what a control
  process of the same machine needs; a life's memory is judged from where each of its faults has happened
  once, at the earliest after four minutes, up to an engine fault; the camera that changes its resolution
  keeps its number of pixels, as its newest 32 pictures are kept (4.4 MB more at 320 x 192 than at 160 x 96);
  and lives became longer, judged from where the demo's world has its size, 4.4 hours of its stream. Judged
  from their fourth minute, lives of five to fifteen minutes grew by +3.8 MB in 98 s; +0.9, +2.8 and -1.7 in
  129 to 274 s; +2.6 and +1.8 in ten minutes; 1 % is 2.4 MB.
- A soak may grow by 1 % of resident memory, of what malloc gave out, and of Python's blocks. Lives of the
  two soaks before the one above grew by +1.66 ± 0.54 and +1.90 ± 0.38 MB, by +1.86 ± 0.68 and +0.57 ± 0.34
  MB; in one of 640 s that was watched from inside, what malloc had given out and Python's blocks stayed while
  anonymous memory rose: holes between what is used. The second of the two gave holes back once a minute
  already. In a life's first ten minutes resident memory may still rise by some MB while what is used stands
  still. 360 reconnects of an HTTP camera within seven minutes took 1.2 MB from the 100th on, 0.4 MB from the
  220th. What months do is not shown.
- A part tells of the code of its day (above); large blocks are kept out of malloc's heaps since the evening
  of 2026-11-22, what is loaded out of Python's garbage collection since the 23rd, and holes are given back
  since later that day.
- The soak's video is the demo's; no recorded shop was soaked. Real films were watched for memory only
  ([deployment.md](deployment.md#memory-and-threads-over-hours-2026-11-22-and-23)).
"""


class PartResult(Protocol):
    """The result of a part, as `tools.reliability.__main__` reads it."""

    @property
    def command(self) -> str: ...
    @property
    def day(self) -> str: ...
    @property
    def status(self) -> int: ...
    @property
    def result(self) -> dict[str, Any]: ...


def render_page(
    parts: Mapping[str, PartResult], events: Sequence[dict[str, Any]], machine: str, missing: Sequence[str]
) -> str:
    """Return the whole page. `events` are those of the soak, `missing` the parts that were not run."""
    rows = [
        _list_source_faults(parts),
        _list_kills(parts),
        _list_power_cuts(parts),
        _list_soak_faults(parts, events),
    ]
    table = [
        "| fault | into what | injected | lost | to recover, median | worst |",
        "|---|---|---|---|---|---|",
        *(row for some in rows for row in some),
    ]
    bounds = [*_describe_slope(parts), *_describe_lives(parts)]
    runs = [
        f"| {name} | `{p.command}` | {p.day} | {f'no, status {p.status}' if p.status else 'yes'} |"
        for name, p in parts.items()
    ]
    not_run = f"\nNot run: {', '.join(missing)}.\n" if missing else ""
    return (
        _HEAD.format(machine=machine)
        + "\n## Faults\n\n" + "\n".join(table) + "\n" + _make_notes(parts)
        + "\n## Bounds\n\n" + "\n".join(bounds) + "\n"
        + "\n## What was run\n\n| part | command | day | passed |\n|---|---|---|---|\n"
        + "\n".join(runs) + "\n"
        + not_run + _TAIL
    )  # fmt: skip


def _make_row(
    fault: str, into: str, injected: int, lost: str, median: float | None, worst: float | None
) -> str:
    return f"| {fault} | {into} | {injected} | {lost} | {_format_time(median)} | {_format_time(worst)} |"


def _format_time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1e3:.0f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


def _list_source_faults(parts: Mapping[str, PartResult]) -> list[str]:
    if "sources" not in parts:
        return []
    rows = []
    for row in parts["sources"].result["faults"]:
        back = f", {row['not_recovered']} not back" if row["not_recovered"] else ""
        lost = f"{row['lost']} frames in all¹{back}"
        cells = row["fault"], "a source", row["injected"], lost, row["median_s"], row["worst_s"]
        rows.append(_make_row(*cells))
    return rows


def _list_kills(parts: Mapping[str, PartResult]) -> list[str]:
    if "kills" not in parts:
        return []
    result = parts["kills"].result
    max_lost = max(int(n) for n in result["frames_lost"])
    took = result["recover_s"] or {"median": None, "worst": None}
    lost = f"at most {max_lost} frames, {len(result['states_wrong'])} states differ²"
    cells = (
        "`kill -9` at a random moment",
        "the process",
        result["kills"],
        lost,
        took["median"],
        took["worst"],
    )
    return [_make_row(*cells)]


def _list_power_cuts(parts: Mapping[str, PartResult]) -> list[str]:
    if "cuts" not in parts:
        return []
    return [
        _make_row(row["fault"], "the state's files", row["injected"],
                  f"at most {row['lost_most']} frames³, {row['wrong']} states differ",
                  row["median_s"], row["worst_s"])
        for row in parts["cuts"].result["faults"]
    ]  # fmt: skip


def _list_soak_faults(parts: Mapping[str, PartResult], events: Sequence[dict[str, Any]]) -> list[str]:
    if "soak" not in parts:
        return []
    rows = []
    for name, words in SOAK_FAULTS.items():
        these = [event for event in events if event["fault"] == name]
        if not these:
            continue
        took = [event["recover_s"] for event in these if event["recover_s"] is not None]
        objected = sum(bool(event["objections"]) for event in these)
        lost = (
            f"at most {max(event['lost'] for event in these)} frames⁴" if name in ("kill", "restart") else "⁴"
        )
        lost += f", {objected} times objected" if objected else ""
        median = statistics.median(took) if took else None
        rows.append(_make_row(words, "the soak", len(these), lost, median, max(took, default=None)))
    return rows


def _make_notes(parts: Mapping[str, PartResult]) -> str:
    notes = []
    if "sources" in parts:
        notes.append(
            "¹ Sampled frames, at 5 a second, that are missing although the camera was there: mostly those "
            "of the time to reconnect. Frames while a camera is away do not count."
        )
    if "kills" in parts:
        asked = parts["kills"].result["answers"]
        notes.append(
            f"² Bit for bit with an uninterrupted run over the same frames; {asked['equal']} of "
            f"{asked['asked']} questions had the same answer to the last digit after the last kill."
        )
    if "cuts" in parts:
        notes.append(
            "³ Of the ingested frames, the one being saved included; a damaged record ends the journal, "
            "and the log says so. Times are those of loading the state."
        )
    if "soak" in parts:
        states = parts["soak"].result["states"]
        notes.append(
            "⁴ Ingested frames are counted before and after; those that come while a camera is away or the "
            f"process is down do not count. {states['compared']} states of the demo were compared bit for "
            f"bit with an uninterrupted run's, {len(states['wrong'])} differ."
        )
    if "disk" in parts:
        counts = parts["disk"].result
        notes.append(
            f"Full and read-only disks, damaged, foreign, older and newer states: "
            f"{counts.get('passed', 0)} tests passed, {counts.get('failed', 0)} failed."
        )
    return "".join(f"\n{note}\n" for note in notes)


def _describe_slope(parts: Mapping[str, PartResult]) -> list[str]:
    if "slope" not in parts:
        return []
    run = parts["slope"].result
    return [
        f"Resident memory over {run['frames']:,} sampled frames of {run['source']}, {run['warm']} of them to "
        f"warm up: {run['resident_mb']:.1f} MB, the line through it rises by {run['grown_mb']:.2f} ± "
        f"{run['error_mb']:.2f} MB over the whole run ({run['kb_per_1000_frames']:.1f} ± "
        f"{run['error_kb_per_1000_frames']:.1f} kB per 1,000 frames); "
        f"threads {_format_range(run['threads'])}, "
        f"descriptors {_format_range(run['descriptors'])}. The medians of its parts, in MB: "
        f"{', '.join(f'{mb:.1f}' for mb in run['parts_mb'])}.",
        "",
    ]


def _format_range(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _format_growth(figures: Sequence[float]) -> str:
    """Format the growth of [mean, growth, its standard error]."""
    return f"{figures[1]:+.2f} ± {figures[2]:.2f}"


def _describe_lives(parts: Mapping[str, PartResult]) -> list[str]:
    if "soak" not in parts:
        return []
    result = parts["soak"].result
    if not result["answers"] or any("heap" not in life for life in result["lives"]):
        return [
            "The soak's result is that of older code, or it has no samples: remove soak.out and run it again."
        ]
    maxima, asked = result["most"], result["answers"]
    rows = [
        f"| {life['life']} | {life['seconds']} s "
        f"| {life['resident'][0]:.1f} MB | {_format_growth(life['resident'])} MB "
        f"| {life['heap'][0]:.1f} MB | {_format_growth(life['heap'])} MB "
        f"| {life['blocks'][0]:.0f} | {_format_growth(life['blocks'])} |"
        for life in result["lives"]
    ]
    early, late = asked["first"], asked["last"]
    rule = (
        "A life is evaluated from where each kind of its faults has happened once. Bounds in seconds are "
        "those of an idle machine times the slowdown that a control process measured meanwhile "
        "(`tools/reliability/machine_load.py`)."
    )
    objections = [f"- {what}" for what in result["objections"]] or ["- no objection"]
    return [
        f"The soak: {result['seconds']} s, {result['stream_hours']} hours of the demo's stream "
        f"({result['frames']['demo']:,} frames), {result['faults']} faults in {result['lives_lived']} lives "
        f"of the process. At most {maxima['resident'] / 1e6:.0f} MB resident, {maxima['threads']} threads, "
        f"{maxima['descriptors']} descriptors, {maxima['state'] / 1e6:.1f} MB of state, "
        f"{maxima['log'] / 1e3:.0f} kB of log; load average up to {maxima['load']:.1f}. A question over HTTP "
        f"took {early['p50_ms']} ms (p50) and {early['p99_ms']} ms (p99) in the first third, "
        f"{late['p50_ms']} and {late['p99_ms']} ms in the last ({late['asked']} questions each), on a "
        f"machine {early['slowdown']} and {late['slowdown']} times slower than idle; that taken out, "
        f"{early['p50_idle_ms']} and {early['p99_idle_ms']} ms against {late['p50_idle_ms']} and "
        f"{late['p99_idle_ms']} ms.",
        "",
        "| life of the process | evaluated | resident | growth over it | given out by malloc | growth "
        "| Python's blocks, thousands | growth |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Objections of the oracle:",
        "",
        *objections,
        "",
        rule,
    ]
