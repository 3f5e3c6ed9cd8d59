"""Privacy zones: what lies in one is nowhere, whatever the resolution and however the picture is fetched."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_runtime.config.schema import load_config
from edge_runtime.frame import Frame
from edge_runtime.imaging.polygon import MAX_POINTS, MAX_ZONES, MIN_AREA, check_polygon
from edge_runtime.privacy.zones import MARGIN_PX, Zones
from engines.errors import LvmError

SQUARE = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
STAR = ((0.5, 0.0), (0.8, 1.0), (0.0, 0.4), (1.0, 0.4), (0.2, 1.0))


def _white(height: int, width: int) -> Frame:
    return Frame(np.full((height, width, 3), 255, np.uint8), 1.5)


@pytest.mark.parametrize("size", [(48, 64), (360, 640), (1080, 1920), (7, 7), (101, 33)])
def test_a_zone_covers_the_same_part_at_every_resolution(size):
    height, width = size
    masked = Zones({"pad": SQUARE}).mask_frame(_white(height, width)).image
    rows, columns = np.nonzero((masked == 0).all(axis=2))
    # Every pixel that the square touches at all, and at least one more on each side.
    assert rows.min() <= max(0, int(0.25 * height) - 1) and rows.max() >= min(height - 1, int(0.75 * height))
    assert columns.min() <= max(0, int(0.25 * width) - 1) and columns.max() >= min(
        width - 1, int(0.75 * width)
    )
    assert rows.min() >= int(0.25 * height) - MARGIN_PX - 1  # and no more than its margin
    assert columns.max() <= int(0.75 * width) + MARGIN_PX + 1
    assert len(rows) == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)


def _pixel_meets(polygon, row, column, height, width) -> bool:
    """Whether any of many points of a pixel's square lies inside: by ray casting, not by drawing."""
    for dy in np.linspace(0.01, 0.99, 5):
        for dx in np.linspace(0.01, 0.99, 5):
            x, y = (column + dx) / width, (row + dy) / height
            inside = False
            for (x1, y1), (x2, y2) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
                if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
                    inside = not inside
            if inside:
                return True
    return False


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=7),
    st.integers(9, 40),
    st.integers(9, 40),
)
@example([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)], 28, 9)  # a sharp corner in the picture's corner
def test_every_pixel_that_a_zone_touches_is_hidden_with_the_one_beside_it(points, height, width):
    try:
        polygon = check_polygon(points)
    except ValueError:
        return
    hidden = Zones({"any": polygon}).make_mask(height, width) == 0
    for row in range(height):
        for column in range(width):
            if _pixel_meets(polygon, row, column, height, width):
                near = hidden[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
                assert near.all(), f"({row}, {column}) of {height} x {width}"


def test_the_colour_that_a_camera_spreads_over_the_edge_is_hidden_too():
    # 4:2:0 colour is blended up to 1.5 pixels across an edge: a red zone in a grey picture.
    import av

    rgb = np.full((96, 96, 3), 128, np.uint8)
    rgb[24:72, 24:72] = (255, 0, 0)
    there = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
    sent = there.reformat(format="rgb24").to_ndarray()
    grey = np.ptp(Zones({"red": SQUARE}).mask_frame(Frame(sent, 0.0)).image, axis=2)
    assert np.ptp(sent, axis=2).max() > 200 and grey.max() <= 3


def test_the_frame_of_the_source_is_left_as_it_was():
    frame = _white(48, 64)
    masked = Zones({"pad": SQUARE}).mask_frame(frame)
    assert frame.image.min() == 255 and masked.t == 1.5 and masked.image.dtype == np.uint8


def test_without_zones_nothing_is_copied():
    frame = _white(48, 64)
    assert Zones().mask_frame(frame) is frame and not Zones()


def test_a_source_that_changes_its_resolution_stays_hidden():
    zones = Zones({"pad": SQUARE})
    for height, width in ((48, 64), (96, 128), (48, 64)):
        image = zones.mask_frame(_white(height, width)).image
        assert image[height // 2, width // 2].max() == 0 and image[0, 0].min() == 255


@pytest.mark.parametrize(
    "points, words",
    [
        ((), "at least 3 different points, got 0"),
        (((0, 0), (1, 1)), "at least 3 different points, got 2"),
        (((0, 0), (1, 1), (1, 1), (0, 0)), "at least 3 different points, got 2"),
        (((0, 0), (0.5, 0.5), (1, 1)), f"at least {MIN_AREA:g} of the picture, got 0"),
        (((0, 0), (1, 0), (1, 1.01)), "in 0..1 of the picture, got 1, 1.01"),
        (((0, 0), (1, 0), (1, float("nan"))), "in 0..1"),
        (((0, 0), (1, 0), (-0.1, 1)), "in 0..1"),
        (((0, 0), (1, 1), (1, 0), (0, 1)), "must not cross or touch"),
        (((0, 0), (0.9, 1), (1, 0), (0, 1)), "must not cross or touch"),
        (STAR, "must not cross or touch"),
        (((0, 0), (1, 0), (1, 1), (0.5, 0), (0, 1)), "must not cross or touch"),
        (((0.5, 0.5),) * (MAX_POINTS + 1), f"at most {MAX_POINTS} points"),
    ],
    ids=range(12),
)  # fmt: skip
def test_what_encloses_nothing_is_refused(points, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        check_polygon(points)


def test_a_ring_closed_as_maps_do_it_is_the_same_zone():
    assert check_polygon((*SQUARE, SQUARE[0])) == SQUARE


def test_a_hollow_shape_is_allowed_and_hides_no_more_than_itself():
    corner = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.2), (0.2, 0.2), (0.2, 1.0), (0.0, 1.0))
    mask = Zones({"corner": corner}).make_mask(100, 100)
    assert mask[5, 95] == 0 and mask[95, 5] == 0 and mask[60, 60] == 255


def test_zones_are_bounded():
    with pytest.raises(ValueError, match=f"at most {MAX_ZONES} zones"):
        Zones({str(i): SQUARE for i in range(MAX_ZONES + 1)})


# -- in the configuration ----------------------------------------------------------------------------------

HEAD = (
    "cameras:\n  lane:\n    source: 0\n    privacy:\n      zones:\n        door: [[0, 0], [1, 0], [0, 1]]\n"
)


def test_zones_are_read_from_the_configuration(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(HEAD)
    privacy = load_config(path).cameras["lane"].privacy
    assert privacy.zones == {"door": ((0, 0), (1, 0), (0, 1))} and not privacy.paused


@pytest.mark.parametrize(
    "zone, words",
    [
        ("[[0, 0], [1, 1]]", "at least 3 different points, got 2"),
        ("[[0, 0], [1, 0], [1, 7]]", "in 0..1 of the picture, got 1, 7"),
        ("[[0, 0], [1, 0], [1]]", "Field required"),
        ("[[0, 0], [1, 0], [one, 1]]", "valid number"),
        ("round", "valid tuple"),
        ("[[0, 0], [1, 1], [1, 0], [0, 1]]", "must not cross or touch"),
    ],
    ids=range(6),
)
def test_a_zone_that_is_none_is_named_with_its_line(tmp_path, zone, words):
    path = tmp_path / "c.yaml"
    path.write_text(f"{HEAD}        pad: {zone}\n")
    with pytest.raises(LvmError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:7: cameras.lane.privacy.zones.pad") and words in message
