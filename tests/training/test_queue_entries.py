"""Entries of queues in training are those of a device, and a reader learns with them."""

from __future__ import annotations

import numpy as np
import torch

from edge_runtime.frame import Frame
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.recurrent_state import read_entries
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from engines.manifest import ActivityClass
from export.bundle.class_embeddings import describe_classes
from export.networks.model import TorchEngine
from export.networks.sampler import Sampler
from export.training.loop.distributed import ProcessGroup
from export.training.lvm.queue_entries import fit_entries, label_clips, make_entries, make_queue
from export.training.lvm.task import LvmTask
from tests.support.fakes import fake_backbone
from tests.support.training_models import (
    CPU,
    SECONDS,
    toy_cache,
    toy_caches,
    toy_config,
    toy_frames,
    toy_recipe,
    toy_truth,
)

CONFIG = toy_config(
    context=("svd", "text", "region"),
    queue={"length": 3, "stride": 2, "text_slots": 4, "text_classes": 2, "regions": 3, "text_width": 32},
)


def sampler() -> Sampler:
    torch.manual_seed(3)
    return Sampler(CONFIG).eval()


class SamplerAlone(torch.nn.Module):
    """What `TorchEngine` needs of a network of which only the sampler is run."""

    config = CONFIG

    def __init__(self) -> None:
        super().__init__()
        self.sampler = sampler()

    def part(self, name: str) -> Sampler:
        return self.sampler


def test_a_queue_in_training_is_the_queue_of_a_device():
    """The runtime's own ingest with the torch network, against entries that are made of cached clips."""
    cache = toy_cache(0, CONFIG)
    entries = make_entries(sampler().entry, cache, CONFIG)
    judge = make_sampler("neural", TorchEngine(SamplerAlone(), "sampler"))
    ingest = Ingest(CONFIG, fake_backbone(CONFIG), judge, empty_version(CONFIG))
    fed = [Frame(image, t) for t, image in toy_frames(toy_truth(0), 0, SECONDS)]
    for clip in range(cache.clips):
        version = ingest.push(fed[clip * CONFIG.clip_frames : (clip + 1) * CONFIG.clip_frames])
        device = read_entries(version.recurrent_state, CONFIG)
        trained = make_queue(entries, clip, np.arange(cache.clips) <= clip, CONFIG)
        np.testing.assert_array_equal(trained["queue_valid"], device["there"])
        there = device["there"]
        np.testing.assert_array_equal(trained["queue_span"][there], device["span"][there])
        np.testing.assert_array_equal(trained["queue_text"][there], device["text"][there])
        np.testing.assert_allclose(trained["queue_region"][there], device["region"][there], atol=2e-3)


def test_what_was_not_visited_is_not_in_the_queue():
    entries = make_entries(sampler().entry, toy_cache(0, CONFIG), CONFIG)
    visited = np.zeros(12, bool)
    visited[[7, 3]] = True
    assert make_queue(entries, 7, visited, CONFIG)["queue_valid"].tolist() == [True, False, True]


def test_an_entry_learns_what_its_clip_shows():
    """Which of the toy's activities it is shows in no picture, so the twelve clips are learned by heart."""
    maker, videos = sampler().entry, list(toy_caches()[:1])
    first = fit_entries(maker, videos, CONFIG, 2, 0)
    after = fit_entries(maker, videos, CONFIG, 150, 0)
    assert after < 0.8 * first, (first, after)
    shown = label_clips(videos[0], CONFIG)
    assert shown.sum() <= len(videos[0].truth) and shown.any(1).mean() > 0.5


def test_a_reader_with_queues_is_trained_and_its_entries_stay():
    task = LvmTask(CONFIG, toy_recipe(), toy_caches(), 0, ProcessGroup(), CPU)
    classes = [ActivityClass(name=f"a{i}", doing=f"doing number {i}") for i in range(CONFIG.activities)]
    describe_classes(task.module.reader, classes)
    before = {name: value.clone() for name, value in task.module.state_dict().items()}
    optimiser = torch.optim.AdamW(task.module.parameters(), lr=1e-3)
    for step in range(6):
        batch = task.batch(step)
        loss, _, output = task.module(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        task.update(step, output)
        assert torch.isfinite(loss)
    assert batch["queue_valid"].any()
    after = task.module.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert not any(name.startswith("sampler.entry.") for name in changed)
    for name in ("reader.queues.text.match.weight", "reader.queues.region.weight", "reader.queues.kind"):
        assert name in changed
    assert "reader.queues.text.table" not in changed and after["reader.queues.text.table"].any()
