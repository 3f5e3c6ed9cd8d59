"""A network of other cells than seven rows of seven: from training to a memory that answers after a kill."""

import io
import json

import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console

from edge_runtime.activity.recognizer import ActivityRecogniser
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.persistence import Header, Snapshot, StateFolder, load_snapshot
from edge_runtime.query.decode import cell_box
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.photo_mosaic import find_whole, make_mosaic, take_whole
from edge_runtime.service.engine_pool import Engines
from edge_runtime.simulation.activities import ACTIVITIES
from engines.bundle import Bundle
from export.bundle.checkpoint import from_checkpoint
from export.bundle.writer import write_bundle
from export.data.metrics import cell_shares
from export.quantization.plan import Plan
from export.training.recipe import Recipe
from export.training.stages import CHECKPOINT, Training
from tests.support.asking import make_query
from tests.support.fakes import small_network
from tests.support.training_models import toy_config

FINE = 14


@pytest.mark.parametrize("grid", [0, 1, 6, 8, 35, -7])
def test_a_grid_divides_the_picture_as_a_photos_copies_do(grid):
    with pytest.raises(ValidationError):
        small_network(grid=grid)


def test_a_manifest_says_nothing_of_the_usual_grid():
    assert "grid" not in json.loads(small_network().model_dump_json())
    assert json.loads(small_network(grid=FINE).model_dump_json())["grid"] == FINE


def test_cells_of_a_finer_grid_are_smaller():
    assert cell_box(0, FINE) == (0, 0, 1 / 14, 1 / 14)
    assert cell_box(195, FINE) == pytest.approx((13 / 14, 13 / 14, 1, 1))
    box = (2 / 7, 2 / 7, 5 / 7, 5 / 7)
    assert ((cell_shares(box) > 0.99).sum(), (cell_shares(box, FINE) > 0.99).sum()) == (9, 36)


@pytest.mark.parametrize("grid", [7, 14, 28])
def test_the_largest_copy_of_a_photo_has_the_same_place_in_every_grid(grid):
    photo = np.full((80, 60, 3), 200, np.uint8)
    photo[20:60, 15:45] = (30, 90, 150)
    network = small_network(grid=grid)
    side = network.image_size // grid
    mosaic = make_mosaic(photo, network.model_copy(update={"appearance": 4}))
    cells = mosaic[: side * grid, : side * grid].reshape(grid, side, grid, side, 3).mean(axis=(1, 3))
    whole = take_whole(cells.reshape(grid * grid, 3))
    assert len(whole) == len(find_whole(grid)) == (5 * grid // 7) ** 2
    middle = whole.reshape(5 * grid // 7, -1, 3)[5 * grid // 14, 5 * grid // 14]
    assert np.abs(middle - (30, 90, 150)).max() < 60


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A toy with 14 × 14 cells, trained for two steps a stage and exported."""
    place = tmp_path_factory.mktemp("fine")
    optimiser = {"steps": 2, "learning_rate": 1e-3}
    network = toy_config(
        image_size=56, grid=FINE, activities=len(ACTIVITIES), likeness=True, spread=True, order=True
    )
    recipe = Recipe.model_validate(
        {
            "name": "fine",
            "network": network,
            "data": {"train_videos": 2, "validation_videos": 1, "minutes": 1.0, "levels": ["L1"]},
            "backbone": {"optimiser": optimiser, "worlds": 2, "worlds_a_batch": 1, "frames_a_world": 2},
            "tubedetr": {"optimiser": optimiser, "batch": 2, "frames": 10},
            "lvm": {"optimiser": optimiser, "batch": 2, "curriculum_minutes": [1.0]},
            "threads": 1,
        }
    )
    Training(recipe, place / "run", place / "cache", console=Console(file=io.StringIO())).run()
    trained, card = from_checkpoint(place / "run" / CHECKPOINT)
    write_bundle(trained, card, place / "bundle", Plan(targets=("onnxruntime",)))
    return Bundle.open(place / "bundle")


def test_a_memory_of_a_finer_grid_survives_a_kill_and_answers(bundle, tmp_path):
    network = bundle.manifest.network
    assert network.cells == FINE * FINE
    engines = Engines.load(bundle, "onnxruntime", 1)
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (25, 56, 56, 3)).astype(np.uint8))
    steps = []
    sampler = make_sampler("neural", engines.sampler)
    ingest = Ingest(network, engines.backbone, sampler, empty_version(network), on_step=steps.append)
    header = Header(
        model="m", bundle="/b", source="cam", sampler="neural", epoch=1.5e9, sample_fps=1.0, network=network
    )
    with StateFolder(tmp_path) as state:
        ingest.push_images(images[:12], [float(t) for t in range(12)])
        state.save(Snapshot(header, ingest.version))
        steps.clear()
        ingest.push_images(images[12:], [float(t) for t in range(12, 25)])
        state.append(steps, lambda: Snapshot(header, ingest.version), within=60.0)
    ingest.close()
    loaded = load_snapshot(tmp_path, network=network).version
    assert loaded.frames == 25 and loaded.memory.cell.max() > 48
    assert np.array_equal(loaded.memory.features, ingest.version.memory.features)
    assert np.array_equal(np.stack(loaded.pending), np.stack(ingest.version.pending))
    encoder = ObjectEncoder(engines.backbone, network, frame_at=None, catalogue=None)
    asker = Asker(bundle.manifest, engines.reader, encoder)
    for asked in (make_query("activity"), make_query("time")):
        asker.ask(asked, loaded)
    ActivityRecogniser(bundle.manifest, engines.reader).detect(loaded, 0.0, 25.0, min_confidence=0.5)
    engines.close()
