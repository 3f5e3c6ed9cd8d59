"""The published shape once through everything, at the smallest size: a training step, two-stage inference, a
checkpoint. `PRESET = "paper"` does it at full width (figures of 2026 in docs/lab)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engines.manifest import TrainingRecord
from engines.network_config import GRID, NetworkConfig
from export.bundle.checkpoint import from_checkpoint, preset_classes, save_checkpoint
from export.bundle.presets import load_preset
from export.bundle.writer import ModelCard
from export.networks.model import LvmNet, TorchEngine, make_untrained
from export.parity.sample_inputs import TIME, draw_reader_feeds, draw_scenes
from export.training.lvm.trainer import LvmTrainer
from export.training.recipe import LvmRecipe, Optimiser

CELLS = GRID * GRID

PRESET = "tiny"
_FRAMES_AT_ONCE = 8


def test_a_step_two_stages_and_a_checkpoint(tmp_path):
    config = load_preset(PRESET)
    network = make_untrained(config, 0)
    trainer = _trainer(network)
    _step(trainer, config)
    network.sampler, network.reader = trainer.sampler.eval(), trainer.reader.eval()
    _query(network, _kept(network, _clip(network)))
    file = tmp_path / "network.safetensors"
    save_checkpoint(network, _card(PRESET, config), file)
    again, _ = from_checkpoint(file)
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def _trainer(network: LvmNet) -> LvmTrainer:
    """The network's own sampler and reader under the losses: nothing of this size is held twice."""
    recipe = LvmRecipe(optimiser=Optimiser(steps=1, learning_rate=1e-5), guidance=0.0)
    with torch.device("meta"):
        trainer = LvmTrainer(network.config, recipe)
    trainer.sampler, trainer.reader = network.sampler, network.reader
    return trainer


def _step(trainer: LvmTrainer, config: NetworkConfig) -> None:
    """One step of one video with one question: forward, backward, AdamW."""
    trainer.train()
    optimiser = torch.optim.AdamW(trainer.parameters(), lr=1e-5)
    loss, _, _ = trainer(_batch(config))
    loss.backward()
    optimiser.step()
    assert torch.isfinite(loss)


def _batch(config: NetworkConfig) -> dict[str, Tensor]:
    """Random tokens: a full memory, a clip of all its frames' tokens, one question of time."""
    made = torch.Generator().manual_seed(0)
    m, k, r = config.memory_tokens, config.clip_candidates, config.recency_tokens
    batch: dict[str, Tensor] = {"temperature": torch.tensor(1.5), "slot": torch.tensor([0])}
    for prefix, count, first in (("memory", m, 0), ("clip", k, 5 * m), ("recent", r, 5 * (m + k))):
        order = torch.arange(count)
        batch |= {
            f"{prefix}_features": torch.randn(1, count, config.d_backbone, generator=made),
            f"{prefix}_tick": first + 5 * (order // CELLS)[None],
            f"{prefix}_cell": (order % CELLS)[None],
            f"{prefix}_event": torch.where(order % 97 == 0, 0, -1)[None],
            f"{prefix}_valid": torch.ones(1, count, dtype=torch.bool),
            f"{prefix}_novelty": torch.zeros(1, count),
        }
    true, rank = torch.tensor([True]), config.svd_rank
    batch |= {
        "basis": torch.zeros(1, rank, config.d_backbone),
        "strength": torch.zeros(1, rank),
        "kind": torch.tensor([2]),
        "start": torch.tensor([0]),
        "end": torch.tensor([5 * (m + k)]),
        "shift": torch.tensor([0]),
        "object_tokens": torch.randn(1, CELLS, config.d_backbone, generator=made),
        "object_valid": true,
        "activity": torch.eye(config.activities)[:1],
        "activity_valid": true,
        "activities": torch.eye(config.activities)[:1],
        "happened": true,
        "matching": torch.ones(1, 1, dtype=torch.bool),
        "event": torch.tensor([0]),
        "span": torch.tensor([[0, 50]]),
        "box_tick": torch.full((1, 1), -1),
        "box": torch.zeros(1, 1, 4),
    }
    return batch


def _clip(network: LvmNet) -> np.ndarray:
    """Stage 1, first half: tokens (T * 49, d_b) of a clip of drawn pictures."""
    config, engine = network.config, TorchEngine(network, "backbone")
    pictures = draw_scenes(_FRAMES_AT_ONCE, config.image_size, np.random.default_rng(0))
    parts = [engine({"image": pictures})["tokens"] for _ in range(-(-config.clip_frames // _FRAMES_AT_ONCE))]
    tokens: np.ndarray = np.concatenate(parts)[: config.clip_frames]
    return tokens.reshape(-1, config.d_backbone)


def _kept(network: LvmNet, tokens: np.ndarray) -> np.ndarray:
    """Stage 1, second half: memory and clip are scored, the m best stay. (m, d_b)"""
    config = network.config
    n = config.sampler_tokens
    features = np.resize(tokens, (n, config.d_backbone))[None].astype(np.float32)
    feeds: dict[str, np.ndarray] = {"features": features, "valid": np.ones((1, n), np.bool_)}
    if config.sampler_cell_code:
        feeds["cell"] = (np.arange(n, dtype=np.int32) % CELLS)[None]
    if config.sampler_novelty:
        feeds["novelty"] = np.zeros((1, n), np.float32)
    if config.sampler == "s5":
        feeds["sampler_state"] = np.zeros((1, *config.sampler_state), np.float32)
    score = TorchEngine(network, "sampler")(feeds)["score"][0]
    return features[0, np.sort(np.argsort(-score, kind="stable")[: config.memory_tokens])]


def _query(network: LvmNet, kept: np.ndarray) -> None:
    """Stage 2: one question of time on the memory."""
    feeds = draw_reader_feeds(network.config, kept, [TIME], np.random.default_rng(0))
    output = TorchEngine(network, "reader")(feeds)
    assert np.isfinite(output["activity_logits"]).all()


def _card(name: str, config: NetworkConfig) -> ModelCard:
    record = TrainingRecord(trained=False, recipe="one step on random data", seed=0)
    return ModelCard(name, preset_classes(name, config.activities), record)
