"""Render docs/lab/reliability.md from the results of the parts of `tools/reliability/__main__.py`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Template

Row = tuple[str, ...]
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
    results = {name: part.result for name, part in parts.items()}
    soak = results.get("soak")
    page: Template = Template(
        Path(__file__).with_name("page.md.jinja").read_text(encoding="utf-8"),
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return page.render(
        results,
        machine=machine,
        missing=missing,
        parts=parts,
        rows=_list_faults(results, events),
        outdated=soak and (not soak["answers"] or any("heap" not in life for life in soak["lives"])),
    )


def _list_faults(results: Mapping[str, Any], events: Sequence[dict[str, Any]]) -> list[Row]:
    """Return a row for each kind of fault, of all parts that were run."""
    rows: list[Row] = []
    if "sources" in results:
        for row in results["sources"]["faults"]:
            back = f", {row['not_recovered']} not back" if row["not_recovered"] else ""
            lost = f"{row['lost']} frames in all¹{back}"
            rows.append(
                _make_row(row["fault"], "a source", row["injected"], lost, row["median_s"], row["worst_s"])
            )
    if "kills" in results:
        kills = results["kills"]
        took = kills["recover_s"] or {"median": None, "worst": None}
        max_lost = max(int(n) for n in kills["frames_lost"])
        lost = f"at most {max_lost} frames, {len(kills['states_wrong'])} states differ²"
        fault = "`kill -9` at a random moment"
        rows.append(_make_row(fault, "the process", kills["kills"], lost, took["median"], took["worst"]))
    if "cuts" in results:
        for row in results["cuts"]["faults"]:
            lost = f"at most {row['lost_most']} frames³, {row['wrong']} states differ"
            into = "the state's files"
            rows.append(_make_row(row["fault"], into, row["injected"], lost, row["median_s"], row["worst_s"]))
    if "soak" in results:
        rows += _list_soak_faults(events)
    return rows


def _list_soak_faults(events: Sequence[dict[str, Any]]) -> list[Row]:
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


def _make_row(
    fault: str, into: str, injected: int, lost: str, median: float | None, worst: float | None
) -> Row:
    return fault, into, str(injected), lost, _format_time(median), _format_time(worst)


def _format_time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1e3:.0f} ms" if seconds < 0.1 else f"{seconds:.2f} s"
