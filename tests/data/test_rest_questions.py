"""Question files of ReST become the questions of a folder, whatever their keys are called."""

from __future__ import annotations

import json
import re

import pytest

from engines.errors import LvmError
from export.data.checks import find_problems, read_data_folder
from export.data.formats.forms import Report
from export.data.rest_questions import import_questions, write_questions
from export.data.user_dataset import write_user_dataset
from tests.support.media import write_video

QUESTION = {
    "video": "P_01.mp4", "type": "activity", "q_s": 0.0, "q_e": 9.0, "t_s": 1.0, "t_e": 3.0,
    "activities": ["wash"], "instance": 0, "crop": {"tick5": 40, "box": [0.1, 0.1, 0.3, 0.4]},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("rest")
    write_video(place / "P_01.mp4", range(0, 9000, 100))
    (place / "events.csv").write_text("video,activity,product,start,end\nP_01.mp4,wash,cup,1,3\n")
    write_user_dataset(place / "data", place / "events.csv")
    return place / "data"


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_questions_with_other_keys_are_read(tmp_path, folder, suffix):
    keys = {"video": "video_id", "q_s": "clip_start", "activities": "labels"}
    (tmp_path / "keys.yaml").write_text(json.dumps({"keys": keys, "types": {"activity": "recognition"}}))
    other = {keys.get(key, key): value for key, value in QUESTION.items()} | {
        "type": "recognition",
        "extra": 1,
    }
    questions = [other, other | {"labels": [0]}, other | {"qid": "z"}]
    file = tmp_path / f"q{suffix}"
    file.write_text(json.dumps(questions) if suffix == ".json" else "\n".join(map(json.dumps, questions)))
    report = Report()
    if suffix == ".json":  # all on one line: the place does not tell them apart
        with_ids = [question | {"qid": str(number)} for number, question in enumerate(questions)]
        file.write_text(json.dumps(with_ids))
    queries = import_questions([file], folder, report, keys=tmp_path / "keys.yaml")
    assert not report.problems and len(queries) == 3
    assert {(query.type, query.duration, query.activities) for query in queries} == {
        ("activity", "short", (0,))
    }
    assert write_questions(folder, queries) == 3
    assert find_problems(folder) == [] and len(read_data_folder(folder).queries) == 3


def test_times_may_be_frames(tmp_path, folder):
    frames = {key: QUESTION[key] * 30 for key in ("q_s", "q_e", "t_s", "t_e")}
    (tmp_path / "q.json").write_text(json.dumps([QUESTION | frames]))
    (query,) = import_questions([tmp_path / "q.json"], folder, Report(), fps=30.0)
    assert (query.q_e, query.t_s, query.t_e) == (9.0, 1.0, 3.0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"video": "P_09"}, "video 'P_09' is not in the data folder"),
        ({"activities": ["fly"]}, "activity 'fly' is not in classes.json, which has 1"),
        ({"activities": [7]}, "activity 7 is not in classes.json"),
        ({"q_e": 900.0}, "beyond the end at 8.94 s"),
        ({"t_e": 0.5}, "must be a window inside"),
        ({"t_s": float("nan")}, "t_s: .*finite"),
        ({"q_s": -1}, "q_s: .*greater than or equal to 0"),
        ({"type": "story"}, "type: "),
        ({"crop": None}, "crop and instance are missing"),
        (None, "expected an object, got 5"),
    ],
)
def test_a_wrong_question_is_refused_with_its_line(tmp_path, folder, change, message):
    wrong = 5 if change is None else QUESTION | change
    (tmp_path / "q.jsonl").write_text(f"{json.dumps(QUESTION)}\n{json.dumps(wrong)}\n")
    report = Report()
    assert len(import_questions([tmp_path / "q.jsonl"], folder, report)) == 1
    (problem,) = report.problems
    assert problem.startswith(f"{tmp_path}/q.jsonl:2: ")
    assert re.search(message, problem)


def test_unknown_keys_of_the_yaml_are_refused(tmp_path, folder):
    (tmp_path / "keys.yaml").write_text("keys: {vidoe: v}\n")
    with pytest.raises(LvmError, match="'vidoe' is no key of a question"):
        import_questions([], folder, Report(), keys=tmp_path / "keys.yaml")
