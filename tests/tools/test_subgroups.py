"""False accusations by garment and skin tone."""

import json

import pytest

from edge_runtime.activity.row import Row
from edge_runtime.simulation.activities import ACTIVITIES, find_activity
from edge_runtime.simulation.people import make_person
from edge_runtime.simulation.schedule import Event
from tools.quality import subgroups
from tools.quality.activities import LoggedRow
from tools.quality.subgroups import HonestEvent, find_group, is_accused, summarise

HONEST, CONCEAL = find_activity("scan"), find_activity("conceal")


def row(start, end, activity="conceal", alternatives=()):
    return LoggedRow(Row(1, "", activity, "", start, end, 0.9, alternatives=alternatives), end)


@pytest.mark.parametrize(
    "rows, concealed, accused",
    [
        ([], [], False),
        ([row(10, 20)], [], True),
        ([row(18, 30)], [], True),
        ([row(20, 30)], [], False),
        ([row(10, 20, "scan")], [], False),
        ([row(10, 20, "scan", ("conceal",))], [], True),
        ([row(10, 26)], [Event(CONCEAL, 0, 24, 30)], False),
        ([row(10, 26), row(11, 14)], [Event(CONCEAL, 0, 24, 30)], True),
    ],
)
def test_a_row_accuses_where_nothing_was_concealed(rows, concealed, accused):
    assert is_accused(Event(HONEST, 0, 12, 20), rows, concealed) is accused


def test_every_brightness_has_its_group():
    assert [find_group((level,) * 3) for level in (0, 84, 85, 169, 170, 255)] == [
        "dark", "dark", "middle", "middle", "bright", "bright",
    ]  # fmt: skip
    skins = {find_group(make_person(seed, 0.0, 0, 0.0).skin) for seed in range(60)}
    assert skins == set(subgroups.GROUPS)


def test_the_ratio_is_that_of_the_worst_group_and_the_best():
    events = [
        HonestEvent(world, garment, "middle", number < accused, score)
        for world in range(4)
        for garment, accused, score in (("dark", 4, 0.4), ("middle", 2, 0.2), ("bright", 1, 0.1))
        for number in range(10)
    ]
    found = summarise(events, "garment")
    assert found["groups"]["dark"] == {"events": 40, "accused": 16, "rate": 0.4, "score": 0.4}
    assert found["ratio_of_rates"] == {"ratio": 4.0, "interval": [4.0, 4.0]}
    assert found["ratio_of_scores"]["ratio"] == 4.0
    assert summarise(events, "skin")["ratio_of_rates"]["ratio"] == 1.0


def test_without_any_accusation_there_is_no_ratio():
    events = [HonestEvent(0, garment, "dark", False, 0.1) for garment in ("dark", "bright")]
    assert summarise(events, "garment")["ratio_of_rates"] is None


def test_the_command_examines_worlds_in_which_everybody_may_wear_black(capsys, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["subgroups", "--worlds", "1", "--minutes", "3", "--backend", "onnxruntime"]
    )
    subgroups.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["honest_events"] == sum(group["events"] for group in found["skin"]["groups"].values()) > 0
    assert len(ACTIVITIES) > 1
