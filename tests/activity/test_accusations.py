"""An activity that accuses somebody needs more than any other."""

import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.activity.recognizer import ACCUSATION_CONFIDENCE, ActivityRecogniser
from edge_runtime.config.schema import ActivitySettings
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.simulation.activities import ACTIVITIES
from engines.manifest import ActivityClass
from export.bundle.checkpoint import preset_classes
from export.data.user_dataset import write_user_dataset
from tests.support.asking import NAMES, NETWORK, FakeReader, make_manifest
from tests.support.fakes import fake_backbone, fake_sampler, frames
from tests.support.media import write_video

HONEST, THEFT = NAMES[0], NAMES[1]
SURE = float(np.log(0.95 / 0.05))
"""A logit whose probability, 0.95, is logged of other activities."""
SURER = float(np.log(0.99 / 0.01))


class Reader(FakeReader):
    """Sees each class as surely as `logits` say, in moments (from, to) in seconds."""

    def __init__(self, seen):
        super().__init__(NETWORK)
        self.seen = seen

    def _answer(self, feeds):
        outputs = super()._answer(feeds)
        for row, activity in enumerate(feeds["activity"]):
            logit, start, end = self.seen.get(NAMES[int(activity.argmax())], (-9.0, 0, 30))
            tick = feeds["memory_tick"][row]
            there = feeds["memory_valid"][row] & (tick >= 5 * start) & (tick < 5 * end)
            outputs["presence_logit"][row] = logit
            outputs["evidence"][row] = there / max(there.sum(), 1)
        return outputs


@pytest.fixture(scope="module")
def version():
    sampler = make_sampler("neural", fake_sampler(NETWORK))
    ingest = Ingest(NETWORK, fake_backbone(NETWORK), sampler, empty_version(NETWORK))
    ingest.push(frames(20))
    ingest.close()
    return ingest.version


def detect(version, seen, **given):
    classes = tuple(ActivityClass(name=name, doing=name, accuses=name == THEFT) for name in NAMES)
    manifest = make_manifest().model_copy(update={"classes": classes})
    recogniser = ActivityRecogniser(manifest, Reader(seen))
    found = recogniser.detect(version, 0.0, 20.0, **{"min_confidence": 0.9, **given})
    rows = [sorted(NAMES[activity] for activity in detection.scores) for detection in found]
    return [row for at, row in enumerate(rows) if row not in rows[:at]]


@pytest.mark.parametrize(
    "seen, logged",
    [
        ({HONEST: (SURE, 0, 20)}, [[HONEST]]),
        ({THEFT: (SURE, 0, 20)}, []),
        ({THEFT: (SURER, 0, 20)}, [[THEFT]]),
        ({THEFT: (SURER, 0, 20), HONEST: (SURE, 0, 20)}, [[HONEST]]),  # the same moment, innocently explained
        ({THEFT: (SURER, 0, 20), HONEST: (0.0, 0, 20)}, [[THEFT]]),  # which is not sure enough itself
        ({THEFT: (SURER, 0, 8), HONEST: (SURE, 12, 20)}, [[THEFT], [HONEST]]),
    ],
)
def test_what_accuses_is_logged_where_nothing_else_explains_it(version, seen, logged):
    assert detect(version, seen) == logged


@pytest.mark.parametrize("least, logged", [(0.5, [[THEFT]]), (0.96, []), (0.9999, [])])
def test_settings_say_how_sure_a_class_must_be(version, least, logged):
    assert detect(version, {THEFT: (SURE, 0, 20)}, class_confidence={THEFT: least}) == logged


def test_a_higher_minimum_of_all_holds_for_accusations_too(version):
    assert detect(version, {THEFT: (SURER, 0, 20)}, min_confidence=0.995) == []
    assert 0.9 < ACCUSATION_CONFIDENCE < 0.99


@pytest.mark.parametrize("value", [-0.1, 1.1, "sure"])
def test_a_confidence_is_a_probability(value):
    with pytest.raises(ValueError):
        ActivitySettings(class_confidence={"bag": value})


def test_the_checkout_accuses_of_one_thing():
    assert [activity.name for activity in ACTIVITIES if activity.accuses] == ["conceal"]
    assert [activity.name for activity in preset_classes("tiny", 10) if activity.accuses] == ["conceal"]
    plain = json.loads(ActivityClass(name="bag", doing="bagging").model_dump_json())
    assert "accuses" not in plain, "older versions read a bundle whose classes accuse nobody"


def test_own_videos_say_what_accuses(tmp_path: Path):
    write_video(tmp_path / "film.mp4", range(0, 6000, 200))
    events = tmp_path / "events.csv"
    events.write_text("video,start,end,product,activity\nfilm.mp4,1,2,milk,take\nfilm.mp4,3,4,milk,steal\n")
    write_user_dataset(tmp_path / "data", events, accuses=["steal"])
    classes = json.loads((tmp_path / "data" / "classes.json").read_text())
    assert [activity.get("accuses", False) for activity in classes["activities"]] == [False, True]
