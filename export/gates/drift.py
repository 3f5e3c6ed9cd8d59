"""Gate (b), recurrent drift: the export and its network watch the same video, each with its own memory.

A comparison of tensors, graph by graph, hides what a recurrent memory accumulates: a token that was dropped
is gone. So both run the device's own ingest and asker over the same sampled frames, and are compared along
the way. At each checkpoint every graph of the export is also run alone, on the states of the reference, so
that the cause of a drift can be named.

Agreement is measured in the memory, the background, and the answers.

Letters: T frames of a clip, S picture side; r, s rows of two bases, d width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_runtime.ingest.pipeline import Image, preprocess
from edge_runtime.memory.online_svd import OnlineSVD, Rows
from edge_runtime.memory.token_memory import Cells, Ticks, TokenMemory
from edge_runtime.memory.version import Version
from edge_runtime.query.answers import Answer, Box
from edge_runtime.query.executor import Asker
from edge_runtime.query.schema import AnyQuery
from engines.manifest import GRAPHS, GraphName, Manifest, Precision
from export.data.metrics import box_iou, tiou
from export.data.records import QueryType
from export.gates.finite_guard import RunEnded, ShadowEngine, check_engines
from export.gates.limit_checks import check_checkpoint, check_final, make_end_finding
from export.gates.limits import GateSettings
from export.gates.result import Agreement, Alone, Checkpoint, Drift, Finding
from export.parity.relative_error import Graphs
from export.stream_runs.footage import ReplaySource
from export.stream_runs.session import StreamSession

SAME_IOU = 0.5
"""Intersection over union from which boxes or spans of two answers count as the same."""
MAX_GAP_S = 4.0
"""Seconds that boxes of two answers may be apart and still be compared: half of the gap that is bridged."""
STRONG_SHARE = 0.01
"""Share of the strongest direction from which a direction of the background counts: weaker directions are
noise, and their order depends on the last bit."""

TokenPosition = tuple[int, int]
Report = Callable[[str, int], None]
"""Called with a message and with how many more frames are done."""


def list_positions(tick: Ticks, cell: Cells) -> list[TokenPosition]:
    """Return (tick, cell) of each token, which identifies it."""
    return list(zip(tick.tolist(), cell.tolist(), strict=True))


def memory_overlap(reference: TokenMemory, got: TokenMemory) -> float:
    """Return the share of (tick, cell) that both memories hold, of the larger memory's size; 1 where both are
    empty."""
    a, b = (set(list_positions(memory.tokens().tick, memory.tokens().cell)) for memory in (reference, got))
    return len(a & b) / max(len(a), len(b)) if a or b else 1.0


def basis_angle_deg(reference: OnlineSVD, got: OnlineSVD) -> float:
    """Return the largest principal angle between the strong directions of either basis and the whole other,
    in degrees.

    A direction with at least 1 % of the first singular value is strong. The result is 90 where a direction
    has no counterpart, 0 where both are empty.
    """
    return max(_max_angle_deg(reference, got.basis), _max_angle_deg(got, reference.basis))


def _max_angle_deg(svd: OnlineSVD, other: Rows) -> float:
    """Compute the angle from the sine: the cosine of a small angle is 1 to the last bit."""
    if not len(svd.strength):
        return 0.0
    strong = np.asarray(svd.basis[svd.strength >= STRONG_SHARE * svd.strength[0]], np.float64)  # (r, d)
    basis = np.asarray(other, np.float64)  # (s, d)
    sines = np.linalg.svd(strong - (strong @ basis.T) @ basis, compute_uv=False)
    return math.degrees(math.asin(min(float(sines.max(initial=0.0)), 1.0)))


@dataclass(frozen=True)
class AnswerPair:
    """One question answered twice.

    `agrees`: the person who asked gets the same. Both abstain, or both answer with the same content; if only
    one abstains, they differ, whatever the content. `same_content`: the content is the same, abstention
    aside. `similarity`: 1 or 0 for the first activity, intersection over union of boxes or of the first span.
    `abstained`: both or neither did.
    """

    kind: str
    agrees: bool
    same_content: bool
    similarity: float
    abstained: bool


def compare_answers(reference: Answer, got: Answer) -> AnswerPair:
    """Compare two answers to one question."""
    alike = answer_similarity(reference, got)
    content = alike >= SAME_IOU
    same = reference.abstained == got.abstained
    return AnswerPair(reference.type, same and (reference.abstained or content), content, alike, same)


def compare_all(reference: Sequence[Answer], got: Sequence[Answer]) -> list[AnswerPair]:
    """Compare two lists of answers, pair by pair."""
    return [compare_answers(a, b) for a, b in zip(reference, got, strict=True)]


def answer_similarity(a: Answer, b: Answer) -> float:
    """Return the similarity of two answers: 1 for the same first activity, else intersection over union. Two
    empty answers have 1.

    Each box of either answer is compared with the other's box that is nearest in time, 0 where none lies
    within `MAX_GAP_S`: one token more moves a box to a neighbouring time.
    """
    if a.type == "activity":
        return float(
            [activity.activity for activity in a.activities[:1]]
            == [activity.activity for activity in b.activities[:1]]
        )
    if a.type == "time":
        if not a.spans or not b.spans:
            return float(bool(a.spans) == bool(b.spans))
        return _span_iou((a.spans[0].start, a.spans[0].end), (b.spans[0].start, b.spans[0].end))
    mine, theirs = ({box.t: box.box for box in answer.boxes} for answer in (a, b))
    if not mine and not theirs:
        return 1.0
    return float(np.concatenate([_nearest_ious(mine, theirs), _nearest_ious(theirs, mine)]).mean())


def _nearest_ious(mine: Mapping[float, Box], theirs: Mapping[float, Box]) -> NDArray[np.float64]:
    """Return the intersection over union of each box (by its time) with the nearest of the others. (n,)"""
    out = np.zeros(len(mine))
    if not theirs:
        return out
    times = np.array(sorted(theirs))
    for place, (t, box) in enumerate(mine.items()):
        nearest = float(times[np.abs(times - t).argmin()])
        if abs(nearest - t) <= MAX_GAP_S:
            out[place] = paired_ious([box], [theirs[nearest]])[0]
    return out


def paired_ious(a: Sequence[Box], b: Sequence[Box]) -> NDArray[np.float64]:
    """Return the intersection over union of xyxy boxes (n, 4), pair by pair; 1 for equal boxes, however thin.
    (n,)"""
    boxes_a, boxes_b = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (a, b))
    return np.where((boxes_a == boxes_b).all(axis=1), 1.0, box_iou(boxes_a, boxes_b))


def _span_iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    return 1.0 if a == b else float(tiou(a, b))


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
            grid = self._manifest.network.grid
            self._footage.note_clip(self._clip.images, self._clip.times, self._clip.after, grid)
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
            got = [result.full for result in asker.answer_with_outputs(queries, self._reference.version)]
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
