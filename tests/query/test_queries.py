"""A question is understood or refused in one sentence that says where; nothing else ever comes out."""

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_runtime.interfaces.cli.query_text import QueryText
from edge_runtime.query.schema import (
    MAX_PHOTO_TEXT,
    ActivityQuery,
    BoxInFrame,
    ObjectQuery,
    Photos,
    Product,
    QueryRequest,
    TimeQuery,
    make_request,
    parse_query,
    parse_request,
)
from edge_runtime.system.errors import QueryError

PHOTO = base64.b64encode(b"picture").decode()


def _said(question) -> str:
    with pytest.raises(QueryError) as caught:
        parse_query(question if isinstance(question, (str, bytes)) else json.dumps(question))
    said = str(caught.value)
    assert said.isprintable() and len(said) < 500, said
    return said


def _box(*corners, **more):
    return {"type": "activity", "object": {"box": list(corners), "t": 1, **more}}


def test_each_of_the_three_questions_is_understood():
    activity = parse_query(
        json.dumps({"type": "activity", "object": {"photos": [PHOTO]}, "from": 0, "to": 9})
    )
    assert activity == ActivityQuery(object=Photos(photos=(b"picture",)), start=0, end=9)
    where = parse_query('{"type": "object", "activity": "scan"}')
    assert where == ObjectQuery(activity="scan") and where.start is None and where.end is None
    when = parse_query('{"type": "time", "activity": "scan", "object": {"product": "milk"}, "to": 3.5}')
    assert when == TimeQuery(activity="scan", object=Product(product="milk"), end=3.5)
    whatever = parse_query('{"type": "time", "object": {"product": "milk"}}')
    assert whatever == TimeQuery(object=Product(product="milk")) and whatever.activity is None
    there = parse_query(json.dumps(_box(0, 0.25, 0.5, 1)))
    assert there.object == BoxInFrame(box=(0, 0.25, 0.5, 1), t=1)


def test_a_question_that_is_written_and_read_is_the_same():
    query = TimeQuery(activity="scan", object=Product(product="milk"), start=1, end=2)
    assert parse_query(query.model_dump_json(by_alias=True)) == query


@pytest.mark.parametrize(
    "question, field",
    [
        ({}, "type"),
        ({"type": None}, "type"),
        ({"type": "colour"}, "type"),
        ({"type": "activity"}, "object"),
        ({"type": "object"}, "activity"),
        ({"type": "time"}, "object"),
        ({"type": "object", "activity": ""}, "activity"),
        ({"type": "object", "activity": 3}, "activity"),
        ({"type": "object", "activity": "scan", "colour": 1}, "colour"),
        ({"type": "object", "activity": "scan", "object": {"product": "x"}}, "object"),
        ({"type": "activity", "object": {"product": "x"}, "activity": "scan"}, "activity"),
        ({"type": "object", "activity": "scan", "from": "soon"}, "from"),
        ({"type": "object", "activity": "scan", "from": float("nan")}, "from"),
        ({"type": "object", "activity": "scan", "to": float("inf")}, "to"),
        ({"type": "object", "activity": "scan", "to": float("-inf")}, "to"),
        ({"type": "object", "activity": "scan", "from": 10**400}, "from"),
        ({"type": "object", "activity": "scan", "from": [1]}, "from"),
        ({"type": "object", "activity": "scan", "from": 5, "to": 5}, "from must be before to"),
        ({"type": "object", "activity": "scan", "from": 6, "to": 5}, "from must be before to"),
        ({"type": "activity", "object": {}}, "object must be"),
        ({"type": "activity", "object": []}, "object must be"),
        ({"type": "activity", "object": None}, "object must be"),
        ({"type": "activity", "object": "photos"}, "object must be"),
        ({"type": "activity", "object": {"picture": PHOTO}}, "object must be"),
        ({"type": "activity", "object": {"photos": []}}, "photos"),
        ({"type": "activity", "object": {"photos": PHOTO}}, "photos"),
        ({"type": "activity", "object": {"photos": [3]}}, "photos"),
        ({"type": "activity", "object": {"photos": [PHOTO] * 17}}, "photos"),
        ({"type": "activity", "object": {"photos": ["?"]}}, "a photo must be base64"),
        ({"type": "activity", "object": {"photos": ["abc"]}}, "a photo must be base64"),
        ({"type": "activity", "object": {"photos": ["é"]}}, "a photo must be base64"),
        ({"type": "activity", "object": {"photos": [PHOTO], "t": 3}}, "t:"),
        ({"type": "activity", "object": {"product": ""}}, "product"),
        ({"type": "activity", "object": {"product": "x" * 201}}, "product"),
        (_box(0, 0, 1), "box"),
        (_box(0, 0, 1, 1, 1), "box"),
        (_box(0, 0, 1, "x"), "box"),
        (_box(-0.1, 0, 1, 1), "box must be"),
        (_box(0, 0, 1.1, 1), "box must be"),
        (_box(0.5, 0, 0.5, 1), "box must be"),
        (_box(0, 0.6, 1, 0.5), "box must be"),
        (_box(0, 0, float("nan"), 1), "box"),
        (_box(0, 0, 1, 1, t=-1), "t:"),
        (_box(0, 0, 1, 1, t=float("inf")), "t:"),
        (_box(0, 0, 1, 1, t=1e300), "t:"),
        ({"type": "activity", "object": {"box": [0, 0, 1, 1]}}, "t:"),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence(question, field):
    assert field.rstrip(":") in _said(question).removeprefix("question not understood: ")


@pytest.mark.parametrize(
    "text", ["", " ", "{", "null", "[]", "3", "scan", '{"type": "object"', b"\xff\xfe", "\ud800"]
)
def test_what_is_no_json_object_is_one_sentence(text):
    assert _said(text).startswith("question not understood: ")


def test_deep_nesting_is_one_sentence():
    _said('{"type": "activity", "object": ' + "[" * 100_000)
    _said('{"type": "activity", "object": ' + '{"a":' * 100_000)


@pytest.mark.parametrize(
    "question",
    [
        {"type": "x" * 100_000},
        {"type": "object", "activity": "x" * 100_000},
        {"type": "object", "activity": "scan", "x" * 100_000: 1},
        {"type": "activity", "object": {"product": "x" * 100_000}},
        {"type": "activity", "object": {"photos": ["x" * 99_999]}},
    ],
)
def test_long_input_is_not_repeated_whole(question):
    _said(question)  # checks the length


@pytest.mark.parametrize("odd", ["a\nb", "\x1b[31mred", "\x00", "a\rb", "\u2028"])
def test_control_characters_of_a_question_do_not_reach_the_terminal(odd):
    _said({"type": odd})  # checks that all of it can be printed
    _said({"type": "object", "activity": "scan", odd: 1})


def test_a_photo_above_the_limit_is_refused_before_it_is_decoded():
    assert str(MAX_PHOTO_TEXT) in _said(
        {"type": "activity", "object": {"photos": ["!" * (MAX_PHOTO_TEXT + 1)]}}
    )


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_command_line_number_that_is_none_is_refused(value):
    with pytest.raises(QueryError, match="--from must be a number of seconds"):
        QueryText("object", activity="scan", start=value).body()


def test_a_command_line_number_passes_and_so_do_a_clock_time_and_none():
    assert QueryText("object", activity="scan", start="-3.5", end="10:03").body() == {
        "type": "object", "activity": "scan", "from": -3.5, "to": "10:03",
    }  # fmt: skip
    assert "from" not in QueryText("object", activity="scan").body()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["type", "object", "activity", "from", "to", "photos", "box", "t", "product", "else"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


def _only_query_error(text) -> None:
    try:
        parse_query(text)
    except QueryError as error:
        assert str(error).isprintable() and len(str(error)) < 500


@given(st.text(st.characters()) | st.binary())
@example('{"type":"object","activity":"\\ud800"}')
def test_no_text_raises_anything_but_a_query_error(text):
    _only_query_error(text)


@given(
    st.sampled_from(["activity", "object", "time"]),
    st.dictionaries(st.text(max_size=9), JSON, max_size=3),
    JSON,
)
def test_no_json_raises_anything_but_a_query_error(kind, more, value):
    _only_query_error(json.dumps(value))
    _only_query_error(json.dumps({**more, "type": kind, "object": value, "activity": "scan"}))
    _only_query_error(json.dumps({"type": "object", "activity": "scan", "from": value}))


def test_a_question_may_name_its_camera_as_a_request():
    question = '{"camera": "lane1", "type": "object", "activity": "scan"}'
    assert parse_request(question) == QueryRequest(ObjectQuery(activity="scan"), "lane1")
    assert parse_request('{"type": "object", "activity": "scan", "camera": null}').camera is None
    photo = {"type": "activity", "object": {"photos": [b"picture"]}, "camera": "lane1"}
    assert make_request(photo) == QueryRequest(ActivityQuery(object=Photos(photos=(b"picture",))), "lane1")
    with pytest.raises(QueryError, match="camera is no part of this kind of question"):
        parse_query(question)
    with pytest.raises(QueryError, match="camera must be the name of a camera"):
        parse_request('{"camera": 3, "type": "object", "activity": "scan"}')


def test_of_two_fields_of_one_name_the_last_counts():
    text = '{"camera": "a", "type": "time", "camera": "b", "type": "object", "activity": "scan"}'
    assert parse_request(text) == QueryRequest(ObjectQuery(activity="scan"), "b")
