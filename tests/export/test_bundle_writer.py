"""Bundles are written whole, checked and reproducible."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.bundle import MANIFEST, Bundle
from engines.errors import BundleError, LvmError
from engines.manifest import Manifest
from engines.select import load_engine
from export.bundle.writer import check_output_folder, load_network, write_bundle
from export.networks.model import TorchEngine
from export.parity.sample_inputs import draw_scenes
from export.quantization.plan import Plan
from tests.support.export_models import card, small_network


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = small_network()
    path = tmp_path_factory.mktemp("bundles") / "one"
    write_bundle(network, card(network), path, Plan(targets=("onnxruntime",)))
    return path


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_bundle_holds_what_its_manifest_says(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    assert manifest.network == small_network().config
    found = digests(bundle)
    del found[MANIFEST]
    assert found == {name: record.sha256 for name, record in manifest.files.items()}
    assert not manifest.training.trained


def test_weights_are_stored_once(bundle: Path) -> None:
    sizes = {name: record.bytes for name, record in Bundle.open(bundle).manifest.files.items()}
    parameters = sum(parameter.numel() for parameter in small_network().parameters())
    assert sizes["weights.safetensors"] < 4 * parameters + 40_000
    assert sum(sizes.values()) - sizes["weights.safetensors"] < 250_000


def test_everyone_may_read_a_bundle(bundle: Path) -> None:
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in bundle.rglob("*"))
    assert bundle.stat().st_mode & 0o055 == 0o055


def test_the_network_of_a_bundle_answers_as_before(bundle: Path) -> None:
    image = draw_scenes(2, 56, np.random.default_rng(1))
    expected = TorchEngine(small_network(), "backbone")({"image": image})["tokens"]
    loaded = load_network(Bundle.open(bundle))
    assert not loaded.training
    np.testing.assert_array_equal(TorchEngine(loaded, "backbone")({"image": image})["tokens"], expected)
    with load_engine(Bundle.open(bundle), "backbone", "onnxruntime") as engine:
        np.testing.assert_allclose(engine({"image": image})["tokens"], expected, atol=1e-4)


def test_equal_seeds_give_equal_bytes_and_replace_an_older_bundle(bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    place.mkdir()
    (place / MANIFEST).write_text('{"format_version": 0, "network": {}, "graphs": {}}')
    (place / "old.bin").write_bytes(b"old")
    network = small_network()
    text: list[str] = []
    write_bundle(network, card(network), place, Plan(targets=("onnxruntime",)), text.append)
    assert len(text) == len(set(text)) == 9, "each step is reported once: tracing, writing, comparing"
    found, expected = digests(place), digests(bundle)
    assert found.pop(MANIFEST) != expected.pop(MANIFEST), "it holds how long a call took"
    assert found == expected
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("kind", ["file", "folder", "web application", "link"])
def test_something_else_in_the_way_is_never_touched(kind: str, tmp_path: Path, bundle: Path) -> None:
    place = tmp_path / "photos"
    if kind == "file":
        place.write_text("precious")
    elif kind == "folder":
        place.mkdir()
        (place / "cat.jpg").write_bytes(b"precious")
    elif kind == "web application":
        place.mkdir()
        (place / MANIFEST).write_text('{"name": "photos", "icons": []}')
    else:
        place.symlink_to(bundle)
    network = small_network()
    with pytest.raises(LvmError, match="photos exists and is no bundle; name another --output"):
        write_bundle(network, card(network), place, Plan(targets=("onnxruntime",)))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_an_empty_folder_is_not_in_the_way(tmp_path: Path) -> None:
    check_output_folder(tmp_path)


def test_an_interrupted_export_leaves_the_old_bundle(bundle: Path) -> None:
    before = digests(bundle)

    def stop(words: str) -> None:
        if words.startswith("comparing"):
            raise KeyboardInterrupt

    network = small_network(seed=1)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(network, card(network), bundle, Plan(targets=("onnxruntime",)), stop)
    assert digests(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_weights_of_another_network_are_refused(bundle: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    text = (copy / MANIFEST).read_text()
    other = Manifest.model_validate_json(text).network.model_copy(update={"ffn": 64})
    manifest = Manifest.model_validate_json(text).model_copy(update={"network": other})
    (copy / MANIFEST).write_text(manifest.model_dump_json())
    with pytest.raises(BundleError, match="weights of bundle .* do not fit its network: .*feed_forward"):
        load_network(Bundle.open(copy))


def test_loading_leaves_the_random_generator_alone(bundle: Path) -> None:
    before = torch.random.get_rng_state()
    load_network(Bundle.open(bundle))
    assert torch.equal(before, torch.random.get_rng_state())
