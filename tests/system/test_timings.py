"""How long stages take: counted in bins, and told at /metrics of a camera that has watched."""

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from edge_runtime.interfaces.http.app import make_app
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.runtime import Service
from edge_runtime.system.timings import BOUNDS_S, DurationHistogram
from tests.support.cameras import ScriptedSource, fake_engines

FRAMES = 40
CLIP = 30


def test_what_is_observed_is_counted_up_to_each_bound_and_in_all():
    timing = DurationHistogram()
    for seconds in (BOUNDS_S[0] / 2, BOUNDS_S[0], BOUNDS_S[3] * 1.01, BOUNDS_S[-1] * 2):
        timing.observe(seconds)
    counts, seconds = timing.read()
    assert counts[:4] == [2, 2, 2, 2] and counts[4] == counts[-2] == 3 and counts[-1] == 4
    assert seconds == pytest.approx(BOUNDS_S[0] * 1.5 + BOUNDS_S[3] * 1.01 + BOUNDS_S[-1] * 2)


def test_what_fails_has_taken_its_time_too():
    timing = DurationHistogram()
    with pytest.raises(OSError), timing.measure():
        raise OSError
    assert timing.read()[0][-1] == 1


def test_stages_and_snapshots_of_a_camera_are_told_at_metrics(tmp_path):
    with Service(fake_engines(), opener=lambda spec, **_: ScriptedSource(FRAMES)) as service:
        camera = service.add(CameraSettings("demo", tmp_path / "one", "lane1"))
        camera.folder.save_seconds.observe(4.0)  # a slow one, to be told apart
        service.run()
        page = TestClient(make_app(service)).get("/metrics").text
        saves = camera.folder.save_seconds.read()[0][-1]
    samples = {
        (sample.name, *(sample.labels[key] for key in ("stage", "le") if key in sample.labels)): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith(("lvm_stage", "lvm_state_save")) and sample.labels["camera"] == "lane1"
    }
    batches = samples["lvm_stage_seconds_count", "backbone"]
    # Batches of 8, the last of a clip and of the source smaller.
    assert batches == samples["lvm_stage_seconds_count", "prepare"] == 6
    assert samples["lvm_stage_seconds_count", "remember"] == batches
    assert samples["lvm_stage_seconds_count", "sampler"] == FRAMES // CLIP
    assert samples["lvm_stage_seconds_count", "background"] == FRAMES // CLIP
    assert samples["lvm_stage_seconds_count", "journal"] == batches
    whole = samples["lvm_stage_seconds_sum", "remember"]
    assert 0 < samples["lvm_stage_seconds_sum", "background"] <= whole
    assert samples["lvm_state_save_seconds_count",] == saves >= 2
    slow = samples["lvm_state_save_seconds_bucket", "5.0"] - samples["lvm_state_save_seconds_bucket", "2.0"]
    assert slow >= 1 and samples["lvm_state_save_seconds_sum",] > 4
