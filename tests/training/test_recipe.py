"""Recipes: read, changed, refused."""

from pathlib import Path

import pytest
import yaml

from engines.errors import LvmError
from export.bundle.presets import load_preset
from export.training.recipe import load_recipe

ROOT = Path(__file__).parents[2]
PLAIN = {
    "name": "plain",
    "network": "tiny",
    "backbone": {"optimiser": {"steps": 3, "learning_rate": 0.002}},
    "tubedetr": {"optimiser": {"steps": 3, "learning_rate": 0.001}},
    "lvm": {"optimiser": {"steps": 3, "learning_rate": 0.001}},
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump(PLAIN))
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "training").glob("*.yaml")), ids=lambda p: p.stem)
def test_recipes_that_we_ship_can_be_read(path):
    assert load_recipe(path).name


def test_a_network_is_named_after_its_preset(file):
    assert load_recipe(file).network == load_preset("tiny")


def test_a_preset_may_differ_in_what_is_said(file):
    network = load_recipe(file, ["network={preset: tiny, activities: 3}"]).network
    assert network == load_preset("tiny").model_copy(update={"activities": 3})


def test_a_whole_network_may_be_given(file):
    whole = load_preset("tiny").model_copy(
        update={"memory_tokens": 98, "reader_candidates": 0, "order": False}
    )
    file.write_text(yaml.safe_dump({**PLAIN, "network": whole.model_dump()}))
    assert load_recipe(file).network.memory_tokens == 98


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ("lvm.past_queries=0", lambda recipe: recipe.lvm.past_queries == 0),
        ("seed=7", lambda recipe: recipe.seed == 7),
        ("data.levels=[L2, L3]", lambda recipe: recipe.data.levels == ("L2", "L3")),
        ("lvm.sampler=random", lambda recipe: recipe.lvm.sampler == "random"),
        ("lvm.optimiser.learning_rate=1e-4", lambda recipe: recipe.lvm.optimiser.learning_rate == 1e-4),
        ("data.products=null", lambda recipe: recipe.data.products is None),
    ],
)
def test_one_line_of_a_recipe_is_changed(file, change, read):
    assert read(load_recipe(file, [change]))


def test_knobs_are_said_in_one_way(file):
    """What a run and its cached videos are known by is their digest."""
    one, other = (
        load_recipe(file, [change]).data
        for change in (
            "data.knobs={zipf: 1, object_size: [0.05, 0.1], advert: false}",
            "data.knobs={advert: no, object_size: [0.05, 0.10], zipf: 1.0}",
        )
    )
    assert one.knobs == {"advert": False, "object_size": (0.05, 0.1), "zipf": 1.0}
    assert one.model_dump_json() == other.model_dump_json()


def test_without_knobs_a_recipe_is_known_by_what_it_was_known_by(file):
    for changes in ([], ["data.knobs={}"]):
        assert "knobs" not in load_recipe(file, changes).model_dump_json()


def test_changes_are_made_one_after_the_other(file):
    recipe = load_recipe(file, ["lvm.batch=4", "lvm.batch=2", "lvm.negatives=0.5"])
    assert (recipe.lvm.batch, recipe.lvm.negatives) == (2, 0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("lvm.past_querys=0", "lvm.past_querys: Extra inputs are not permitted"),
        ("nothing=1", "nothing: Extra inputs"),
        ("lvm.batch=0", "lvm.batch: Input should be greater than or equal to 1"),
        ("lvm.gradient=steepest", "lvm.gradient: Input should be 'ste', 'stebias' or 'soft'"),
        ("lvm.curriculum_minutes=[]", "lvm.curriculum_minutes"),
        ("lvm.negatives=1.5", "lvm.negatives: Input should be less than or equal to 1"),
        ("data.levels=[]", "data.levels"),
        ("data.levels=[L9]", "data.levels.0: a level must be one of L0, L1"),
        ("backbone.worlds=4", "worlds_a_batch must be at most worlds, 4"),
        (
            "data.knobs.mising_boxes=0.2",
            "data.knobs: in worlds of level L1: a world has no knob",
        ),
        ("data.knobs.mising_boxes=0.2", "no knob mising_boxes; its knobs are activities, instances, object_"),
        ("data.knobs.seed=3", "a world has no knob seed"),
        ("data.knobs.zipf=-1", "zipf: Input should be greater than or equal to 0, got -1"),
        (
            "data.knobs.object_size=[0.1, 0.5]",
            "object_size must be low, high within 0.04..0.2, got (0.1, 0.5)",
        ),
        (
            "data.knobs.activities=2",
            "in worlds of level L3: activities must be at least concurrent (3), got 2",
        ),
        ("data.knobs.closeup=0.2", "closeup is data.closeup in a recipe; set that"),
        ("data.knobs=zipf", "data.knobs: Input should be a valid dictionary"),
        ("data={folder: mine, knobs: {zipf: 1}}", "knobs of its videos.jsonl; leave data.knobs out"),
    ],
)
def test_a_wrong_line_is_named_with_file_and_key(file, change, said):
    with pytest.raises(LvmError) as error:
        load_recipe(file, [change])
    assert "plain.yaml" in str(error.value) and said in str(error.value)


@pytest.mark.parametrize("change", ["lvm.batch", "", "lvm batch 3"])
def test_a_change_without_a_value_is_refused(file, change):
    with pytest.raises(LvmError, match="a change must look like lvm.past_queries=0"):
        load_recipe(file, [change])


def test_what_has_no_parts_cannot_be_changed_in_part(file):
    with pytest.raises(LvmError, match="name has no parts"):
        load_recipe(file, ["name.length=3"])


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(LvmError, match="nowhere.yaml does not exist"):
        load_recipe(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("text", ["", "- a list", "name: [unclosed", "just words"])
def test_what_is_no_recipe_is_refused_with_the_name_of_the_file(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(LvmError, match="odd.yaml"):
        load_recipe(path)


def test_an_unknown_preset_is_refused(file):
    with pytest.raises(LvmError, match="gigantic"):
        load_recipe(file, ["network=gigantic"])
