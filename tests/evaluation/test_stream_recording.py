"""A stream remembered, and what is noted beside it."""

import numpy as np
import pytest

from edge_runtime.ingest.pipeline import Ingest, round_to_half
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.world import World
from export.evaluation.histogram_baseline import make_cell_histograms
from export.evaluation.stream_recording import record_stream


@pytest.fixture(scope="module")
def remembered(engines):
    return record_stream(engines, World(WorldConfig(seed=5)), 70.0)


def test_the_memory_is_that_of_the_runtime(engines, remembered):
    network = engines.bundle.manifest.network
    sampler = make_sampler("neural", engines.sampler)
    ingest = Ingest(network, engines.backbone, sampler, empty_version(network))
    world, times = World(WorldConfig(seed=5)), [float(t) for t in range(70)]
    size = (network.image_size, network.image_size)
    expected = ingest.push_images([world.frame(t, size) for t in times], times)
    ingest.close()
    assert np.array_equal(remembered.version.memory.features, expected.memory.features)
    assert np.array_equal(remembered.version.memory.tick, expected.memory.tick)
    assert remembered.version.frames == 70


def test_features_are_those_that_the_memory_took_in(remembered):
    retained = remembered.version.memory.tokens()
    frame = retained.tick // 5
    assert len(retained)
    assert np.array_equal(round_to_half(remembered.features)[frame, retained.cell], retained.features)


def test_colours_are_those_of_the_frames(engines, remembered):
    size = engines.bundle.manifest.network.image_size
    frame = World(WorldConfig(seed=5)).frame(33.0, (size, size))
    assert remembered.times[33] == 33.0
    assert np.array_equal(remembered.histograms[33], make_cell_histograms(frame))
