"""The catalogue test as a command."""

import json

import pytest

from edge_runtime.config.paths import default_bundle
from engines.bundle import Bundle
from engines.errors import LvmError
from export.evaluation.catalogue import Outcome
from tests.support.bundles import copy_bundle, edit_manifest
from tests.support.products import product_folder
from tools.quality.catalogue import StreamLedger, check_classes, choose_casting, main


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return product_folder(tmp_path_factory.mktemp("shop"), 8)


@pytest.fixture
def run(shop, capsys):
    """Exit status, the last line's object and what was said on standard error."""

    def call(*options):
        status = main([*map(str, options), "--backend", "onnxruntime", "--threads", "1"])
        said = capsys.readouterr()
        return status, json.loads(said.out.splitlines()[-1]), said.err

    return call


def _without_seconds(result):
    return {key: value for key, value in result.items() if key != "seconds"}


def test_a_short_run_ends_with_every_figure_and_goes_on_where_it_was_stopped(shop, run, tmp_path):
    notes = tmp_path / "notes.jsonl"
    options = ["--products", shop, "--minutes", 1.5, "--others", 4, "--draws", 1, "--streams", 1]
    status, result, said = run(*options, "--results", notes)
    assert status == 0, said
    assert result["trained"] is Bundle.open(default_bundle()).manifest.training.trained
    for figure in (
        result["one_photo"]["recall_at_1"],
        result["three_photos"]["recall_at_1"],
        result["three_photos"]["recall_at_5"],
        result["chance"]["recall_at_1"],
        result["histogram"]["one_photo"]["recall_at_1"],
        result["backbone"]["remembered"]["three_photos"]["recall_at_5"],
    ):
        assert 0 <= figure["interval"][0] <= figure["value"] <= figure["interval"][1] <= 1
    assert set(result["products"]) <= {"product-03", "product-07"}
    assert result["held_out_named_by"] == "rule", "the shipped manifest names none of these"
    notes.write_text(notes.read_text() + '{"settings": "half a li')
    status, again, said = run(*options, "--results", notes, "--json-only")
    assert "passed over" in said
    assert _without_seconds(again) == _without_seconds(result)


def test_the_manifest_says_who_is_asked_about(shop, tmp_path):
    bundle = edit_manifest(
        copy_bundle(tmp_path), lambda d: d["training"].update(held_out=["product-01", "product-05"])
    )
    casting, named_by = choose_casting(Bundle.open(bundle).manifest, shop, None)
    assert casting.asked == ("product-01", "product-05") and named_by == "manifest"
    assert len(casting.others) == 6


@pytest.mark.parametrize("held_out", [[], ["of another folder"]])
def test_where_the_manifest_names_none_of_them_a_rule_does(shop, tmp_path, held_out):
    bundle = edit_manifest(copy_bundle(tmp_path), lambda d: d["training"].update(held_out=held_out))
    casting, named_by = choose_casting(Bundle.open(bundle).manifest, shop, None)
    assert casting.asked == ("product-03", "product-07") and named_by == "rule"


def test_with_a_folder_of_trained_products_all_the_others_are_asked_about(shop, tmp_path):
    other = product_folder(tmp_path, 3, first=6)
    casting, named_by = choose_casting(Bundle.open(default_bundle()).manifest, other, shop)
    assert named_by == "folders"
    assert casting.asked == ("product-08",), "06 and 07 were trained on"
    assert casting.others_folder == shop and len(casting.others) == 8


def test_a_bundle_of_other_activities_is_refused(tmp_path):
    bundle = edit_manifest(copy_bundle(tmp_path), lambda d: d["classes"][0].update(name="wave"))
    with pytest.raises(LvmError, match="lacks pick_belt"):
        check_classes(Bundle.open(bundle).manifest)


def test_notes_of_other_settings_are_left_alone(tmp_path):
    one = Outcome(stream=7, product="a", draw=0, photos=1, closeup=True, scores={})
    StreamLedger(tmp_path / "n", "these").add(7, [one])
    assert StreamLedger(tmp_path / "n", "these").done == {7: [one]}
    assert StreamLedger(tmp_path / "n", "those").done == {}
