"""Streams of the catalogue test."""

import cv2
import numpy as np
import pytest

from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.closeup import CLOSEUPS
from engines.errors import LvmError
from export.evaluation.catalogue_stream import Casting, make_stream
from tests.support.products import product_folder

SECONDS = 240.0


@pytest.fixture(scope="module")
def casting(tmp_path_factory):
    folder = product_folder(tmp_path_factory.mktemp("shop"), 9)
    names = [f"product-{i:02}" for i in range(9)]
    return Casting(folder, tuple(names[:4]), folder, tuple(names[4:]))


@pytest.fixture(scope="module")
def stream(casting):
    return make_stream(casting, seed=3, seconds=SECONDS, others=5)


def _parts(stream):
    """Product of each part that is asked about, found by its moments."""
    events = {(e.start, e.end): e.instance for e in stream.world.events(0.0, SECONDS)}
    return {name: events[moments[0][:2]] for name, moments in stream.moments.items()}


def test_moments_are_all_that_the_world_does_with_the_product(stream):
    assert stream.moments
    for name, part in _parts(stream).items():
        truth = [
            (e.start, e.end, ACTIVITIES[e.activity].name)
            for e in stream.world.events(0.0, SECONDS)
            if e.instance == part
        ]
        assert [tuple(moment) for moment in stream.moments[name]] == truth
        assert all(moment.end <= SECONDS for moment in stream.moments[name])


def test_a_product_that_is_asked_about_never_just_stands_there(stream):
    parts = set(_parts(stream).values())
    for t in np.arange(0.0, SECONDS, 1.0):
        assert not parts & {
            track.instance for track in stream.world.truth(float(t)).tracks if not track.active
        }


def test_the_product_is_in_the_picture_at_its_moment(casting, stream):
    for name, part in _parts(stream).items():
        colour = cv2.imread(str(casting.asked_folder / name / "0.png"))[30, 30, ::-1].astype(int)
        moment = stream.moments[name][0]
        t = (moment.start + moment.end) / 2
        x1, y1, x2, y2 = next(o.box for o in stream.world.truth(t).active if o.instance == part)
        frame = stream.world.frame(t, (224, 224)).astype(int)
        seen = frame[int(y1 * 224) : int(y2 * 224) + 1, int(x1 * 224) : int(x2 * 224) + 1]
        assert (np.abs(seen - colour).max(axis=2) < 60).any(), name


def test_photos_to_ask_with_are_never_drawn(casting, stream):
    for name, photos in stream.photos.items():
        files = sorted((casting.asked_folder / name).iterdir())
        drawn = {files[view] for view in range(stream.world._faces.views(_parts(stream)[name]))}
        assert photos and drawn and not drawn & set(photos)


def test_half_of_what_is_asked_about_is_seen_from_near(casting):
    made = [make_stream(casting, seed=seed, seconds=SECONDS, others=5) for seed in range(6)]
    mixed = [one for one in made if 0 < len(one.closeups) < len(one.moments)]
    assert mixed and all(2 * len(one.closeups) == len(one.moments) for one in mixed)
    for one in made:
        for name, moments in one.moments.items():
            assert (name in one.closeups) == any(moment.activity in CLOSEUPS for moment in moments)


def test_one_seed_is_one_stream_and_another_casts_anew(casting, stream):
    again = make_stream(casting, seed=3, seconds=SECONDS, others=5)
    other = make_stream(casting, seed=4, seconds=SECONDS, others=5)
    assert again.moments == stream.moments
    assert np.array_equal(again.world.frame(50.0), stream.world.frame(50.0))
    assert other.moments != stream.moments


def test_others_may_come_from_another_folder(casting, tmp_path):
    new = product_folder(tmp_path, 2, first=50)
    other = Casting(new, ("product-50", "product-51"), casting.others_folder, casting.others)
    made = make_stream(other, seed=3, seconds=SECONDS, others=5)
    assert set(made.moments) <= {"product-50", "product-51"}
    assert all(photo.is_relative_to(new) for photos in made.photos.values() for photo in photos)


def test_a_product_cannot_be_asked_about_and_be_another_one(casting):
    with pytest.raises(LvmError, match="got product-08 in both"):
        Casting(casting.asked_folder, ("product-08",), casting.others_folder, casting.others)


def test_too_few_products_are_one_sentence(casting):
    with pytest.raises(LvmError, match="got 0 and 5"):
        Casting(casting.asked_folder, (), casting.others_folder, casting.others)
