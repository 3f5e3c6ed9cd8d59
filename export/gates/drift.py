"""Gate (b), recurrent drift: the export and its network watch the same video, each with its own memory.

A comparison of tensors, graph by graph, hides what a recurrent memory accumulates: a token that was dropped
is gone. So both run the device's own ingest and asker over the same sampled frames, and are compared along
the way. At each checkpoint every graph of the export is also run alone, on the states of the reference, so
that the cause of a drift can be named.

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
from export.gates.answer_agreement import AnswerPair, basis_angle_deg, compare_all, memory_overlap
from export.gates.finite_guard import RunEnded, ShadowEngine, check_engines
from export.gates.limit_checks import check_checkpoint, check_final, make_end_finding
from export.gates.limits import GateSettings
from export.gates.result import Agreement, Alone, Checkpoint, Drift, Finding
from export.parity.relative_error import Graphs
from export.stream_runs.footage import ReplaySource
from export.stream_runs.session import StreamSession

Report = Callable[[str, int], None]
"""Called with a message and with how many more frames are done."""


class ClipRecord(NamedTuple):
    """The last whole clip as the reference saw it: T pictures (S, S, 3), their times, the versions before and
    after."""

    before: Version
    images: list[Image]
    times: list[float]
    after: Version


def measure_drift(
    manifest: Manifest,
    reference: Graphs,
    export: Graphs,
    precisions: Mapping[GraphName, Precision],
    footage: ReplaySource,
    settings: GateSettings,
    report: Report = lambda message, frames: None,
) -> Drift:
    """Run both over `footage` and compare. `manifest` is that of the export's bundle.

    What is beyond a limit is returned, not raised. The run ends early only if the export gives NaN or Inf or
    its engine fails. Equal arguments give equal results. Memory does not grow with the number of frames.
    """
    with ExitStack() as stack:
        run = _DriftRun(manifest, reference, export, precisions, footage, settings, stack)
        try:
            for images, times in _split_frames(footage, manifest, settings):
                run.watch(images, times)
                report(footage.name, len(times))
                if run.frames % settings.every == 0:
                    report(f"{footage.name}: comparing after {run.frames} frames", 0)
                    run.compare()
            report(f"{footage.name}: {settings.questions} questions", 0)
            run.finish()
        except RunEnded as error:
            run.findings.append(make_end_finding(error, run.frames))
    return Drift(
        source=footage.name,
        frames=run.frames,
        checkpoints=tuple(run.checkpoints),
        final=run.final,
        findings=tuple(run.findings),
    )


class _DriftRun:
    """Both sessions, and the shadow engines for graphs of the export on their own."""

    def __init__(
        self,
        manifest: Manifest,
        reference: Graphs,
        export: Graphs,
        precisions: Mapping[GraphName, Precision],
        footage: ReplaySource,
        settings: GateSettings,
        stack: ExitStack,
    ) -> None:
        self._manifest, self._footage, self._settings = manifest, footage, settings
        self._precisions, self._stack = precisions, stack
        self._trusted, self._exported = check_engines(reference, reference=True), check_engines(export)
        self._reference, self._export = self._open_session(self._trusted), self._open_session(self._exported)
        self._shadows = {name: ShadowEngine(self._trusted[name], self._exported[name]) for name in GRAPHS}
        self._clip: ClipRecord | None = None
        self._running: tuple[Version, list[Image], list[float]] = (self._reference.version, [], [])
        self.checkpoints: list[Checkpoint] = []
        self.final: Checkpoint | None = None
        self.findings: list[Finding] = []

    @property
    def frames(self) -> int:
        """Number of frames that both have seen."""
        return self._export.version.frames

    def watch(self, images: list[Image], times: list[float]) -> None:
        """Ingest a part of a clip in both sessions."""
        self._reference.ingest.push_images(images, times)
        self._export.ingest.push_images(images, times)
        self._running[1].extend(images)
        self._running[2].extend(times)
        if not self._reference.version.pending:
            self._clip = ClipRecord(*self._running, self._reference.version)
            self._footage.note_clip(self._clip.images, self._clip.times, self._clip.after)
            self._running = (self._reference.version, [], [])

    def compare(self) -> None:
        """Compare both sessions at a checkpoint."""
        checkpoint = self._measure(self._settings.asked, self._settings.seed)
        self.checkpoints.append(checkpoint)
        self.findings += check_checkpoint(checkpoint, self._settings.limits, self._precisions, self.findings)

    def finish(self) -> None:
        """Ask many other questions after the last frame."""
        self.final = self._measure(self._settings.questions, self._settings.seed + 1)
        self.findings += check_final(self.final, self._settings.limits, self._precisions, self.findings)

    def _open_session(self, graphs: Graphs) -> StreamSession:
        session = StreamSession(self._manifest, graphs)
        self._stack.callback(session.ingest.close)
        return session

    def _measure(self, questions: int, seed: int) -> Checkpoint:
        reference, got = self._reference.version, self._export.version
        until = reference.coverage.end or 0.0
        names = [activity.name for activity in self._manifest.classes]
        queries = self._footage.make_question_generator(names).draw(questions, until, seed)
        answers = self._reference.ask(queries)
        pairs = compare_all(answers, self._export.ask(queries))
        angle = None
        if reference.background is not None and got.background is not None:
            angle = basis_angle_deg(reference.background.svd, got.background.svd)
        few = slice(self._settings.asked)
        return Checkpoint(
            frame=self.frames,
            t=until,
            tokens=memory_overlap(reference.memory, got.memory),
            angle_deg=angle,
            agreement=summarise_pairs(pairs),
            alone={name: self._measure_alone(name, queries[few], answers[few]) for name in GRAPHS},
        )

    def _measure_alone(
        self, name: GraphName, queries: Sequence[AnyQuery], expected: Sequence[Answer]
    ) -> Alone:
        """Run one graph of the export among those of the reference, on the reference's states."""
        shadow = self._shadows[name]
        shadow.reset()
        tokens = answers = None
        if name != "reader":
            tokens = self._measure_shared({**self._trusted, name: shadow})
        if name != "sampler":
            reader = shadow if name == "reader" else self._trusted["reader"]
            objects = self._export.objects if name == "backbone" else self._reference.objects
            asker = Asker(self._manifest, reader, objects)
            got = asker.ask_all(queries, self._reference.version)
            answers = summarise_pairs(compare_all(expected, got)).answers
        errors = shadow.errors()
        output = max(errors, key=lambda name: errors[name]) if errors else ""
        return Alone(
            output=output, error=errors.get(output, 0.0), kept=tokens, answers=answers, questions=len(queries)
        )

    def _measure_shared(self, graphs: Graphs) -> float:
        """Return the tokens in common after one clip from the reference's state; before the first clip, after
        its frames so far."""
        clip = self._clip or ClipRecord(*self._running, self._reference.version)
        session = StreamSession(self._manifest, graphs, clip.before)
        try:
            after = session.ingest.push_images(clip.images, clip.times)
        finally:
            session.ingest.close()
        return memory_overlap(clip.after.memory, after.memory)


def summarise_pairs(pairs: Sequence[AnswerPair]) -> Agreement:
    """Return shares and means over questions answered twice."""

    def share(chosen: Sequence[float]) -> float | None:
        return float(np.mean(chosen)) if chosen else None

    pairs_by_kind: dict[QueryType, list[AnswerPair]] = {
        kind: [pair for pair in pairs if pair.kind == kind] for kind in ("activity", "object", "time")
    }
    agreement_by_kind = {
        kind: share([pair.agrees for pair in matching]) for kind, matching in pairs_by_kind.items()
    }
    alike = {kind: share([pair.similarity for pair in matching]) for kind, matching in pairs_by_kind.items()}
    return Agreement(
        questions=len(pairs),
        answers=share([pair.agrees for pair in pairs]) or 0.0,
        contents=share([pair.same_content for pair in pairs]) or 0.0,
        abstention=share([pair.abstained for pair in pairs]) or 0.0,
        activity=alike["activity"],
        box_iou=alike["object"],
        span_iou=alike["time"],
        by_kind={kind: value for kind, value in agreement_by_kind.items() if value is not None},
    )


def _split_frames(
    footage: ReplaySource, manifest: Manifest, settings: GateSettings
) -> Iterator[tuple[list[Image], list[float]]]:
    """Yield pictures and times, split where a clip or the way to a checkpoint ends."""
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
