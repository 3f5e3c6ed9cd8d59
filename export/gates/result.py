"""The results of the gates as plain numbers: the report is drawn from them and the JSON holds them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engines.manifest import GraphName, Precision
from engines.network_config import Strict
from export.data.records import QueryType
from export.gates.limits import Limits

Ending = Literal["fault", "finite"]
"""What ends a run: the engine fails, or gives a value that is not finite."""
Quantity = Literal[
    Ending, "error", "kept", "tokens", "angle_deg", "answers", "contents", "box_iou", "span_iou", "recall"
]


class Agreement(Strict):
    """How the answers to one set of questions agree. Shares and means; None where no question is of the kind.

    `answers`: the person who asked gets the same. `contents`: the content is the same, abstention aside.
    `abstention`: both or neither abstain. `activity`: the same first activity. `box_iou`, `span_iou`: means.
    """

    questions: int
    answers: float
    contents: float
    abstention: float
    activity: float | None
    box_iou: float | None
    span_iou: float | None
    by_kind: dict[QueryType, float] = Field(description="`answers` of each kind")


class Alone(Strict):
    """One graph of the export, all else from the reference: its worst output, and the effect.

    `kept`: tokens in common after the last clip; `answers`: share of `questions` of the checkpoint that
    agree. None where the graph has no part in it.
    """

    output: str
    error: float
    kept: float | None
    answers: float | None
    questions: int


class Checkpoint(Strict):
    """Both runs after the same `frame`s, `t` seconds into the stream."""

    frame: int
    t: float
    tokens: float
    angle_deg: float | None = Field(description="None where the bundle keeps no SVD")
    agreement: Agreement
    alone: dict[GraphName, Alone]


class Finding(Strict):
    """A quantity beyond its limit, first seen after `frame` frames. `graph` is None where none can be named.

    `certain`: the graph alone is beyond a limit too; otherwise it comes nearest to a limit.
    """

    quantity: Quantity
    frame: int | None
    value: float | None
    limit: float | None
    graph: GraphName | None
    certain: bool
    words: str


class Drift(Strict):
    """One source watched by both runs."""

    source: str
    frames: int
    checkpoints: tuple[Checkpoint, ...]
    final: Checkpoint | None = Field(description="None where the run ended before its last frame")
    findings: tuple[Finding, ...]


class Recall(Strict):
    """Recall@1x of one kind of question on a labelled set."""

    questions: int
    reference: float
    export: float
    difference: tuple[float, float] = Field(description="95 % interval of export - reference, paired")


class Accuracy(Strict):
    """The labelled set, and recall of each kind of question."""

    data: str
    split: str
    recall: dict[QueryType, Recall]
    findings: tuple[Finding, ...]


class GateResult(Strict):
    """All results of one bundle on one backend."""

    bundle: str
    digest: str
    backend: str
    precisions: dict[GraphName, Precision]
    limits: Limits
    seed: int
    drift: tuple[Drift, ...]
    accuracy: Accuracy | None = None
    seconds: float = Field(description="how long it took; the only number that equal runs do not share")

    @property
    def findings(self) -> tuple[tuple[str, Finding], ...]:
        """Pairs of source and finding."""
        pairs = [(drift.source, finding) for drift in self.drift for finding in drift.findings]
        if self.accuracy is not None:
            pairs += [(self.accuracy.data, finding) for finding in self.accuracy.findings]
        return tuple(pairs)

    @property
    def passed(self) -> bool:
        return not self.findings
