"""What a sampler of linear cost carries from clip to clip: part of the version, saved, resumed, forgotten."""

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.interfaces.python.memory import Memory
from edge_runtime.memory.forgetting import forget_span
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.persistence import FILE, Header, Snapshot, StateError, StateFolder, load_snapshot
from engines.errors import EngineFault
from engines.fake import FakeEngine
from engines.network_config import NetworkConfig
from export.bundle.writer import write_bundle
from export.quantization.plan import Plan
from tests.support.breaking_disk import BreakingDisk
from tests.support.export_models import card
from tests.support.export_models import small_network as torch_network
from tests.support.fakes import fake_backbone, fake_sampler, frames, small_network
from tools.reliability.kill import digest_of

NETWORK = small_network(sampler="s5", sampler_layers=2)
HEADER = Header(
    model="m", bundle="/b", source="cam", sampler="neural", epoch=0, sample_fps=1.0, network=NETWORK
)  # fmt: skip
FOLDER = Path("/no/such/folder")


def _ingest(version=None, sampler="neural", engine=None) -> Ingest:
    engine = engine or fake_sampler(NETWORK)
    return Ingest(
        NETWORK, fake_backbone(NETWORK), make_sampler(sampler, engine), version or empty_version(NETWORK)
    )


def _state(version) -> np.ndarray:
    return version.recurrent_state["sampler_state"]


def test_the_state_begins_with_nothing_and_changes_with_each_clip():
    ingest = _ingest()
    assert _state(ingest.version).shape == (2, 16, 16) and not _state(ingest.version).any()
    seen = [_state(ingest.push([frame])) for frame in frames(12)]
    changed = [i for i in range(1, 12) if not np.array_equal(seen[i], seen[i - 1])]
    assert changed == [3, 7, 11]
    ingest.close()


def test_the_graph_is_fed_what_it_said_last():
    engine, fed, said = fake_sampler(NETWORK), [], []
    inner = engine._function

    def run(feeds):
        fed.append(feeds["sampler_state"][0].copy())
        outputs = inner(feeds)
        said.append(outputs["next_state"][0])
        return outputs

    ingest = _ingest(engine=FakeEngine(run, engine.inputs, engine.outputs))
    ingest.push(frames(16))
    ingest.close()
    assert len(fed) == 4 and not fed[0].any()
    assert all(np.array_equal(one, other) for one, other in zip(fed[1:], said, strict=False))


@pytest.mark.parametrize("sampler", ["neural", "fifo"])
def test_a_resumed_run_is_the_uninterrupted_one_wherever_it_was_cut(sampler):
    header = HEADER.model_copy(update={"sampler": sampler})
    ingest, steps, digests = _ingest(sampler=sampler), [], []
    ingest.on_step = steps.append
    versions = [ingest.push([frame]) for frame in frames(14)]
    digests = [digest_of(version) for version in versions]
    ingest.close()
    for cut in (3, 4, 5, 11, 13):
        disk = BreakingDisk()
        folder = StateFolder(FOLDER, disk=disk)
        for n in range(cut):
            snapshot = Snapshot(header, versions[n])
            folder.append([steps[n]], lambda snapshot=snapshot: snapshot, within=0.0)
        found = load_snapshot(FOLDER, NETWORK, disk=BreakingDisk(disk.files())).version
        assert digest_of(found) == digests[cut - 1]
        again = _ingest(found, sampler)
        again.push(frames(14)[cut:])
        again.close()
        assert digest_of(again.version) == digests[-1]


def test_a_state_of_another_shape_is_refused():
    ingest = _ingest()
    ingest.push(frames(8))
    ingest.close()
    disk = BreakingDisk()
    StateFolder(FOLDER, disk=disk).save(Snapshot(HEADER, ingest.version))
    for changes in ({"sampler": "neural"}, {"sampler_states": 8}, {"sampler_layers": 1}):
        other = small_network(**{"sampler": "s5", "sampler_layers": 2, **changes})
        with pytest.raises(StateError):
            load_snapshot(FOLDER, other, disk=BreakingDisk(disk.files()))
    assert FILE in disk.files()


def test_a_graph_that_gives_no_number_costs_its_clip_and_nothing_else():
    engine = fake_sampler(NETWORK)
    inner = engine._function

    def run(feeds):
        outputs = inner(feeds)
        outputs["next_state"][0, 0, 0, 0] = np.nan
        return outputs

    ingest = _ingest(engine=FakeEngine(run, engine.inputs, engine.outputs))
    ingest.push(frames(3))
    before = digest_of(ingest.version)
    with pytest.raises(EngineFault, match="next_state is NaN"):
        ingest.push(frames(1, start=3))
    ingest.close()
    assert digest_of(ingest.version) == before


def test_forgetting_anything_empties_the_state():
    ingest = _ingest()
    version = ingest.push(frames(8))
    ingest.close()
    after, _ = forget_span(version, 1.0, 2.0, clip_s=4.0, clip_frames=4)
    assert _state(version).any() and not _state(after).any()


def test_what_a_manifest_says_of_attention_is_byte_for_byte_what_it_was():
    said = small_network().model_dump_json()
    assert "sampler_states" not in said and '"sampler":' not in said
    assert NetworkConfig.model_validate_json(said).sampler == "neural"
    assert NetworkConfig.model_validate_json(NETWORK.model_dump_json()) == NETWORK


def test_a_bundle_with_an_s5_sampler_runs_and_resumes_like_any_other(tmp_path):
    network = torch_network(sampler="s5", clip_frames=4, memory_tokens=60, clip_candidates=30)
    write_bundle(network, card(network), tmp_path / "bundle", Plan(targets=("onnxruntime",)))
    with Memory(tmp_path / "bundle", threads=1) as whole:
        whole.watch("demo", seconds=24)
        wanted = digest_of(whole._ingest.version)
        assert whole._ingest.version.recurrent_state["sampler_state"].any()
        assert whole._ingest.version.memory.filled == 60
    with Memory(tmp_path / "bundle", threads=1) as first:
        first.watch("demo", seconds=10)
        first.save(tmp_path / "state")
    with Memory.load(tmp_path / "state", tmp_path / "bundle", threads=1) as second:
        second.watch("demo", seconds=14)
        assert digest_of(second._ingest.version) == wanted
