"""Read question files of ReST-ADL, as the LVM-Net paper asks them, into a data folder that `adl` made.

No such file is public, so the names of its keys are not known here. Those of our own queries are expected
(`export.data.records.QueryRecord`); a YAML file says others:

    keys: {video: video_id, q_s: clip_start, activities: labels}
    types: {activity: activity_recognition}

Files hold a JSON list or one object a line. Activities may be names or numbers of classes.json; times are
seconds, or frames at a rate that is given. A missing `duration` is that of the query window, a missing `qid`
the place in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from edge_runtime.config.yaml_loader import read_settings
from edge_runtime.system.validation import StrictModel
from engines.errors import LvmError
from export.data.checks import query_errors, read_data_folder
from export.data.files import QUERIES, DataFolder, write_records
from export.data.formats.forms import Place, Report
from export.data.formats.reading import JsonFile, read_lines
from export.data.records import DURATION_S, QueryRecord, QueryType
from export.support.errors import first_complaint

TIMES = ("q_s", "q_e", "t_s", "t_e")


class QuestionKeys(StrictModel):
    """The contents of the YAML file: names of keys, and of types, in the question files."""

    keys: dict[str, str] = Field(default_factory=dict)
    types: dict[QueryType, str] = Field(default_factory=dict)


def import_questions(
    paths: Iterable[Path], root: Path, report: Report, *, keys: Path | None = None, fps: float | None = None
) -> list[QueryRecord]:
    """Return the questions of the files about the videos of the data folder `root`. Raises LvmError."""
    names = read_settings(keys, QuestionKeys, {}) if keys else QuestionKeys()
    if strange := sorted(set(names.keys) - set(QueryRecord.model_fields)):
        raise LvmError(
            f"{keys}: {strange[0]!r} is no key of a question; {', '.join(QueryRecord.model_fields)} are"
        )
    data = read_data_folder(root)
    queries: dict[str, QueryRecord] = {}
    for path in paths:
        for place, value in _read_objects(path, report):
            query = _make_query(value, place, data, names, fps, report)
            if query is None:
                continue
            if query.qid in queries:
                report.refuse(place, f"question {query.qid!r} is there twice")
                continue
            queries[query.qid] = query
    return list(queries.values())


def write_questions(root: Path, queries: Iterable[QueryRecord]) -> int:
    """Write the questions of the data folder `root` and return their number."""
    return write_records(root / QUERIES, queries)


def _read_objects(path: Path, report: Report) -> Iterator[tuple[Place, Any]]:
    if path.suffix != ".jsonl":
        file = JsonFile(path)
        for keys, value in file.items(file.tree):
            yield file.place(*keys), value
        return
    for place, line in read_lines(path):
        try:
            yield place, json.loads(line)
        except (ValueError, RecursionError):
            report.refuse(place, f"expected one JSON object a line, got {line[:60]!r}")


def _make_query(
    value: Any, place: Place, data: DataFolder, names: QuestionKeys, fps: float | None, report: Report
) -> QueryRecord | None:
    """Return the question of a JSON object; None after refusing it."""
    if not isinstance(value, Mapping):
        report.refuse(place, f"expected an object, got {value!r:.60}")
        return None
    known = {
        key: value[names.keys.get(key, key)]
        for key in QueryRecord.model_fields
        if names.keys.get(key, key) in value
    }
    types = {text: kind for kind, text in names.types.items()}
    try:
        known["type"] = types.get(known.get("type", ""), known.get("type"))
        known["activities"] = _number_activities(known.get("activities", ()), data)
        for key in TIMES:
            if fps is not None and isinstance(known.get(key), int | float):
                known[key] = known[key] / fps
        known.setdefault("qid", str(place))
        if (
            "duration" not in known
            and isinstance(known.get("q_s"), int | float)
            and isinstance(known.get("q_e"), int | float)
        ):
            length = known["q_e"] - known["q_s"]
            known["duration"] = min(DURATION_S, key=lambda name: abs(DURATION_S[name] - length))
        query = QueryRecord.model_validate(known)
    except ValidationError as error:
        report.refuse(place, first_complaint(error))
        return None
    except (ValueError, TypeError, OverflowError) as error:
        report.refuse(place, str(error))
        return None
    video = data.videos.get(query.video)
    problems = [] if video else [f"video {query.video!r:.60} is not in the data folder"]
    if video and query.q_e > video.duration_s + 0.2:
        problems.append(f"q_e is {query.q_e:g} s, beyond the end at {video.duration_s:g} s")
    for problem in [*problems, *query_errors(query)][:1]:
        report.refuse(place, problem)
        return None
    return query


def _number_activities(activities: Any, data: DataFolder) -> tuple[int, ...]:
    """Return the numbers of activities that are named or numbered. Raises ValueError."""
    numbers = {activity.name: number for number, activity in enumerate(data.classes)}
    found = []
    for activity in activities if isinstance(activities, list | tuple) else [activities]:
        number = numbers.get(activity) if isinstance(activity, str) else activity
        if not isinstance(number, int) or not 0 <= number < len(data.classes):
            raise ValueError(
                f"activity {activity!r:.60} is not in classes.json, which has {len(data.classes)}"
            )
        found.append(number)
    return tuple(found)
