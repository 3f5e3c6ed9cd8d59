"""What a system answered to each query, one JSON object a line: all that tables and intervals are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from engines.errors import LvmError
from engines.manifest import TimeHead
from export.data.metrics import POSITIVE_IOU
from export.data.records import Duration, QueryType
from export.support.validation_errors import said

WindowKind = Literal["tight", "loose"]


class SpanResult(BaseModel):
    """The best span of one head: how well it fits (None for a negative), and how sure the head was of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tiou: float | None
    confidence: float


class Result(BaseModel):
    """One answer beside its truth.

    `hit1`, `hit3` share of the labels among the top x and 3x classes (activity), `viou` (object), `spans` of
    each head (time); None or empty for other kinds and for negatives. `class_logits` (C,) and
    `presence_logit` are None where the network was not run: nothing was remembered.

    `evidence` counts remembered tokens of the target inside the asked window, `evidence_gap_s` is the mean
    time from a sampled moment of the target to the nearest of them. None for negatives and for systems that
    remember nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    qid: str
    video: str
    seed: int
    type: QueryType
    duration: Duration
    window: WindowKind | None
    happened: bool
    abstained: bool
    labels: tuple[int, ...] = ()
    hit1: float | None = None
    hit3: float | None = None
    viou: float | None = None
    spans: dict[TimeHead, SpanResult] = {}
    presence_logit: float | None = None
    class_logits: tuple[float, ...] | None = None
    evidence: int | None = None
    evidence_gap_s: float | None = None

    def score(self, head: TimeHead = "pointer") -> float | None:
        """Recall@1x as in LVM-Net's tables, None for a negative; a head that said nothing found nothing.

        Of an answer that a device withholds (`abstained`) it is what would have been said.
        """
        if not self.happened:
            return None
        if self.type == "activity":
            return self.hit1
        if self.type == "object":
            return float((self.viou or 0.0) > POSITIVE_IOU)
        span = self.spans.get(head)
        return float(span is not None and (span.tiou or 0.0) > POSITIVE_IOU)


class EventResult(BaseModel):
    """How many tokens of one event (its number among its video's) were remembered when the video was over."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    video: str
    seed: int
    event: int
    evidence: int


Line = TypeVar("Line", Result, EventResult)


def save_lines(results: Iterable[Result | EventResult], path: Path) -> None:
    """One JSON object a line; the file gets its name when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        for result in results:
            file.write(result.model_dump_json(exclude_defaults=True) + "\n")
    part.replace(path)


def load_results(path: Path) -> list[Result]:
    """What `save_lines` wrote of results. Raises LvmError that names file and line."""
    return _load(path, Result)


def load_events(path: Path) -> list[EventResult]:
    """As `load_results`, of events."""
    return _load(path, EventResult)


def _load(path: Path, kind: type[Line]) -> list[Line]:
    if not path.is_file():
        raise LvmError(f"results {path} do not exist: write them with lvm-train evaluate")
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            lines.append(kind.model_validate_json(line))
        except ValidationError as error:
            raise LvmError(f"{path}:{number}: {said(error)}") from error
    return lines


def same_questions(ours: Sequence[Result], theirs: Sequence[Result]) -> None:
    """Raises LvmError unless both answered the same queries: nothing else can be compared."""
    odd = {one.qid for one in ours} ^ {one.qid for one in theirs}
    if odd:
        raise LvmError(
            f"both runs must have answered the same queries, {len(odd)} are only in one, such as {min(odd)}"
        )
