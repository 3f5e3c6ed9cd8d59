"""Events reach every subscriber in order; one that sleeps loses its oldest and delays nobody."""

import threading
from types import SimpleNamespace

from edge_runtime.query.schema import parse_query
from edge_runtime.service.events import AnswerHistory, Event, Events


def _event(number: int) -> Event:
    return Event("activity", "new", "lane1", after={"number": number})


def test_each_subscriber_gets_what_came_since_it_began_in_order():
    events = Events()
    events.publish(_event(0))
    with events.subscribe() as first:
        events.publish(_event(1))
        with events.subscribe() as second:
            events.publish(_event(2))
            assert [first.get(0).after["number"], first.get(0).after["number"]] == [1, 2]
            assert second.get(0).after["number"] == 2
            assert first.get(0) is None and second.get(0.01) is None


def test_who_does_not_keep_up_loses_the_oldest_and_it_is_counted():
    events = Events()
    with events.subscribe(max_events=3) as slow:
        for number in range(10):
            events.publish(_event(number))
        assert slow.lost == 7
        assert [slow.get(0).after["number"] for _ in range(3)] == [7, 8, 9]


def test_a_waiting_subscriber_is_woken_from_another_thread():
    events, woken = Events(), threading.Event()
    with events.subscribe(on_event=woken.set) as waiting:
        threading.Timer(0.05, events.publish, [_event(5)]).start()
        assert waiting.get(10).after["number"] == 5
        assert woken.is_set()


def test_nobody_is_told_after_leaving():
    events = Events()
    with events.subscribe() as left:
        pass
    events.publish(_event(1))
    assert left.get(0) is None and left.lost == 0


def test_no_answer_is_told_after_the_forgetting_of_what_it_tells():
    events = Events()
    answered, asked = AnswerHistory(events), parse_query('{"type": "object", "activity": "scan"}')
    answer = SimpleNamespace(json_fields={"answer": "what was seen"})

    def forget():
        answered.forget("a")
        events.publish(Event("privacy", "update", "a", after={"forgotten": True}))

    other = threading.Thread(target=forget)

    def in_between():  # the one has been told of the answer, the other has not
        if other.ident is None:
            other.start()
            other.join(0.2)

    with events.subscribe(on_event=in_between), events.subscribe() as last:
        answered.record("a", asked, answer, answered.count_forgotten("a"))
        other.join()
        assert [last.get(0).kind, last.get(0).kind] == ["answer", "privacy"]
    assert answered.newest() == []
