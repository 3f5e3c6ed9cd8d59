"""Clock times mean what the clock of the machine that watches showed, or are refused with both readings."""

import time
from datetime import datetime, timezone

import pytest

from edge_runtime.query.schema import parse_request
from edge_runtime.query.timestamps import (
    TimeReader,
    find_other_zone,
    format_moment,
    format_time,
    parse_timestamp,
)
from edge_runtime.system.errors import QueryError
from engines.errors import LvmError


def _utc(*parts):
    return datetime(*parts, tzinfo=timezone.utc).timestamp()


EPOCH = _utc(2026, 3, 1)
MORNING = _utc(2026, 11, 25, 9, 3)  # 10:03 in Berlin
BACK, FORWARD = (2026, 10, 25), (2026, 3, 29)  # nights in which Berlin's clocks are set


@pytest.fixture(autouse=True)
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def _read(now, start, end, **more):
    span = TimeReader(EPOCH, now=now, **more).read_span(start, end)
    return tuple(None if t is None else format_moment(t, EPOCH) for t in span)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("10:02", "10:08", ("2026-11-25T10:02:00+01:00", "2026-11-25T10:03:00+01:00")),
        ("10:02", "23:59", ("2026-11-25T10:02:00+01:00", "2026-11-25T10:03:00+01:00")),
        (None, "10:08", (None, "2026-11-25T10:03:00+01:00")),
        (None, "23:50", (None, "2026-11-24T23:50:00+01:00")),
        ("23:00", "23:50", ("2026-11-24T23:00:00+01:00", "2026-11-24T23:50:00+01:00")),
        ("23:50", "00:10", ("2026-11-24T23:50:00+01:00", "2026-11-25T00:10:00+01:00")),
        ("09:00", None, ("2026-11-25T09:00:00+01:00", None)),
        ("2026-11-25T10:00", "2026-11-25T12:00", ("2026-11-25T10:00:00+01:00", "2026-11-25T10:03:00+01:00")),
        ("2026-11-20T09:00", "10:00", ("2026-11-20T09:00:00+01:00", "2026-11-20T10:00:00+01:00")),
        ("2026-11-20T10:00", "09:00", ("2026-11-20T10:00:00+01:00", "2026-11-21T09:00:00+01:00")),
        ("2026-11-23T23:50", "00:10", ("2026-11-23T23:50:00+01:00", "2026-11-24T00:10:00+01:00")),
        ("2026-11-24T09:00", "12:00", ("2026-11-24T09:00:00+01:00", "2026-11-24T12:00:00+01:00")),
        ("2026-11-24T23:50", "00:10", ("2026-11-24T23:50:00+01:00", "2026-11-25T00:10:00+01:00")),
        ("2026-11-24T12:00", "11:00", ("2026-11-24T12:00:00+01:00", "2026-11-25T10:03:00+01:00")),
        ("2026-07-20T09:00", "10:00", ("2026-07-20T09:00:00+02:00", "2026-07-20T10:00:00+02:00")),
        (
            str(_utc(2026, 11, 20, 8) - EPOCH),
            "10:00",
            ("2026-11-20T09:00:00+01:00", "2026-11-20T10:00:00+01:00"),
        ),
        ("2026-11-25T04:00-05:00", "10:01", ("2026-11-25T10:00:00+01:00", "2026-11-25T10:01:00+01:00")),
        ("2026-11-25T09:00:00Z", "10:01", ("2026-11-25T10:00:00+01:00", "2026-11-25T10:01:00+01:00")),
    ],
)
def test_a_span_ends_after_it_begins_and_not_after_now(start, end, expected):
    assert _read(MORNING, start, end) == expected


@pytest.mark.parametrize(
    ("start", "end"), [("2026-11-25T11:00", "2026-11-25T12:00"), ("2027-01-01", "2027-01-02")]
)
def test_a_span_in_the_future_stays_one(start, end):
    first, last = TimeReader(EPOCH, now=MORNING).read_span(start, end)
    assert MORNING - EPOCH < first < last


@pytest.mark.parametrize(("start", "end"), [("10:00", "09:00"), ("10:00", "10:00"), ("5", "5"), ("9", "1")])
def test_a_span_that_ends_before_it_begins_is_refused_with_what_was_understood(start, end):
    with pytest.raises(LvmError, match="--from must be before --to, got 2026-.*:00 and 2026-.*:00$"):
        TimeReader(EPOCH, now=MORNING).read_span(start, end, ("--from", "--to"))


def test_seconds_are_seconds_also_of_a_camera_and_beyond_now():
    reader = TimeReader(EPOCH, now=MORNING)
    assert reader.read_span("100", "1e9") == (100, 1e9) and TimeReader(None).read_span("-5", "7.5") == (
        -5,
        7.5,
    )


# -- nights in which clocks are set ------------------------------------------------------------------------

TWICE = "showed '{}' twice; give 2026-10-25T02:{}:00\\+02:00 or 2026-10-25T02:{}:00\\+01:00$"


@pytest.mark.parametrize("text", ["02:20", "2026-10-25T02:20", "02:45"])
@pytest.mark.parametrize("now", [_utc(*BACK, 1, 50), _utc(*BACK, 3), _utc(*BACK, 20)])
def test_what_the_clock_showed_twice_is_refused_with_both_readings(text, now):
    minute = text[-2:]
    with pytest.raises(LvmError, match=f"from: the clock {TWICE.format(text, minute, minute)}"):
        _read(now, text, None)
    with pytest.raises(LvmError, match=f"to: the clock {TWICE.format(text, minute, minute)}"):
        _read(now, "01:30", text)


@pytest.mark.parametrize("offset", ["+02:00", "+01:00"])
def test_each_reading_can_be_given(offset):
    text = f"2026-10-25T02:20:00{offset}"
    assert _read(_utc(*BACK, 3), text, None)[0] == text


def test_before_the_clock_is_set_back_there_is_one_reading():
    assert _read(_utc(*BACK, 0, 40), "02:20", "02:50") == (
        "2026-10-25T02:20:00+02:00",
        "2026-10-25T02:40:00+02:00",
    )


def test_a_span_over_the_hour_that_came_twice_is_as_long_as_it_was():
    first, last = TimeReader(EPOCH, now=_utc(*BACK, 5)).read_span("01:50", "03:10")
    assert last - first == 2 * 3600 + 20 * 60


@pytest.mark.parametrize("text", ["02:30", "2026-03-29T02:30", "02:00:00"])
def test_what_the_clock_never_showed_is_refused(text):
    with pytest.raises(LvmError, match=f"from: the clock never showed '{text}', it was set forward"):
        _read(_utc(*FORWARD, 6), text, "04:00")


@pytest.mark.parametrize("minutes", range(-90, 150, 7))
def test_what_is_printed_is_understood_again_in_that_night(minutes):
    t = _utc(*BACK, 1) + 60 * minutes - EPOCH
    for now in (_utc(*BACK, 4), _utc(2026, 10, 27)):
        assert parse_timestamp(format_time(t, EPOCH, now), name="x", epoch=EPOCH, now=now) == t


@pytest.mark.parametrize(
    ("now", "start", "end", "length"),
    [
        (_utc(*FORWARD, 0, 55), "01:50", "02:10", 300),
        (_utc(*FORWARD, 0, 55), "01:50", "02:59", 300),
        (_utc(*FORWARD, 0, 55), "01:50", "03:10", 300),
        (_utc(*FORWARD, 0, 55), "2026-03-28T23:00", "02:10", 10500),
        (_utc(2026, 3, 30, 0, 5), "02:04", "02:30", 60),
        (_utc(2026, 3, 30, 0, 5), "2026-03-29T23:00", "02:30", 3 * 3600 + 300),
    ],
)
def test_an_end_that_the_clock_skips_ahead_ends_now(now, start, end, length):
    first, last = TimeReader(EPOCH, now=now).read_span(start, end)
    assert last == now - EPOCH and last - first == pytest.approx(length)


@pytest.mark.parametrize(
    ("now", "end"),
    [(_utc(*FORWARD, 0, 55), "02:10"), (_utc(*FORWARD, 0, 55), "02:50"), (_utc(2026, 3, 30, 0, 5), "02:30")],
)
def test_an_end_alone_that_the_clock_skips_ahead_ends_now(now, end):
    assert TimeReader(EPOCH, now=now).read_span(None, end) == (None, now - EPOCH)


@pytest.mark.parametrize(("start", "end"), [("01:50", "02:10"), (None, "02:10"), ("2026-03-29", "02:10")])
def test_an_end_that_the_clock_skipped_is_refused(start, end):
    with pytest.raises(LvmError, match="to: the clock never showed '02:10'"):
        _read(_utc(*FORWARD, 1, 5), start, end)


def test_of_an_end_that_came_twice_only_what_comes_after_the_beginning_counts():
    span = _read(_utc(*BACK, 3), "2026-10-25T02:20+01:00", "02:40")
    assert span == ("2026-10-25T02:20:00+01:00", "2026-10-25T02:40:00+01:00")


# -- another zone ------------------------------------------------------------------------------------------


def test_a_time_of_another_zone_is_printed_with_its_offset():
    moment = "2026-11-25T04:00:00-05:00"
    zone = find_other_zone(moment)
    assert format_time(_utc(2026, 11, 25, 9) - EPOCH, EPOCH, MORNING, zone) == moment
    assert find_other_zone("2026-11-25T04:00:00+01:00") is None and find_other_zone(None) is None


# -- questions ---------------------------------------------------------------------------------------------


def test_a_question_with_clock_times_is_resolved_by_the_reader():
    request = parse_request('{"type": "object", "activity": "scan", "from": "10:00", "to": "10:30"}')
    query = request.resolve(TimeReader(MORNING - 600, now=MORNING))
    assert (query.start, query.end, query.activity) == (pytest.approx(420), pytest.approx(600), "scan")


def test_seconds_and_clock_times_may_be_mixed_and_seconds_may_be_text():
    request = parse_request('{"type": "object", "activity": "scan", "from": 12.5, "to": "10:02"}')
    assert request.resolve(TimeReader(MORNING - 600, now=MORNING)).start == 12.5
    request = parse_request('{"type": "object", "activity": "scan", "to": "7"}')
    assert request.resolve(TimeReader(None)).end == 7


@pytest.mark.parametrize("value", ["NaN", "[]", "1e300"])
def test_the_other_time_is_checked_as_ever(value):
    with pytest.raises(QueryError, match="question not understood"):
        parse_request(f'{{"type": "object", "activity": "scan", "from": {value}, "to": "10:02"}}')


def test_a_recording_refuses_clock_times():
    request = parse_request('{"type": "object", "activity": "scan", "from": "10:00"}')
    with pytest.raises(LvmError, match="from: this source is a recording without a clock"):
        request.resolve(TimeReader(None))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12:01:05", 65.599), ("12:01:05.5", 65.1), ("65.25", 65.25), ("2026-11-22T12:00:00", 0.599)],
)
def test_a_picture_is_the_one_that_its_printed_time_belongs_to(text, seconds):
    epoch = datetime(2026, 11, 22, 12, 0, 0).timestamp() + 0.4
    assert TimeReader(epoch, now=epoch + 3600).read_moment(text, "x") == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("text", ["-1", "1e300", "2026-11-22T11:59:00", "2026-11-23T12:00", "nan", "12:99"])
def test_a_picture_of_no_time_of_the_stream_is_refused(text):
    epoch = datetime(2026, 11, 22, 12, 0, 0).timestamp()
    with pytest.raises(LvmError):
        TimeReader(epoch, now=epoch + 3600).read_moment(text, "x")


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        ("23:00", "24:00", "2026-11-24T23:00", "2026-11-25T00:00"),
        ("2026-11-24T23:00", "2026-11-24T24:00", "2026-11-24T23:00", "2026-11-25T00:00"),
        ("2026-11-24 23:00", "2026-11-24 24:00:00", "2026-11-24T23:00", "2026-11-25T00:00"),
        ("10:00Z", "10:30Z", "2026-11-25T10:00+00:00", "2026-11-25T10:30+00:00"),
        ("10:00z", None, "2026-11-25T10:00+00:00", None),
        ("9:00+05:30", "9:30:15 +0530", "2026-11-25T09:00+05:30", "2026-11-25T09:30:15+05:30"),
        ("23:30+00:00", "00:30+00:00", "2026-11-24T23:30+00:00", "2026-11-25T00:30+00:00"),
        ("2026-11-24T23:30+00:00", "00:30Z", "2026-11-24T23:30+00:00", "2026-11-25T00:30+00:00"),
        (None, "00:30Z", None, "2026-11-25T00:30+00:00"),
        ("2026-11-24T10:03z", None, "2026-11-24T10:03+00:00", None),
    ],
)
def test_midnight_and_offsets_are_read_without_a_date_too(start, end, first, last):
    epoch = datetime(2026, 11, 24, 8).timestamp()
    reader = TimeReader(epoch, now=datetime(2026, 11, 25, 14).timestamp())
    expected = [None if text is None else datetime.fromisoformat(text).timestamp() for text in (first, last)]
    read = [None if t is None else t + epoch for t in reader.read_span(start, end)]
    assert read == pytest.approx(expected) if None not in expected else read == expected


@pytest.mark.parametrize("text", ["24:00", "24:30", "25:00Z", "10:00+25:00", "2026-02-30T24:00"])
def test_midnight_is_an_end_and_an_offset_is_less_than_a_day(text):
    with pytest.raises(LvmError, match="must be a time"):
        TimeReader(0.0, now=86400.0 * 20000).read(text, "x")
