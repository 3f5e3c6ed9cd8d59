"""Only what the manifest vouches for is ever read, from a directory and from an archive alike."""

import os
import zipfile

import pytest

from engines.bundle import Bundle, pack
from engines.errors import BundleError
from tests.support.bundles import copy_bundle, edit_manifest, replace_file

BACKBONE = "graphs/onnxruntime/backbone.onnx"
WEIGHTS = "weights.safetensors"


@pytest.fixture
def bundle(tmp_path):
    return copy_bundle(tmp_path)


def _refused(path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 1200
    return said


def _flip(file, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def test_every_file_of_a_sound_bundle_is_given_as_it_lies_there(bundle):
    opened = Bundle.open(bundle)
    assert bytes(opened.weights()) == (bundle / WEIGHTS).read_bytes()
    graph, precision = opened.graph("onnxruntime", "backbone")
    assert bytes(graph) == (bundle / BACKBONE).read_bytes() and precision == "fp32"


@pytest.mark.parametrize("name", [WEIGHTS, BACKBONE])
@pytest.mark.parametrize("at", [0, -1])
def test_one_flipped_bit_is_damage(bundle, name, at):
    _flip(bundle / name, at)
    assert f"{name} is damaged" in _refused(bundle)


@pytest.mark.parametrize("size", [0, 1000])
def test_a_file_cut_short_is_damage(bundle, size):
    os.truncate(bundle / WEIGHTS, size)
    assert f"{WEIGHTS} is damaged" in _refused(bundle)


def test_a_longer_file_is_refused_before_it_is_read(bundle):
    os.truncate(bundle / WEIGHTS, 1 << 40)  # sparse
    assert f"has {1 << 40} bytes" in _refused(bundle)


def test_a_file_damaged_after_opening_is_not_handed_out(bundle):
    opened = Bundle.open(bundle)
    _flip(bundle / BACKBONE, 100)
    with pytest.raises(BundleError, match="damaged"):
        opened.graph("onnxruntime", "backbone")


@pytest.mark.parametrize("name", [WEIGHTS, BACKBONE, "manifest.json"])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    assert f"{name} is missing" in _refused(bundle)


@pytest.mark.parametrize("name", [WEIGHTS, BACKBONE, "manifest.json", "graphs"])
def test_a_link_is_refused_although_it_leads_to_the_right_bytes(bundle, name):
    place = bundle / name
    place.rename(bundle.parent / "elsewhere")
    place.symlink_to(bundle.parent / "elsewhere")
    assert "link" in _refused(bundle)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_plain_file_is_refused_at_once(bundle, make):
    (bundle / WEIGHTS).unlink()
    make(bundle / WEIGHTS)
    assert "must be a plain file" in _refused(bundle)


@pytest.mark.parametrize(
    "path", ["../weights.safetensors", "/etc/passwd", "graphs/../../x", "a\\b", "", "a\0b"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_paths_that_leave_the_bundle_are_refused(bundle, path, packed):
    (bundle.parent / WEIGHTS).write_bytes((bundle / WEIGHTS).read_bytes())
    edit_manifest(bundle, lambda d: (d["files"].update({path: d["files"][WEIGHTS]}), d.update(weights=path)))
    assert "must stay inside the bundle" in _refused(_zipped(bundle) if packed else bundle)


@pytest.mark.parametrize("text", ["", "{", '{"format_version": 1', "[]", "null", "\0\0", "[" * 100_000])
def test_a_manifest_that_is_no_json_is_one_sentence(bundle, text):
    (bundle / "manifest.json").write_text(text)
    assert "manifest.json is not of format 1" in _refused(bundle)


def test_a_manifest_that_is_no_text_is_one_sentence(bundle):
    (bundle / "manifest.json").write_bytes(b"\xff\xfe" * 100)
    assert "manifest.json is not of format 1" in _refused(bundle)


def test_a_manifest_of_another_format_says_what_to_do(bundle):
    assert "use the lvm-edge that made it" in _refused(
        edit_manifest(bundle, lambda d: d.update(format_version=2))
    )


def test_an_unknown_key_is_named_but_not_repeated_whole(bundle):
    said = _refused(edit_manifest(bundle, lambda d: d.update({"x" * 100_000: 1})))
    assert "xxxx" in said and "Extra inputs" in said


def test_files_that_the_manifest_does_not_name_are_never_opened(bundle):
    os.mkfifo(bundle / "graphs" / "stranger.onnx")  # opening it would wait for ever
    with pytest.raises(BundleError, match="not in the manifest"):
        Bundle.open(bundle).read("graphs/stranger.onnx")


def test_a_target_that_was_not_exported_says_how_to_get_it(bundle):
    with pytest.raises(BundleError, match="no graphs for tensorrt, only for onnxruntime, openvino; export"):
        Bundle.open(bundle).graph("tensorrt", "reader")


def test_the_same_model_has_the_same_identity_wherever_it_lies(bundle, tmp_path):
    other = copy_bundle(tmp_path / "other")
    assert Bundle.open(bundle).digest == Bundle.open(other).digest
    edit_manifest(other, lambda d: d.update(name="else"))
    assert Bundle.open(bundle).digest != Bundle.open(other).digest


# -- archives ----------------------------------------------------------------------------------------------


def _zipped(bundle, kind=zipfile.ZIP_STORED):
    archive = bundle.parent / "packed.lvm"
    with zipfile.ZipFile(archive, "w", kind) as out:
        for file in sorted(bundle.rglob("*")):
            if file.is_file():
                out.write(file, file.relative_to(bundle))
    return archive


def test_an_archive_is_the_directory_in_one_file(bundle, tmp_path):
    archive, again = tmp_path / "one.lvm", tmp_path / "two.lvm"
    pack(bundle, archive)
    os.utime(bundle / WEIGHTS, (0, 0))
    pack(bundle, again)
    assert archive.read_bytes() == again.read_bytes()
    opened, folder = Bundle.open(archive), Bundle.open(bundle)
    assert opened.manifest == folder.manifest and opened.digest == folder.digest
    assert all(bytes(opened.read(name)) == bytes(folder.read(name)) for name in folder.manifest.files)


def test_a_damaged_bundle_is_not_packed(bundle, tmp_path):
    _flip(bundle / WEIGHTS, 5000)
    with pytest.raises(BundleError, match="damaged"):
        pack(bundle, tmp_path / "no.lvm")
    assert not (tmp_path / "no.lvm").exists()


def test_what_is_not_named_stays_out_of_the_archive(bundle, tmp_path):
    (bundle / "notes.txt").write_text("private")
    pack(bundle, tmp_path / "one.lvm")
    assert "notes.txt" not in zipfile.ZipFile(tmp_path / "one.lvm").namelist()


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_archive_is_one_sentence_wherever_the_damage_is(bundle, kind):
    archive = _zipped(bundle, kind)
    sound = archive.read_bytes()
    last = len(sound) - 40  # its very last bytes are the length of a comment, which nobody reads
    for at in [*range(0, last, len(sound) // 25), last]:
        data = bytearray(sound)
        data[at : at + 40] = bytes(255 - byte for byte in data[at : at + 40])
        archive.write_bytes(data)
        _refused(archive)


@pytest.mark.parametrize("size", [0, 1, 100, 100_000])
def test_an_archive_cut_short_is_one_sentence(bundle, size):
    archive = _zipped(bundle)
    os.truncate(archive, size)
    assert "is no bundle" in _refused(archive)


def test_an_archive_without_a_file_names_it(bundle):
    (bundle / BACKBONE).unlink()
    assert f"{BACKBONE} is missing" in _refused(_zipped(bundle))


def test_a_file_of_an_archive_that_unpacks_to_more_than_promised_is_refused(bundle):
    (bundle / WEIGHTS).write_bytes(bytes(50 << 20))
    assert f"has {50 << 20} bytes" in _refused(_zipped(bundle))


def test_a_place_without_a_bundle_is_one_sentence(tmp_path):
    assert "does not exist" in _refused(tmp_path / "nowhere")
    assert "manifest.json is missing" in _refused(tmp_path)


def test_a_graph_of_another_content_is_sound_when_its_hash_says_so(bundle):
    replace_file(bundle, BACKBONE, b"something else")
    assert bytes(Bundle.open(bundle).read(BACKBONE)) == b"something else"
