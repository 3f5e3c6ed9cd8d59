from __future__ import annotations

import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.imaging.decode import read_file, read_image
from edge_runtime.imaging.header import read_size
from engines.errors import LvmError
from tests.support.stalls import timed

KINDS = [".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff"]


def photo(height=24, width=40):
    """RGB: red left half, blue right half, a white top row on the left."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 255
    image[:, width // 2 :, 2] = 255
    image[: height // 3, : width // 2] = 255
    return image


def encoded(image, suffix, *flags):
    rgb = image if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[2]]]
    ok, data = cv2.imencode(suffix, rgb, list(flags))
    assert ok
    return data.tobytes()


def png(width, height, body=b"", depth=8, colour=2):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("suffix", KINDS)
def test_every_kind_comes_as_rgb(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(photo(), suffix))
    image = read_image(path)
    assert image.shape == (24, 40, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - photo())[:, [2, 37]].max() < 60
    assert np.array_equal(image, read_image(path.read_bytes()))


@pytest.mark.parametrize("suffix", KINDS)
def test_size_is_read_from_the_header_alone(suffix):
    for width, height in [(1, 1), (40, 24), (333, 7), (7, 333)]:
        data = encoded(np.zeros((height, width, 3), np.uint8), suffix)
        assert read_size(data) == (width, height)


def test_lossless_and_progressive_forms_have_a_size():
    image = photo()
    assert read_size(encoded(image, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101)) == (40, 24)
    assert read_size(encoded(image, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)) == (40, 24)
    alpha = np.dstack([image, np.full((24, 40), 9, np.uint8)])
    assert read_size(encoded(alpha, ".webp")) == (40, 24)


@pytest.mark.parametrize("suffix", KINDS)
def test_a_file_cut_anywhere_gives_a_picture_or_one_sentence(suffix):
    data = encoded(photo(), suffix)
    for length in range(0, len(data), max(1, len(data) // 60)):
        try:
            assert read_image(data[:length]).shape == (24, 40, 3)
        except LvmError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("suffix", KINDS)
def test_flipped_bytes_give_a_picture_or_one_sentence(suffix):
    rng = np.random.default_rng(0)
    data = np.frombuffer(encoded(photo(), suffix), np.uint8)
    for _ in range(150):
        broken = data.copy()
        broken[rng.integers(0, len(data), 4)] = rng.integers(0, 256, 4)
        try:
            assert read_image(broken.tobytes(), max_pixels=10**6).ndim == 3
        except LvmError as error:
            assert "\n" not in str(error)


def with_orientation(jpeg, orientation):
    """`jpeg` with an EXIF segment that says how the camera was held."""
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


TURNED = pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda image: image),
        (2, lambda image: image[:, ::-1]),
        (3, lambda image: image[::-1, ::-1]),
        (4, lambda image: image[::-1]),
        (5, lambda image: image.transpose(1, 0, 2)),
        (6, lambda image: np.rot90(image, -1)),
        (7, lambda image: image[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda image: np.rot90(image)),
    ],
)


@TURNED
def test_photos_are_turned_upright(orientation, upright):
    jpeg = encoded(photo(), ".jpg")
    plain = read_image(jpeg)
    assert np.array_equal(read_image(with_orientation(jpeg, orientation)), upright(plain))


def turned_png(data, tiff):
    body = b"eXIf" + tiff
    return data[:33] + struct.pack(">I", len(tiff)) + body + struct.pack(">I", zlib.crc32(body)) + data[33:]


def turned_webp(data, tiff):
    """A lossless WebP in the form that has room for EXIF."""
    assert data[12:16] == b"VP8L"
    (bits,) = struct.unpack_from("<I", data, 21)
    sides = [(bits & 0x3FFF).to_bytes(3, "little"), (bits >> 14 & 0x3FFF).to_bytes(3, "little")]
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\x18\0\0\0" + b"".join(sides) + data[12:]
    chunks += b"EXIF" + struct.pack("<I", len(tiff)) + tiff
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


@TURNED
@pytest.mark.parametrize("kind", ["png", "webp"])
def test_what_is_transparent_is_turned_with_the_colours(orientation, upright, kind):
    see_through = np.dstack([photo(), np.zeros((24, 40), np.uint8)])
    see_through[:12, :20, 3] = 255
    see_through[12:, 20:, 3] = 100
    lossless = () if kind == "png" else (cv2.IMWRITE_WEBP_QUALITY, 101)
    data = encoded(see_through, f".{kind}", *lossless)
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    turned = (turned_png if kind == "png" else turned_webp)(data, tiff)
    assert np.array_equal(read_image(turned), upright(read_image(data)))


@pytest.mark.parametrize("cut", range(0, 26, 2))
def test_an_orientation_that_is_cut_short_is_none(cut):
    see_through = np.dstack([photo(), np.full((24, 40), 9, np.uint8)])
    data = encoded(see_through, ".png")
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 99, 0, 0)
    assert np.array_equal(read_image(turned_png(data, tiff[:cut])), read_image(data))


def test_gray_and_sixteen_bit_become_eight_bit_colour():
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    for suffix in (".png", ".tiff"):
        image = read_image(encoded(ramp, suffix))
        assert image.shape == (8, 8, 3) and image[0, 0, 0] == 0 and image[7, 7, 2] == 255
    assert read_image(encoded(np.full((8, 8), 77, np.uint8), ".jpg"))[4, 4].tolist() == [77, 77, 77]


def test_a_cmyk_tiff_or_worse_is_a_picture_or_one_sentence():
    # 8 x 8, photometric 5 (separated), four samples: no ink at all is white.
    tags = [(256, 8), (257, 8), (258, 8), (259, 1), (262, 5), (273, 134), (277, 4), (278, 8), (279, 256)]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + body + b"\0" * 4
    data += b"\0" * (134 - len(data)) + b"\0" * 256
    try:
        assert read_image(data).shape == (8, 8, 3)
    except LvmError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
def test_transparent_pictures_are_put_on_white(suffix):
    image = np.zeros((8, 8, 4), np.uint8)
    image[:4] = (200, 10, 30, 255)
    flags = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
    read = read_image(encoded(image, suffix, *flags))
    assert read[0, 0].tolist() == [200, 10, 30] and read[7, 7].tolist() == [255, 255, 255]


def test_pictures_that_unpack_to_gigabytes_are_refused_by_their_header():
    side = struct.pack("<HH", 60000, 60000)
    bombs = {
        "png": png(60000, 60000),
        "gif": b"GIF89a" + side + bytes(30),
        "bmp": b"BM" + bytes(12) + struct.pack("<Iii", 40, 60000, -60000) + bytes(40),
        "webp": b"RIFF" + bytes(4) + b"WEBPVP8X" + bytes(8) + b"\x5f\xea\0\x5f\xea\0" + bytes(9),
        "jpeg": b"\xff\xd8\xff\xc0\0\x11\x08" + side[::-1] + bytes(20),
        "tiff": b"II*\0\x08\0\0\0\x02\0"
        + struct.pack("<HHII", 256, 4, 1, 60000)
        + struct.pack("<HHII", 257, 4, 1, 60000),
    }
    for kind, data in bombs.items():
        with pytest.raises(LvmError, match=r"is \d+ x \d+: expected at most 50000000 pixels"):
            read_image(data)
        assert read_size(data) is not None, kind


@timed
def test_a_png_whose_chunk_claims_four_gigabytes_costs_nothing():
    data = bytearray(encoded(photo(), ".png"))
    data[33] = 255  # the first byte of the pixel data's length
    began = time.monotonic()
    with pytest.raises(LvmError, match="damaged or cut short"):
        read_image(bytes(data))
    assert time.monotonic() - began < 0.2


def test_an_animated_png_is_its_first_picture():
    data = encoded(photo(), ".png")
    body = struct.pack(">II", 2**31 - 1, 0)
    chunk = struct.pack(">I", 8) + b"acTL" + body + struct.pack(">I", zlib.crc32(b"acTL" + body))
    assert np.array_equal(read_image(data[:33] + chunk + data[33:]), photo())


def test_a_jpeg_of_a_thousand_scans_is_refused():
    jpeg = encoded(photo(), ".jpg")
    with pytest.raises(LvmError, match="scans"):
        read_image(jpeg + b"\xff\xda" * 1000)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"hello", "damaged or of another kind: expected a JPEG"),
        ("big.jpg", bytes(2000), "at most 1000 bytes, got 2000"),
        ("flat.png", png(8, 0), "says that it is 8 x 0"),
        ("nothing.png", png(8, 8), "damaged or cut short"),
    ],
)
def test_what_is_no_picture_is_one_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LvmError, match=words) as caught:
        read_image(tmp_path / name, max_bytes=1000)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_paths_that_are_no_files_are_one_sentence(tmp_path):
    for path in (tmp_path, tmp_path / "absent.jpg", "/dev/zero", "a\0b"):
        with pytest.raises(LvmError, match="is no file|cannot be read"):
            read_image(path)


def test_opencv_prints_nothing_about_broken_pictures(capfd):
    bmp = b"BM" + bytes(12) + struct.pack("<Iii", 40, 8, 8)
    for data in (bmp, encoded(photo(), ".gif")[:20], encoded(photo(), ".tiff")[:-9]):
        with pytest.raises(LvmError):
            read_image(data)
    assert capfd.readouterr().err == ""


def test_a_path_that_nobody_can_read_is_cut_to_its_end():
    with pytest.raises(LvmError, match="cannot be read") as caught:
        read_file(Path("\0" * 3000 + "x.jpg"))
    assert len(str(caught.value)) < 700 and "x.jpg cannot be read" in str(caught.value)
