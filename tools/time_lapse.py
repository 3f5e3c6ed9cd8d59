"""A film of any length out of the pictures of short ones, for runs that need hours of real video.

    python -m tools.time_lapse FILMS… --frames 36000 --output hours.mp4

Every picture of the films is shown for one second at 320 x 240, film after film, again and again. They are
coded once and their packets repeated. The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tools.console import finish

SIZE = (320, 240)
GROUP = 30
"""Pictures from one that stands alone to the next."""


def pictures(films: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    """All pictures of the films, RGB. Raises av.FFmpegError for what is no film."""
    for film in films:
        with av.open(str(film)) as container:
            for frame in container.decode(video=0):
                yield np.asarray(frame.to_ndarray(width=SIZE[0], height=SIZE[1], format="rgb24"), np.uint8)


def write(images: Iterable[NDArray[np.uint8]], frames: int, output: Path) -> int:
    """A film of so many pictures, one a second. Returns how many different ones. ValueError without any."""
    with av.open(str(output), "w") as container:
        stream = container.add_stream("h264", rate=1, options={"crf": "28", "g": str(GROUP), "bf": "0"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, 1)
        packets = []
        different = 0
        for image in islice(images, frames):
            packets += stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
            different += 1
        packets += stream.encode(None)
        if not packets:
            raise ValueError("the films must show something, got no picture")
        coded = [bytes(packet) for packet in packets]
        keys = [packet.is_keyframe for packet in packets]
        for number, (data, key) in enumerate(islice(cycle(zip(coded, keys, strict=True)), frames)):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 1)
            packet.pts = packet.dts = number
            packet.is_keyframe = key
            container.mux(packet)
    return different


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("films", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=36_000)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args(argv)
    different = write(pictures(given.films), given.frames, given.output)
    finish({"frames": given.frames, "different": different, "bytes": given.output.stat().st_size})
    return 0


if __name__ == "__main__":
    sys.exit(main())
