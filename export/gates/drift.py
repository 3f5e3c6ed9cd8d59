"""Recurrent drift: the export and its network watch the same video, each with a memory of its own.

A comparison of tensors, graph by graph, hides what a recurrent memory accumulates: a token that was let go is
gone. So both run the device's own ingest and asker over the same sampled frames, and are compared along the
way. At each checkpoint every graph of the export is also run alone, on the states of the reference, so that a
run that has drifted can say because of which graph.

Letters: T frames of a clip, S picture side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from edge_runtime.ingest.pipeline import Image, preprocess
from edge_runtime.memory.version import Version
from edge_runtime.query.answers import Answer
from edge_runtime.query.executor import Asker
from edge_runtime.query.schema import AnyQuery
from engines.manifest import GRAPHS, GraphName, Manifest, Precision
from export.data.records import QueryType
from export.gates.answer_agreement import Pair, all_compared, angle_deg, overlap
from export.gates.finite_guard import Beside, Ended, watched
from export.gates.limit_checks import of_checkpoint, of_end, of_final
from export.gates.limits import GateSettings
from export.gates.result import Agreement, Alone, Checkpoint, Drift, Finding
from export.parity.relative_error import Graphs
from export.stream_runs.footage import Footage
from export.stream_runs.session import Lane

Report = Callable[[str, int], None]
"""Called with words and with how many more frames are done."""


class Clip(NamedTuple):
    """The last whole clip as the reference saw it: T pictures (S, S, 3), their times, before and after."""

    before: Version
    images: list[Image]
    times: list[float]
    after: Version


def drift(
    manifest: Manifest,
    reference: Graphs,
    export: Graphs,
    precisions: Mapping[GraphName, Precision],
    footage: Footage,
    settings: GateSettings,
    report: Report = lambda words, frames: None,
) -> Drift:
    """Watch `footage` by both and compare. `manifest` is that of the export's bundle.

    What is beyond a limit is returned, not raised. The run ends early only where the export gives NaN or Inf
    or its engine fails. Equal arguments give equal results. Memory does not grow with the frames watched.
    """
    with ExitStack() as stack:
        run = _Run(manifest, reference, export, precisions, footage, settings, stack)
        try:
            for images, times in _parts(footage, manifest, settings):
                run.watch(images, times)
                report(footage.name, len(times))
                if run.frames % settings.every == 0:
                    report(f"{footage.name}: comparing after {run.frames} frames", 0)
                    run.compare()
            report(f"{footage.name}: {settings.questions} questions", 0)
            run.finish()
        except Ended as error:
            run.findings.append(of_end(error, run.frames))
    return Drift(
        source=footage.name,
        frames=run.frames,
        checkpoints=tuple(run.checkpoints),
        final=run.final,
        findings=tuple(run.findings),
    )


class _Run:
    """Both lanes, and the exchanged graphs beside them."""

    def __init__(
        self,
        manifest: Manifest,
        reference: Graphs,
        export: Graphs,
        precisions: Mapping[GraphName, Precision],
        footage: Footage,
        settings: GateSettings,
        stack: ExitStack,
    ) -> None:
        self._manifest, self._footage, self._settings = manifest, footage, settings
        self._precisions, self._stack = precisions, stack
        self._trusted, self._exported = watched(reference, reference=True), watched(export)
        self._reference, self._export = self._lane(self._trusted), self._lane(self._exported)
        self._beside = {name: Beside(self._trusted[name], self._exported[name]) for name in GRAPHS}
        self._clip: Clip | None = None
        self._running: tuple[Version, list[Image], list[float]] = (self._reference.version, [], [])
        self.checkpoints: list[Checkpoint] = []
        self.final: Checkpoint | None = None
        self.findings: list[Finding] = []

    @property
    def frames(self) -> int:
        """How many both have seen."""
        return self._export.version.frames

    def watch(self, images: list[Image], times: list[float]) -> None:
        """One part of a clip."""
        self._reference.ingest.push_images(images, times)
        self._export.ingest.push_images(images, times)
        self._running[1].extend(images)
        self._running[2].extend(times)
        if not self._reference.version.pending:
            self._clip = Clip(*self._running, self._reference.version)
            self._footage.noted(self._clip.images, self._clip.times, self._clip.after)
            self._running = (self._reference.version, [], [])

    def compare(self) -> None:
        """A checkpoint."""
        found = self._compared(self._settings.asked, self._settings.seed)
        self.checkpoints.append(found)
        self.findings += of_checkpoint(found, self._settings.limits, self._precisions, self.findings)

    def finish(self) -> None:
        """Many other questions after the last frame."""
        self.final = self._compared(self._settings.questions, self._settings.seed + 1)
        self.findings += of_final(self.final, self._settings.limits, self._precisions, self.findings)

    def _lane(self, graphs: Graphs) -> Lane:
        lane = Lane(self._manifest, graphs)
        self._stack.callback(lane.ingest.close)
        return lane

    def _compared(self, questions: int, seed: int) -> Checkpoint:
        wanted, got = self._reference.version, self._export.version
        until = wanted.coverage.end or 0.0
        names = [one.name for one in self._manifest.classes]
        queries = self._footage.asking(names).draw(questions, until, seed)
        answers = self._reference.ask(queries)
        pairs = all_compared(answers, self._export.ask(queries))
        angle = None
        if wanted.background is not None and got.background is not None:
            angle = angle_deg(wanted.background.svd, got.background.svd)
        few = slice(self._settings.asked)
        return Checkpoint(
            frame=self.frames,
            t=until,
            tokens=overlap(wanted.memory, got.memory),
            angle_deg=angle,
            agreement=agreement(pairs),
            alone={name: self._alone(name, queries[few], answers[few]) for name in GRAPHS},
        )

    def _alone(self, name: GraphName, queries: Sequence[AnyQuery], wanted: Sequence[Answer]) -> Alone:
        """One graph of the export among those of the reference, on the reference's states."""
        beside = self._beside[name]
        beside.forget()
        kept = answers = None
        if name != "reader":
            kept = self._kept({**self._trusted, name: beside})
        if name != "sampler":
            reader = beside if name == "reader" else self._trusted["reader"]
            objects = self._export.objects if name == "backbone" else self._reference.objects
            asker = Asker(self._manifest, reader, objects)
            got = asker.ask_all(queries, self._reference.version)
            answers = agreement(all_compared(wanted, got)).answers
        errors = beside.errors()
        output = max(errors, key=lambda one: errors[one]) if errors else ""
        return Alone(
            output=output, error=errors.get(output, 0.0), kept=kept, answers=answers, questions=len(queries)
        )

    def _kept(self, graphs: Graphs) -> float:
        """Tokens in common after one clip from the reference's state; before the first, its frames so far."""
        clip = self._clip or Clip(*self._running, self._reference.version)
        lane = Lane(self._manifest, graphs, clip.before)
        try:
            after = lane.ingest.push_images(clip.images, clip.times)
        finally:
            lane.ingest.close()
        return overlap(clip.after.memory, after.memory)


def agreement(pairs: Sequence[Pair]) -> Agreement:
    """Shares and means over questions answered twice."""

    def share(chosen: Sequence[float]) -> float | None:
        return float(np.mean(chosen)) if chosen else None

    of: dict[QueryType, list[Pair]] = {
        kind: [pair for pair in pairs if pair.kind == kind] for kind in ("activity", "object", "time")
    }
    told = {kind: share([pair.told for pair in found]) for kind, found in of.items()}
    alike = {kind: share([pair.likeness for pair in found]) for kind, found in of.items()}
    return Agreement(
        questions=len(pairs),
        answers=share([pair.told for pair in pairs]) or 0.0,
        contents=share([pair.content for pair in pairs]) or 0.0,
        abstention=share([pair.abstained for pair in pairs]) or 0.0,
        activity=alike["activity"],
        box_iou=alike["object"],
        span_iou=alike["time"],
        by_kind={kind: found for kind, found in told.items() if found is not None},
    )


def _parts(
    footage: Footage, manifest: Manifest, settings: GateSettings
) -> Iterator[tuple[list[Image], list[float]]]:
    """Pictures and times, cut where a clip or the way to a checkpoint ends."""
    network = manifest.network
    images: list[Image] = []
    times: list[float] = []
    for number, frame in enumerate(footage.frames(network.sample_fps), 1):
        images.append(preprocess(frame, network.image_size))
        times.append(frame.t)
        if number % network.clip_frames == 0 or number % settings.every == 0 or number == settings.frames:
            yield images, times
            images, times = [], []
        if number == settings.frames:
            return
