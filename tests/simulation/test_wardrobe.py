"""Clothes of any colour: nobody who wears black looks like a thief; the world without them is as it was."""

import hashlib

import numpy as np
import pytest

from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.people import DARK_COAT, make_person
from edge_runtime.simulation.world import World

BEFORE = {"L1": "5812ec35f73fd9c6", "L3": "a1307e2b69fbd62d"}
KEY = range(400)


def brightness(colour) -> float:
    return float(np.mean(colour))


def people(wardrobe: float):
    return [make_person(seed, 0.0, 0, wardrobe) for seed in KEY]


def test_without_a_wardrobe_what_conceals_is_dark_and_no_sleeve_is():
    assert {person.coat for person in people(0.0)} == {DARK_COAT}
    assert min(brightness(person.sleeve) for person in people(0.0)) > 60


def test_with_it_sleeves_and_coats_have_every_brightness():
    for part in ("sleeve", "coat"):
        values = [brightness(getattr(person, part)) for person in people(1.0)]
        counts, _ = np.histogram(values, bins=(0, 50, 100, 150, 200))
        assert counts.min() > 20, (part, counts)


def test_a_share_of_people_wears_any_colour():
    share = np.mean([person.coat != DARK_COAT for person in people(0.5)])
    assert 0.4 < share < 0.6


def test_skin_does_not_depend_on_clothes():
    assert [person.skin for person in people(1.0)] == [person.skin for person in people(0.0)]


@pytest.mark.parametrize("level", ["L1", "L3"])
def test_the_world_without_a_wardrobe_is_as_it_was(level):
    """Digests of the release before."""
    world = World(WorldConfig.level(level, seed=11))
    pictures = b"".join(world.frame(float(t), (90, 160)).tobytes() for t in range(0, 600, 40))
    assert hashlib.sha256(pictures).hexdigest()[:16] == BEFORE[level]


def test_coats_pass_in_front_of_products_in_honest_work_too():
    world = World(WorldConfig(seed=3, wardrobe=1.0))
    concealed = honest = 0
    for event in world.events(0.0, 4000.0):
        for t in np.linspace(event.start, event.end, 9)[1:-1]:
            acts = [act for act in world._director.make_stage(float(t)).acts if act.event == event]
            if any(act.passing_coat and act.passing for act in acts):
                honest += 1
                assert not acts[0].pose.garment
            concealed += any(act.pose.garment for act in acts)
    assert honest > 20 and concealed > 20
