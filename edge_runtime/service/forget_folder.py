"""Forget a span of time in a state folder that no process uses."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edge_runtime.activity.log import forget_in_log
from edge_runtime.memory.forgetting import ForgetResult, forget_span, to_tick_range
from edge_runtime.persistence import Header, Snapshot, StateError, StateFolder, load_snapshot
from edge_runtime.persistence.encryption import Key
from edge_runtime.persistence.set_aside import remove_set_aside
from edge_runtime.privacy.thumbnails import FOLDER, remove_thumbnails
from edge_runtime.query.timestamps import format_moment
from edge_runtime.system.logs import forget_lines, recent_log
from edge_runtime.teaching.examples import ExampleFile
from engines.bundle import Bundle
from engines.errors import LvmError

DEFAULT_CLIP = (30, 1.0)
"""Frames of a clip and frames a second, to estimate what remains where the bundle is gone."""


def forget_in_folder(
    folder: Path, start: float, end: float, *, key: Key | None = None, reset_background: bool = False
) -> ForgetResult:
    """Remove [start, end) seconds from a state folder, under its lock.

    Raises StateError, and changes nothing, where a process uses it, where there is no state and where the key
    does not fit.
    """
    stack = ExitStack()
    try:
        state = stack.enter_context(StateFolder(folder, key))
    except StateError as error:
        if "in use" not in str(error):
            raise
        raise StateError(
            f"state {folder} is in use by a running lvm-edge; ask it over HTTP with --url "
            "http://127.0.0.1:8971 instead of --state, or stop it first"
        ) from None
    with stack:
        saved = load_snapshot(folder, key=key)
        if saved is None:
            raise StateError(f"no memory in {folder}: there is nothing to forget")
        clip_frames, sample_fps = _read_clip(saved)
        version, result = forget_span(
            saved.version,
            start,
            end,
            clip_s=clip_frames / sample_fps,
            clip_frames=clip_frames,
            reset=reset_background,
        )
        pictures = remove_thumbnails(folder / FOLDER, *to_tick_range(start, end))
        state.save_without_history(Snapshot(saved.header, version))
        rows = forget_in_log(folder, start, end, key)
        examples = ExampleFile(folder, key).forget(start, end, saved.header.clock)
        earlier = remove_set_aside(folder)
    return replace(result, thumbnails=pictures, activities=rows, examples=examples, earlier=earlier)


def complete_forget_result(result: ForgetResult, log: Path | None, header: Header) -> ForgetResult:
    """Return `result` with its clock times where there are any, after removing its lines from the file `log`.

    A log tells of the time at which it was written: of a recording nothing is removed from it.
    """
    epoch = header.clock
    if epoch is None:
        return result
    begin, end = epoch + result.start, epoch + result.end
    lines = 0
    if header.live:
        recent = recent_log()
        lines = 0 if recent is None else recent.forget(begin, end)  # lines of the file too, if there is one
        lines = lines if log is None else forget_lines(log, begin, end)
    clock_from, clock_to = (format_moment(t, epoch) for t in (result.start, result.end))
    return replace(result, log_lines=lines, clock_from=clock_from, clock_to=clock_to)


def _read_clip(saved: Snapshot) -> tuple[int, float]:
    try:
        network = Bundle.open(Path(saved.header.bundle)).manifest.network
    except LvmError:  # a bundle that has moved must not keep a person from being forgotten
        return DEFAULT_CLIP
    return network.clip_frames, network.sample_fps
