"""HDR films look like ordinary ones: known colours, written as phones and cameras write them."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from edge_runtime.sources.hdr import HLG, PQ, tone_map
from edge_runtime.sources.video import VideoFile

COLOURS = np.array(
    [
        (255, 255, 255), (128, 128, 128), (16, 16, 16), (200, 30, 30),
        (30, 180, 40), (30, 50, 200), (230, 200, 40), (200, 150, 120),
    ]
)  # fmt: skip
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def encode(colours, transfer, nits=203.0):
    """Return R'G'B' of BT.2020 (N, 3) for sRGB colours whose white shall have `nits`."""
    srgb = colours / 255
    light = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4) @ TO_BT2020.T
    light = np.clip(light, 0, 1) * nits
    if transfer == PQ:
        y = (light / 10_000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
    display = light / 1000
    luminance = (display @ [0.2627, 0.6780, 0.0593])[:, None]
    scene = display * np.maximum(luminance, 1e-9) ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_known_colours_keep_their_values(transfer):
    signal = np.round(encode(COLOURS, transfer) * 65535).clip(0, 65535).astype(np.uint16)
    shown = tone_map(signal[None], transfer)[0].astype(int)
    assert np.abs(shown - COLOURS).max() <= 6, shown


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_more_light_is_never_darker_and_the_sun_is_white(transfer):
    ramp = np.repeat(np.arange(0, 65536, 16, dtype=np.uint16)[None, :, None], 3, axis=2)
    shown = tone_map(ramp, transfer)[0].astype(int)
    assert (np.diff(shown, axis=0) >= 0).all() and (shown[0] == 0).all() and (shown[-1] == 255).all()


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_an_hdr_film_shows_its_colours(tmp_path, transfer, suffix):
    signal = encode(COLOURS, transfer)
    luma = signal @ [0.2627, 0.6780, 0.0593]
    planes = (
        np.round(64 + 876 * luma),
        np.round(512 + 896 * (signal[:, 2] - luma) / 1.8814),
        np.round(512 + 896 * (signal[:, 0] - luma) / 1.4746),
    )
    with av.open(str(tmp_path / f"a{suffix}"), "w") as container:
        stream = container.add_stream("libx265", rate=5)
        stream.width, stream.height, stream.pix_fmt = 256, 64, "yuv420p10le"
        name = "smpte2084" if transfer == PQ else "arib-std-b67"
        params = f"log-level=none:crf=4:colormatrix=bt2020nc:colorprim=bt2020:range=limited:transfer={name}"
        stream.options = {"x265-params": params}
        context = stream.codec_context
        context.color_primaries, context.colorspace, context.color_trc, context.color_range = (
            9,
            9,
            transfer,
            1,
        )
        for number in range(5):
            frame = av.VideoFrame(256, 64, "yuv420p10le")
            for plane, values, width in zip(frame.planes, planes, (32, 16, 16), strict=True):
                rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
                rows[:, : 8 * width] = np.repeat(values, width)
                plane.update(rows.tobytes())
            frame.pts, frame.time_base = number, Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with VideoFile(tmp_path / f"a{suffix}", sample_fps=1.0) as video:
        image = next(iter(video)).image
    shown = np.array([image[24:40, 32 * k + 12 : 32 * k + 20].mean(axis=(0, 1)) for k in range(8)])
    assert np.abs(shown - COLOURS).max() <= 8, shown.round()
