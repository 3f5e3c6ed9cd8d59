"""The catalogue: how photos are added and stored, and that questions see every change."""

import json
import os
import threading
import unicodedata

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from edge_runtime.catalogue.store import Catalogue, check_product_name
from edge_runtime.imaging.decode import read_image
from edge_runtime.interfaces.cli.main import app
from edge_runtime.persistence.encryption import Key, find_key
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.schema import Photos, Product
from edge_runtime.system.errors import QueryError
from engines.errors import LvmError
from tests.support.fakes import fake_backbone, small_network


def photo(number: int, height: int = 40, width: int = 60) -> np.ndarray:
    coarse = np.random.default_rng(number).integers(0, 255, (4, 6, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


def fill(folder, *names) -> Catalogue:
    """A catalogue with a photo in each folder; a name may be bytes."""
    for number, name in enumerate(names):
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(path)
        with open(os.path.join(path, b"a.jpg"), "wb") as file:
            file.write(cv2.imencode(".jpg", photo(number))[1].tobytes())
    return Catalogue(folder)


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("M\u00fcsli".encode("latin-1"), "M\u00fcsli"),
        ("Caf\u00e9 \u2019s".encode("cp1252"), "Caf\u00e9 \u2019s"),
        (b"\x81\x8d", "\x81\x8d"),
        ("Mu\u0308sli", "M\u00fcsli"),
        ("Cafe\u0301", "Caf\u00e9"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0631\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0631\u0645"),
    ],
)
def test_a_folder_is_a_product_whatever_bytes_its_name_has(tmp_path, stored, name):
    catalogue = fill(tmp_path / "c", stored, "Tea")
    listed = catalogue.as_json()
    assert sorted(product["name"] for product in listed["products"]) == sorted([name, "Tea"])
    json.dumps(listed, ensure_ascii=False).encode()
    for asked in (name, unicodedata.normalize("NFD", name), os.fsdecode(stored)):
        assert len(catalogue.list_photos(asked)) == 1
        assert catalogue.describe_photos(asked)[0]["file"] == "a.jpg"
    if name.isprintable():
        assert catalogue.add(name, [photo(7)]).photos == 2
    assert catalogue.rename(name, "Oats") == "Oats"
    assert catalogue.remove("Oats") >= 1 and catalogue.list_products() == ["Tea"]


def test_one_name_in_two_forms_is_one_product(tmp_path):
    catalogue = fill(tmp_path / "c", "Caf\u00e9", "Cafe\u0301", "Caf\u00e9".encode("latin-1"))
    assert catalogue.as_json() == {"products": [{"name": "Caf\u00e9", "photos": 3}]}
    with pytest.raises(QueryError, match="lies in 3 folders"):
        catalogue.rename("Caf\u00e9", "Tea")
    assert catalogue.remove("Cafe\u0301") == 3 and catalogue.list_products() == []


def test_a_photo_whose_file_name_is_no_text_is_described(tmp_path):
    catalogue = fill(tmp_path / "c", "Tea")
    os.rename(tmp_path / "c" / "Tea" / "a.jpg", os.fsencode(tmp_path / "c" / "Tea") + b"/\xfc.jpg")
    assert catalogue.describe_photos("Tea")[0]["file"] == "\u00fc.jpg"


@pytest.mark.parametrize(
    "name",
    ["__MACOSX", "lost+found", "@eaDir", "@__thumb", "found.001", "__pycache__",
     "#recycle", "$RECYCLE.BIN", "System Volume Information", "@Recycle",
     ".Trash-1000", "LOST+FOUND"],
)  # fmt: skip
def test_folders_of_systems_are_no_products(tmp_path, name):
    assert fill(tmp_path / "c", name, "Tea").list_products() == ["Tea"]
    with pytest.raises(QueryError):
        check_product_name(name)


@pytest.mark.parametrize(
    "name",
    ["\u0645\u06cc\u200c\u062e\u0648\u0631\u0645", "\u0915\u094d\u200d\u0937", "\U0001f469\u200d\U0001f373"],
)
def test_joiners_are_part_of_words(name, tmp_path):
    assert check_product_name(name) == name
    assert Catalogue(tmp_path).add(name, [photo(1)]).name == name
    assert name in str(pytest.raises(QueryError, Catalogue(tmp_path).check_known, "x").value)
    with pytest.raises(QueryError, match="there is a product"):
        Catalogue(tmp_path).add(name.replace("\u200c", "").replace("\u200d", ""), [photo(2)])


@pytest.mark.parametrize(
    "name", ["Mi\u200clk", "\u200cTea", "Tea\u200d", "\u0645\u200c\u200c\u0645", "a\u200b\u0645", "\u202eTea"]
)
def test_other_invisible_characters_are_refused(name):
    with pytest.raises(QueryError):
        check_product_name(name)


def test_pictures_of_a_kind_that_is_not_read_are_named(tmp_path):
    catalogue = fill(tmp_path / "c", "Tea")
    (tmp_path / "c" / "Oats").mkdir()
    for file in ("IMG_1.HEIC", "IMG_2.heic", "x.avif", "._IMG_1.HEIC", "notes.txt"):
        (tmp_path / "c" / "Oats" / file).write_bytes(b"x")
    rows = {row["name"]: row for row in catalogue.as_json()["products"]}
    assert rows["Oats"] == {"name": "Oats", "photos": 0, "unread": {"AVIF": 1, "HEIC": 2}}
    assert rows["Tea"] == {"name": "Tea", "photos": 1}
    network = small_network()
    encoder = ObjectEncoder(fake_backbone(network), network.image_size, frame_at=None, catalogue=catalogue)
    with pytest.raises(
        QueryError, match=r"has no photos in .*\(1 AVIF, 2 HEIC\) is not read here: convert it to JPEG"
    ):
        encoder.encode(Product(product="Oats"))
    said = CliRunner().invoke(app, ["catalogue", "show", "Oats", "--catalogue", str(tmp_path / "c")]).output
    assert "Oats has no photos; what is there (1 AVIF, 2 HEIC) is not read here: convert it to JPEG" in said


def test_a_folder_that_cannot_be_read_does_not_hide_the_others(tmp_path, monkeypatch):
    catalogue = fill(tmp_path / "c", "Tea", "Oats")
    (tmp_path / "c" / "loop").symlink_to("loop")
    scan = os.scandir

    def refuse(path):
        if os.path.basename(path) == "Oats":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    oats, tea = catalogue.as_json()["products"]
    assert tea == {"name": "Tea", "photos": 1} and "Permission denied" in oats["error"]


def saved(path, image) -> str:
    cv2.imwrite(str(path), image[..., ::-1])
    return str(path)


@pytest.fixture
def catalogue(tmp_path):
    return Catalogue(tmp_path / "catalogue")


def edge(*words: str):
    return CliRunner().invoke(app, ["catalogue", *words])


# -- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", "  ", ".", "..", ".hidden", "../x", "a/b", "a\\b", "-rf", "a\0b", "a\nb", "a:b", "x" * 81, "end."],
)
def test_what_is_no_folders_name_everywhere_is_refused(name):
    with pytest.raises(QueryError):
        check_product_name(name)


def test_names_in_any_script_are_taken_and_composed():
    assert check_product_name("  Müsli 500 g, (Hafer) ") == "Müsli 500 g, (Hafer)"
    assert check_product_name("Mu\u0308sli") == "M\u00fcsli" and check_product_name("豆乳") == "豆乳"


@given(st.text(max_size=100))
def test_a_name_that_is_taken_is_one_folder_inside_the_catalogue(text):
    try:
        name = check_product_name(text)
    except QueryError:
        return
    assert os.path.basename(name) == name and name not in (".", "..") and len(os.fsencode(name)) <= 255
    assert check_product_name(name) == name


# -- stored photos -----------------------------------------------------------------------------------------


def test_a_photo_is_upright_bounded_and_freed_of_its_metadata(catalogue, tmp_path):
    from PIL import Image

    picture = Image.fromarray(photo(0, 900, 3000))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "where I live"
    picture.save(tmp_path / "turned.jpg", exif=exif)
    catalogue.add("milk", [read_image(tmp_path / "turned.jpg")])
    (stored,) = catalogue.list_photos("milk")
    assert b"Exif" not in stored.path.read_bytes() and b"where I live" not in stored.path.read_bytes()
    assert cv2.imread(str(stored.path), cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_COLOR).shape == (
        1024,
        307,
        3,
    )
    assert stored.path.stat().st_mode & 0o077 == 0, "photos are their owner's only"


def test_the_same_photo_is_not_added_twice_and_new_ones_come_last(catalogue):
    assert vars(catalogue.add("milk", [photo(1), photo(1)])) == {"name": "milk", "new": 1, "photos": 1}
    first = catalogue.list_photos("milk")[0]
    assert vars(catalogue.add("milk", [photo(1), photo(2)])) == {"name": "milk", "new": 1, "photos": 2}
    assert catalogue.list_photos("milk")[0] == first, "what was there is left alone"


def test_replaced_photos_are_the_only_ones(catalogue):
    catalogue.add("milk", [photo(1), photo(2)])
    stored = catalogue.list_photos("milk")[1].path.name
    assert catalogue.add("milk", [photo(2), photo(3)], replace=True).photos == 2
    names = [file.path.name for file in catalogue.list_photos("milk")]
    assert len(names) == 2 and stored in names


def test_more_photos_than_a_question_takes_are_refused_and_nothing_is_added(catalogue):
    catalogue.add("milk", [photo(n) for n in range(10)])
    with pytest.raises(QueryError, match="at most 16 photos, 'milk' would have 17"):
        catalogue.add("milk", [photo(n) for n in range(10, 17)])
    with pytest.raises(QueryError, match="at least 8 x 8 pixels, got 6 x 4"):
        catalogue.add("tea", [photo(1), photo(2, 4, 6)])
    assert catalogue.as_json() == {"products": [{"name": "milk", "photos": 10}]}


def test_two_names_that_some_disk_takes_for_one_are_refused(catalogue):
    catalogue.add("Milk", [photo(1)])
    with pytest.raises(QueryError, match="there is a product 'Milk' already"):
        catalogue.add("MILK", [photo(1)])
    catalogue.add("tea", [photo(2)])
    with pytest.raises(QueryError, match="'Milk' already"):
        catalogue.rename("tea", "milk")
    assert catalogue.rename("Milk", "milk") == "milk" and catalogue.list_products() == ["milk", "tea"]


def test_removed_and_renamed_products_are_gone_under_their_old_names(catalogue):
    catalogue.add("milk", [photo(1), photo(2)])
    catalogue.rename("milk", "oat milk")
    with pytest.raises(QueryError, match="nearest is 'oat milk'"):
        catalogue.remove("milk")
    assert catalogue.remove("oat milk") == 2 and catalogue.list_products() == []
    assert sorted(path.name for path in catalogue.folder.iterdir()) == [".lock"]


def test_what_a_killed_writer_left_is_no_product_and_goes(catalogue):
    catalogue.add("milk", [photo(1)])
    for left in (".new", ".gone"):
        (catalogue.folder / left).mkdir()
        (catalogue.folder / left / "001-x.jpg").write_bytes(b"half")
    assert catalogue.list_products() == ["milk"]
    catalogue.add("tea", [photo(2)])
    assert sorted(path.name for path in catalogue.folder.iterdir()) == [".lock", "milk", "tea"]


def test_several_writers_lose_nothing(catalogue):
    def write(number: int) -> None:
        catalogue.add("milk", [photo(number)])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(catalogue.list_photos("milk")) == 8
    assert len({file.path.name[:3] for file in catalogue.list_photos("milk")}) == 8


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for catalogue in (Catalogue(tmp_path / "file"), Catalogue(tmp_path / "file" / "inside")):
        with pytest.raises(LvmError, match=r"cannot be (written|read): Not a directory|File exists"):
            catalogue.add("milk", [photo(1)])


# -- asking ------------------------------------------------------------------------------------------------


def test_a_product_is_encoded_as_its_photos_are_and_only_when_they_change(catalogue, monkeypatch):
    calls = []
    backbone = fake_backbone(small_network())
    run = backbone.__class__._run
    monkeypatch.setattr(backbone.__class__, "_run", lambda self, feeds: calls.append(1) or run(self, feeds))
    encoder = ObjectEncoder(backbone, small_network(), frame_at=None, catalogue=catalogue)
    catalogue.add("milk", [photo(1), photo(2)])
    before = encoder.encode(Product(product="milk"))
    photos = tuple(photo.path.read_bytes() for photo in catalogue.list_photos("milk"))
    same = encoder.encode(Photos(photos=photos))
    np.testing.assert_array_equal(before, same)
    reads = []
    monkeypatch.setattr(
        "edge_runtime.catalogue.store.read_image", lambda path: reads.append(path) or read_image(path)
    )
    count = len(calls)
    np.testing.assert_array_equal(encoder.encode(Product(product="milk")), before)
    assert not reads and len(calls) == count, "unchanged photos are neither read nor encoded again"
    catalogue.add("milk", [photo(3)])
    after = encoder.encode(Product(product="milk"))
    assert not np.array_equal(after, before) and len(reads) == 3 and len(calls) == count + 1
    catalogue.remove("milk")
    with pytest.raises(QueryError, match=r"add one with lvm-edge catalogue add NAME PHOTO"):
        encoder.encode(Product(product="milk"))


def test_a_folder_that_was_filled_by_hand_is_a_product_too(catalogue):
    folder = catalogue.folder / "Tea: 50%"
    folder.mkdir(parents=True)
    saved(folder / "any name.png", photo(1))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".thumb.jpg").write_text("nobody's")
    assert catalogue.as_json() == {"products": [{"name": "Tea: 50%", "photos": 1}]}
    assert catalogue.remove("Tea: 50%") == 1


# -- the command line --------------------------------------------------------------------------------------


def test_a_product_goes_through_its_life_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("LVM_EDGE_STATE", str(tmp_path / "state"))
    first, second = saved(tmp_path / "1.png", photo(1)), saved(tmp_path / "2.png", photo(2))
    assert edge("list").output == "no products yet\n"
    assert edge("add", "Oat milk", first, second).output == "Oat milk: 2 new, 2 photos\n"
    edge("add", "Oat milk", first, "--box", "0,0,0.5,0.5")
    assert json.loads(edge("list", "--json").output) == {"products": [{"name": "Oat milk", "photos": 3}]}
    rows = json.loads(edge("show", "Oat milk", "--json").output)["photos"]
    assert [(row["width"], row["height"]) for row in rows] == [(60, 40), (60, 40), (30, 20)]
    assert rows[0]["file"].startswith(str(tmp_path / "state" / "catalogue" / "Oat milk"))
    assert edge("rename", "Oat milk", "Oats").exit_code == 0
    assert json.loads(edge("remove", "Oats", "--json").output) == {"name": "Oats", "removed": 3}
    assert edge("list").output == "no products yet\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["add", "x"], "name photos, or --url and --box"),
        (["add", "x", "PHOTO", "--camera", "a"], "--camera needs a running lvm-edge"),
        (["add", "x", "PHOTO", "--box", "0,0,1"], "--box of a photo is X1,Y1,X2,Y2"),
        (["add", "x", "PHOTO", "--box", "0.5,0,0.1,1"], "--box: box must be x1,y1,x2,y2 in 0..1"),
        (["add", "x", "PHOTO", "--box", "0,0,1,1@3"], "without @T"),
        (["add", "x", "missing.jpg"], "missing.jpg cannot be read: No such file"),
        (["add", "a/b", "PHOTO"], "a product's name is a folder's"),
        (["list", "--url", "http://127.0.0.1:9", "--catalogue", "c"], "not both"),
        (["list", "--url", "nowhere"], "--url must be like http://127.0.0.1:8971"),
        (["show", "nothing", "--catalogue", "c"], "c has no products"),
    ],
)
def test_wrong_use_is_one_sentence_and_makes_nothing(words, message, tmp_path, monkeypatch):
    monkeypatch.setenv("LVM_EDGE_STATE", str(tmp_path / "state"))
    there = saved(tmp_path / "p.png", photo(1))
    done = edge(*(there if word == "PHOTO" else word for word in words))
    assert isinstance(done.exception, LvmError) and message in str(done.exception)
    assert not (tmp_path / "state").exists()


# -- sealed ------------------------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path):
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    file = tmp_path / "key"
    assert CliRunner().invoke(app, ["key", "new", str(file)]).exit_code == 0
    return file


def plain_bytes(catalogue) -> list[bool]:
    """For each file of a photo whether it begins like a JPEG."""
    return [path.read_bytes()[:2] == b"\xff\xd8" for path in sorted(catalogue.folder.glob("*/*.jpg"))]


def test_with_a_key_photos_are_sealed_and_read_by_it_alone(catalogue, key):
    sealed = Catalogue(catalogue.folder, find_key(key))
    catalogue.add("plain", [photo(1)])
    sealed.add("sealed", [photo(2)])
    assert plain_bytes(catalogue) == [True, False]
    (plain,), (encrypted,) = sealed.list_photos("plain"), sealed.list_photos("sealed")
    assert sealed.load_image(plain).shape == sealed.load_image(encrypted).shape == (40, 60, 3)
    backbone = fake_backbone(small_network())
    known = ObjectEncoder(backbone, small_network(), frame_at=None, catalogue=sealed).encode(
        Product(product="sealed")
    )
    assert known.shape == (49, backbone.outputs[0].shape[-1])
    nobody = ObjectEncoder(backbone, small_network(), frame_at=None, catalogue=catalogue)
    with pytest.raises(LvmError, match="sealed with key"):
        nobody.encode(Product(product="sealed"))
    with pytest.raises(LvmError, match="sealed with key .*, but the key given is"):
        Catalogue(catalogue.folder, Key(b"k" * 32)).load_image(encrypted)


def test_what_is_there_already_is_sealed_on_demand(catalogue, key, tmp_path):
    catalogue.add("milk", [photo(1), photo(2)])
    by_hand = catalogue.folder / "tea"
    by_hand.mkdir()
    saved(by_hand / "tea.png", photo(3))
    with pytest.raises(LvmError, match="sealing needs a key"):
        catalogue.seal()
    done = edge("seal", "--catalogue", str(catalogue.folder), "--key", str(key), "--json")
    assert json.loads(done.output) == {"sealed": 3}
    assert not any(plain_bytes(catalogue)) and (by_hand / "tea.png").read_bytes()[:8] == b"LVMSEAL1"
    again = edge("seal", "--catalogue", str(catalogue.folder), "--key", str(key))
    assert again.output == "0 photos were sealed\n"
    result = edge("show", "tea", "--catalogue", str(catalogue.folder), "--key", str(key), "--json")
    (row,) = json.loads(result.output)["photos"]
    assert (row["width"], row["height"]) == (60, 40)
