"""Results of a system, one JSON object a line for each query: tables and intervals are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from engines.errors import LvmError
from engines.manifest import TimeHead
from export.data.metrics import POSITIVE_IOU
from export.data.records import Duration, QueryType
from export.support.errors import first_complaint

WindowKind = Literal["tight", "loose"]


class SpanResult(BaseModel):
    """The best span of one head: its fit (None for a negative), and the confidence of the head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tiou: float | None
    confidence: float


class Result(BaseModel):
    """An answer beside its truth.

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
        """Return Recall@1x as in LVM-Net's tables, None for a negative; a head without a span has found
        nothing.

        For an answer that a device withholds (`abstained`), the answer that it would have given is scored.
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
    """How many tokens of an event (its number in its video) were remembered at the end of the video."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    video: str
    seed: int
    event: int
    evidence: int


Line = TypeVar("Line", Result, EventResult)


def save_lines(results: Iterable[Result | EventResult], path: Path) -> None:
    """Write one JSON object a line; the file gets its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        for result in results:
            file.write(result.model_dump_json(exclude_defaults=True) + "\n")
    part.replace(path)


def load_results(path: Path) -> list[Result]:
    """Load results that `save_lines` wrote. Raises LvmError that names file and line."""
    return _load(path, Result)


def load_events(path: Path) -> list[EventResult]:
    """Load events as `load_results` loads results."""
    return _load(path, EventResult)


def _load(path: Path, kind: type[Line]) -> list[Line]:
    if not path.is_file():
        raise LvmError(f"results {path} do not exist: write them with lvm-train evaluate")
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            lines.append(kind.model_validate_json(line))
        except ValidationError as error:
            raise LvmError(f"{path}:{number}: {first_complaint(error)}") from error
    return lines


def require_same_queries(ours: Sequence[Result], theirs: Sequence[Result]) -> None:
    """Raise LvmError unless both answered the same queries: nothing else can be compared."""
    odd = {result.qid for result in ours} ^ {result.qid for result in theirs}
    if odd:
        raise LvmError(
            f"both runs must have answered the same queries, {len(odd)} are only in one, such as {min(odd)}"
        )
