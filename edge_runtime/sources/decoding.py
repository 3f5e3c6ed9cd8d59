"""Decode anything that FFmpeg reads, files and network streams alike: pictures with exact times, then RGB.

PyAV brings its own FFmpeg, gives every picture's presentation time, and leaves the conversion to RGB to us,
so that only sampled pictures are converted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from typing import Protocol

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import SideData, SideDataContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from edge_runtime.frame import Frame
from edge_runtime.sources.base import BaseSource, Tally
from edge_runtime.sources.clocks import MAX_GAP_S, RESTARTED_S, PtsClock, SampleClock
from edge_runtime.sources.failures import NO_ANSWER, explain_failure
from edge_runtime.sources.hdr import HLG, PQ, tone_map
from engines.errors import LvmError

log = logging.getLogger(__name__)

STILLS = (
    "image2,bmp_pipe,j2k_pipe,jpeg_pipe,jpegls_pipe,jpegxl_pipe,pam_pipe,pgm_pipe,png_pipe,ppm_pipe,qoi_pipe,"
    "tiff_pipe,webp_pipe"
).split(",")
"""Single pictures. All but image2 read nothing but what they were given, also one picture after another."""
FORMATS = ",".join(
    (
        # containers, as cameras, recorders, phones, broadcasters and editors write them
        "asf,asf_o,avi,dhav,dv,flv,gxf,hxvs,ifv,iv8,ivf,ivr,kux,lmlm4,luodat,lvf,lxf,matroska,webm,mov,mpeg,"
        "mpegts,mpegtsraw,mpjpeg,msnwctcp,mtv,mxf,mxg,nc,nsv,nut,nuv,ogg,pmp,pva,r3d,rm,ser,smjpeg,ty,wtv",
        # one stream without a container
        "apv,av1,avs2,avs3,cavsvideo,dirac,dnxhd,evc,h261,h263,h264,hevc,ingenient,ipu,m4v,mjpeg,mjpeg_2000,"
        "mpegvideo,obu,vc1,vc1test,vvc,yuv4mpegpipe",
        # animations and games
        "4xm,anm,apng,avs,bethsoftvid,bfi,bink,bmv,c93,cdg,cdxl,cine,dfa,dsicin,dxa,ea,film_cpk,filmstrip,flic,"
        "gdv,gif,hnm,idcin,ipmovie,jpegxl_anim,jv,mgsts,mm,mods,moflex,mv,mvi,paf,pdv,psxstr,rl2,roq,rpl,sga,"
        "siff,simbiosis_imx,smk,smush,swf,thp,tiertexseq,tmv,usm,vividas,vivo,vmd,wc3movie,wsvqa,xmv,yop",
        # songs, so that it can be said that they hold no video
        "mp3,flac,wav,aac",
        *STILLS[1:],
    )
)
"""Formats that read nothing but the file that they were given. Playlists (HLS, DASH, concat) and some others
(image2, mlv, vobsub, SDP) open what they name, also other files and themselves: 48 bytes of ffconcat used up
every file descriptor of the process."""
NETWORK_FORMATS = f"{FORMATS},image2,hls,live_flv,rtsp,rtp,rtp_mpegts"
"""A server in the camera's place must not make us open it endlessly (concat) or open a port (SDP)."""
ENDLESS = frozenset({"mpjpeg", "rtsp", "rtp", "rtp_mpegts", "live_flv"})
"""What a server gives at its own pace, whatever length it claims."""
MAX_PIXELS = 64_000_000
"""Larger pictures are rejected by the decoders before memory is allocated."""
DECODER_THREADS = 2
"""Enough for several times real time at 1080p; the other cores belong to the networks."""
MAX_DAMAGED_READS = 16
"""Reads in a row that may fail with damaged data before a file counts as unreadable."""
DOUBT_S = 2.0
"""After damage, a live stream's pictures are skipped until a key frame comes, or for this long: a stream with
intra refresh has no key frames, and is whole again after a second or two."""
NO_TIME_STAMPS = 0x0080
"""FFmpeg's AVFMT_NOTIMESTAMPS: FFmpeg assumes 25 a second, whatever was sent or recorded."""
STAMPED = frozenset({"jpegxl_anim"})
"""Formats that FFmpeg says so of, and that have stamps all the same."""
MAX_RATE, DEFAULT_RATE = 1000, Fraction(25)
"""Pictures a second: no camera gives more, and what FFmpeg assumes of a raw stream."""
MAX_REORDERED = 32
"""Packets that may be decoded before one that is shown before them."""
CLOCK_MAY_RESTART = 0x0200
"""FFmpeg's AVFMT_TS_DISCONT: MPEG streams, whose time stamps may begin again within one file."""


class Readable(Protocol):
    """Bytes from something that FFmpeg itself cannot read."""

    def read(self, size: int) -> bytes: ...


class VideoContainer:
    """One open container: its best video stream as timed pictures. For one thread."""

    def __init__(
        self,
        url: str | Readable,
        tally: Tally,
        *,
        options: dict[str, str],
        is_stopped: Callable[[], bool],
        live: bool = False,
        start: float = 0.0,
        timeout: tuple[float, float] | None = None,
        format: str | None = None,
        track: int | None = None,
    ) -> None:
        """Open `url`, as `format` if given. Raises LvmError, NoVideo, Refused and others of `base`."""
        self._tally, self._is_stopped, self._local = tally, is_stopped, timeout is None
        options = {"max_pixels": str(MAX_PIXELS), **options}
        began = time.monotonic()
        try:
            self._container: InputContainer = av.open(
                url, "r", format=format, options=options, timeout=timeout
            )
        except (av.error.FFmpegError, ValueError) as error:
            late = timeout is not None and time.monotonic() - began >= timeout[0]
            kind, why = (LvmError, NO_ANSWER) if late else explain_failure(error, local=self._local)
            # Not chained: the cause's text holds the address with its password.
            raise kind(f"{tally.name} cannot be opened: {why}") from None
        try:
            self.stream = self._choose_stream(track)
        except LvmError:
            self._container.close()
            raise
        # Frame threads hold back one picture each, so a live stream does not use them.
        self.stream.thread_type = "SLICE" if live else "AUTO"
        self.stream.codec_context.thread_count = DECODER_THREADS
        self.stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        self._live = live
        self._doubt_until = 0.0
        raw = self.is_still or bool(self._container.format.flags & NO_TIME_STAMPS)
        # FFmpeg makes up stamps of a raw stream at 25 a second.
        self._timed = not raw or self._container.format.name in STAMPED
        time_base, period = self.stream.time_base or Fraction(1, 90_000), guess_period(self.stream, raw)
        self._clock = PtsClock(time_base, period, tally, start=start, live=live, stamped=self._timed)

    def _choose_stream(self, track: int | None) -> VideoStream:
        """Return the `track`-th video, from 1, or else the best. Raises LvmError."""
        # A song's cover picture is not a video.
        films = [
            stream
            for stream in self._container.streams.video
            if not stream.disposition & Disposition.attached_pic
        ]
        if not films:
            raise LvmError(f"{self._tally.name} holds no video: expected a stream of pictures")
        if track is not None and track > len(films):
            raise LvmError(
                f"{self._tally.name} has {len(films)} video tracks: there is no video_track {track}"
            )
        stream = films[track - 1] if track else max(films, key=_rank)
        if stream.codec_context is None:  # PyAV has no decoder for the codec
            raise LvmError(
                f"{self._tally.name} is in a video format that is not known here: convert it to H.264"
            )
        if stream.width * stream.height > MAX_PIXELS:
            raise LvmError(
                f"{self._tally.name}: pictures of at most {MAX_PIXELS // 10**6} million pixels can be read, "
                f"got {stream.width} x {stream.height}"
            )
        if len(films) > 1:
            chosen = f"track {films.index(stream) + 1}, {stream.width} x {stream.height}"
            log.info("%s has %d video tracks: %s, is watched", self._tally.name, len(films), chosen)
        return stream

    @property
    def duration(self) -> float | None:
        """Seconds, as the file states it; None where it states none."""
        if self.stream.duration and self.stream.time_base:
            return float(self.stream.duration * self.stream.time_base)
        return self._container.duration / av.time_base if self._container.duration else None

    @property
    def is_still(self) -> bool:
        """Whether this is one picture, as an address gives that has to be asked for each."""
        return self._container.format.name in STILLS

    @property
    def is_recording(self) -> bool:
        """Whether the stream has an end: then its length is known, or at least its size."""
        if self.is_still or self._container.format.name in ENDLESS:
            return False
        return bool(self.duration) or (self._container.format.name != "hls" and self._container.size > 0)

    @property
    def period(self) -> float:
        """Average seconds from picture to picture."""
        return self._clock.period

    def pictures(self) -> Iterator[tuple[float, VideoFrame]]:
        """Yield time and picture, from the container's position on. Raises LvmError where reading fails."""
        return self._clock.place(self._decoded())

    def times_undecoded(self) -> list[float] | None:
        """Return the time of each picture by reading packets only; the container was just opened.

        None where that is not certain to be what a decoder shows: stamps that are missing, equal or set
        back, packets that are damaged or cut away by an edit list, pictures before the first key frame.
        """
        if not self._timed:
            return None
        stamps: list[int] = []
        first: int | None = None
        for packet in self._packets():
            if not packet.size:
                continue
            if packet.pts is None or packet.is_corrupt or packet.is_discard:
                return None
            if first is None and not packet.is_keyframe:
                return None
            first = packet.pts if first is None else first
            stamps.append(packet.pts)
        ordered = sorted(set(stamps))
        whole = len(ordered) == len(stamps) and self.stream.frames in (0, len(stamps))
        if not stamps or not whole or ordered[0] != first:
            return None
        times = [t for t, _ in self._clock.place((pts, None) for pts in ordered)]
        return None if self._tally.repairs else times

    def pictures_from(self, t: float) -> Iterator[tuple[float, VideoFrame]] | None:
        """Return the pictures from the key frame at or before `t` seconds on; the container was just opened.

        None where the container cannot seek reliably: then decode from the beginning.
        """
        index = self.stream.index_entries
        if not self._timed:
            return None
        if len(index) > 1 and index[-1].timestamp == index[-2].timestamp:
            return None  # its clock stands still at the end: a time is not one position
        if next(self.pictures(), None) is None or (pts := self._clock.to_pts(t)) is None:
            return None
        try:
            if not self._container.format.flags & CLOCK_MAY_RESTART:
                self._container.seek(pts, stream=self.stream)
            elif (position := self._find_key_frame(pts)) is not None:
                self._container.seek(position, unsupported_byte_offset=True)
            else:
                return None
        except av.error.FFmpegError:
            return None
        self._clock.reset_last()
        rest = self.pictures()
        head = next(rest, None)
        if head is None or head[1].pts is None or head[0] > t:
            return None
        return chain([head], rest)

    def _find_key_frame(self, pts: int) -> int | None:
        """Return the position in bytes of the last key frame at or before `pts`, by reading on undecoded.

        None where there is none, and where the clock was set, stood still or was astray before `pts`: then a
        time is not one position.
        """
        position: int | None = None
        decoded: int | None = None  # the newest decoding time stamp; presentation times are out of order
        newest, since_newest = -(1 << 62), 0
        second = 1 / (self.stream.time_base or Fraction(1, 90_000))
        for packet in self._container.demux(self.stream):
            if self._is_stopped() or not packet.size:
                break
            if packet.pts is None or packet.dts is None:
                return None
            if decoded is not None and not 0 < packet.dts - decoded <= MAX_GAP_S * second:
                return None
            decoded, since_newest = packet.dts, since_newest + 1
            if decoded > pts + RESTARTED_S * second:  # what comes now is shown later
                break
            if packet.pts >= newest:
                newest, since_newest = packet.pts, 0
            if since_newest > MAX_REORDERED and newest > decoded + RESTARTED_S * second:
                return None
            if packet.is_keyframe and packet.pts <= pts and packet.pos is not None and packet.pos >= 0:
                position = packet.pos
        return position

    def _decoded(self) -> Iterator[tuple[int | None, VideoFrame]]:
        """Yield presentation time and picture, as they are decoded."""
        for packet in self._packets():
            if self._is_stopped():
                return
            for picture in self._decode(packet):
                self._tally.seen += 1
                yield picture.pts if self._timed else None, picture

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        damaged = 0
        while True:
            try:
                for packet in self._container.demux(self.stream):
                    damaged = 0
                    yield packet
                return
            except IndexError:
                # PyAV raises this at the end of a file in which another stream appeared after opening.
                # Ours has a lower number, so its decoder has been flushed already.
                return
            except av.error.InvalidDataError:
                self._tally.skip("damaged data")
                damaged += 1
                if damaged > MAX_DAMAGED_READS:
                    raise LvmError(f"{self._tally.name} is damaged and cannot be read on") from None
            except av.error.FFmpegError as error:
                _, why = explain_failure(error, local=self._local)
                raise LvmError(f"{self._tally.name} cannot be read on: {why}") from None

    def _decode(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        if packet.has_sidedata("encryption_info"):
            raise LvmError(f"{self._tally.name} is encrypted: expected a video without copy protection")
        if packet.is_corrupt:
            # Truncated in transit. A JPEG decoder would fill the missing half with grey and report no error.
            self._note_damage("a packet that was cut short")
            return []
        try:
            pictures = packet.decode()
        except av.error.FFmpegError as error:
            self._note_damage(f"a packet that cannot be decoded ({type(error).__name__})")
            return []
        whole = [picture for picture in pictures if not picture.is_corrupt]
        for _ in range(len(pictures) - len(whole)):
            self._note_damage("a damaged picture")
        return [picture for picture in whole if self._is_trusted(picture)]

    def _note_damage(self, what: str) -> None:
        self._tally.skip(what)
        if self._live:
            self._doubt_until = time.monotonic() + DOUBT_S

    def _is_trusted(self, picture: VideoFrame) -> bool:
        """Return whether a picture does not depend on a damaged one, which no decoder reports."""
        if picture.key_frame or time.monotonic() >= self._doubt_until:
            self._doubt_until = 0.0
            return True
        self._tally.skip("a picture that depends on a damaged one")
        return False

    def __enter__(self) -> VideoContainer:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()


def _rank(stream: VideoStream) -> tuple[bool, int]:
    """Rank video tracks: editors write a title picture as a track of JPEG or PNG beside the film."""
    if stream.codec_context is None:  # PyAV has no decoder for the codec
        return False, 0
    return stream.codec_context.name not in ("mjpeg", "png"), stream.width * stream.height


def guess_period(stream: VideoStream, raw: bool) -> float:
    """Return the average seconds from picture to picture, as far as a file's beginning tells.

    A raw stream's "average" is 25 a second whatever it holds, while its pictures' headers often know. A clock
    that stands still makes an average of thousands.
    """
    rates = [stream.average_rate, stream.codec_context.framerate, stream.guessed_rate]
    known = (rate for rate in (reversed(rates) if raw else rates) if rate and rate <= MAX_RATE)
    return float(1 / next(known, DEFAULT_RATE))


class RgbConverter:
    """Converts the pictures of one iteration over a source to RGB. For one thread.

    It avoids two ways in which PyAV keeps pictures alive. `picture.to_ndarray(format=…)` gives each picture a
    converter of its own, whose FFmpeg starts as many threads as there are cores. `picture.side_data` and the
    picture refer to each other, a cycle that only Python's garbage collector frees, minutes later where
    little is allocated; until then pixels and threads stay (measured at one frame a second: 110 threads after
    90 s, 3 MB for each picture of 1080p).
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def convert(self, picture: VideoFrame) -> NDArray[np.uint8]:
        """Return the picture as it is meant to be seen: (H, W, 3) uint8 RGB, contiguous, turned upright.

        Raises FFmpegError or ValueError where its pixels cannot be converted.
        """
        # One thread: at a few frames a second, others would only wait.
        hdr = picture.color_trc in (PQ, HLG)
        converted = self._reformatter.reformat(picture, format="rgb48le" if hdr else "rgb24", threads=1)
        pixels = converted.to_ndarray()
        if hdr:
            image = tone_map(np.asarray(pixels, np.uint16), picture.color_trc)
        else:
            image = np.asarray(pixels, np.uint8)
        # PyAV's stub leaves the argument out.
        matrix = SideDataContainer(picture).get("DISPLAYMATRIX")  # type: ignore[call-arg]
        if isinstance(matrix, SideData):
            image = apply_display_matrix(image, np.frombuffer(bytes(matrix), np.int32))
        return np.ascontiguousarray(image)


def apply_display_matrix(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Turn `image` (H, W, 3) by a display matrix of nine numbers, a b u c d v x y w: x' = a x + c y,
    y' = b x + d y."""
    a, b, _, c, d = (int(value) for value in matrix[:5])
    across, down = a, d
    if abs(a) < abs(b):
        image = image.transpose(1, 0, 2)
        across, down = c, b
    return image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def to_frame(t: float, picture: VideoFrame, tally: Tally, rgb: RgbConverter) -> Frame | None:
    """Return the picture as a frame; None, and count it, where its pixels cannot be converted."""
    try:
        return Frame(rgb.convert(picture), t)
    except (av.error.FFmpegError, ValueError) as error:
        tally.skip(f"a picture that cannot be converted to RGB ({type(error).__name__})")
        return None


def sample_frames(
    pictures: Iterator[tuple[float, VideoFrame]], clock: SampleClock, tally: Tally, since: float = 0.0
) -> Iterator[Frame]:
    """Yield the frames that `clock` accepts, from `since` seconds on; only they are converted to RGB."""
    rgb = RgbConverter()
    for t, picture in pictures:
        if clock.accept(t) and t >= since:
            frame = to_frame(t, picture, tally, rgb)
            if frame is not None:
                yield replace(frame, period=clock.frame_period)


def sample_and_show(
    source: BaseSource, pictures: Iterator[tuple[float, VideoFrame]], clock: SampleClock
) -> Iterator[Frame]:
    """Yield frames as `sample_frames`; while `source` has a viewer, show it every picture."""
    rgb = RgbConverter()
    for t, picture in pictures:
        is_sample = clock.accept(t)
        if is_sample or source.has_viewer:
            frame = to_frame(t, picture, source.tally, rgb)
            if frame is not None:
                source.show(frame)
                if is_sample:
                    yield replace(frame, period=clock.frame_period)
