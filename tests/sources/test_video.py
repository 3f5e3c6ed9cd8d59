from __future__ import annotations

import json
import logging
import math
from fractions import Fraction

import av
import numpy as np
import pytest

from edge_runtime.sources import read_frame_at
from edge_runtime.sources.decoding import apply_display_matrix
from edge_runtime.sources.video import VideoFile
from engines.errors import LvmError
from tests.support.media import make_picture, read_number, real_media, write_video

STEADY = range(0, 4000, 40)  # 4 s at 25 a second


def sampled(path, sample_fps, start=0.0):
    with VideoFile(path, sample_fps=sample_fps, start=start) as video:
        return [(frame.t, read_number(frame.image)) for frame in video]


def test_every_picture_comes_with_its_exact_time(tmp_path):
    video = VideoFile(write_video(tmp_path / "a.mkv", STEADY), sample_fps=1000)
    frames = list(video)
    assert [frame.t for frame in frames] == [ms / 1000 for ms in STEADY]
    assert [read_number(frame.image) for frame in frames] == list(range(100))
    assert frames[0].image.dtype == np.uint8 and frames[0].image.shape == (48, 160, 3)
    assert (video.seen, video.errors, video.live) == (100, 0, False)
    assert video.duration == pytest.approx(4.0, abs=0.05)


def test_variable_frame_rate_takes_the_first_picture_of_each_period(tmp_path):
    times_ms = [0, 300, 900, 1100, 1200, 2000, 2999, 6500, 6900, 7000, 7001]
    path = write_video(tmp_path / "a.mkv", times_ms)
    assert sampled(path, 1.0) == [(0.0, 0), (1.1, 3), (2.0, 5), (6.5, 7), (7.0, 9)]


def test_times_count_from_the_first_picture(tmp_path):
    path = write_video(tmp_path / "a.mkv", range(700, 1700, 100))
    assert sampled(path, 5.0) == [(0.0, 0), (0.2, 2), (0.4, 4), (0.6, 6), (0.8, 8)]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts", ".avi"])
@pytest.mark.parametrize("start", [0.0, 0.04, 1.0, 1.01, 1.5, 2.36, 3.96, 9.0])
def test_a_resumed_run_gives_exactly_the_rest_of_an_uninterrupted_one(tmp_path, suffix, start):
    path = write_video(tmp_path / f"a{suffix}", STEADY)
    whole = sampled(path, 3.0)
    assert len(whole) == 12
    assert sampled(path, 3.0, start) == [(t, n) for t, n in whole if t >= start]


def test_resuming_just_after_the_last_frame_repeats_nothing(tmp_path):
    path = write_video(tmp_path / "a.mp4", STEADY)
    whole = sampled(path, 2.0)
    for index, (t, _) in enumerate(whole):
        assert sampled(path, 2.0, float(np.nextafter(t, np.inf))) == whole[index + 1 :]


def test_resuming_seeks_instead_of_decoding_everything(tmp_path):
    with VideoFile(write_video(tmp_path / "a.mp4", STEADY), sample_fps=5.0, start=3.5) as video:
        assert [round(frame.t, 3) for frame in video] == [3.6, 3.8]
        assert video.seen < 40


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_rotation_is_applied(tmp_path, degrees, turns):
    path = write_video(tmp_path / "a.mp4", range(0, 200, 40), rotation=degrees)
    image = next(iter(VideoFile(path, sample_fps=1.0))).image
    plain = next(iter(VideoFile(write_video(tmp_path / "b.mp4", range(0, 200, 40)), sample_fps=1.0))).image
    assert np.array_equal(image, np.rot90(plain, turns))
    assert image.flags.c_contiguous


def test_display_matrices_with_mirrors_are_applied():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    one = 1 << 16
    mirrored = apply_display_matrix(image, np.array([-one, 0, 0, 0, one, 0, 0, 0, 1 << 30], np.int32))
    assert np.array_equal(mirrored, image[:, ::-1])
    transposed = apply_display_matrix(image, np.array([0, one, 0, one, 0, 0, 0, 0, 1 << 30], np.int32))
    assert np.array_equal(transposed, image.transpose(1, 0, 2))


def test_pictures_without_time_stamps_get_the_average_rate_and_one_warning(tmp_path, caplog):
    path = write_video(tmp_path / "a.264", STEADY)
    with caplog.at_level(logging.WARNING):
        frames = sampled(path, 5.0)
    assert frames == [(pytest.approx(n / 25), n) for n in range(0, 100, 5)]
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: pictures without time stamps, timed at 25 a second"
    ]
    assert sampled(path, 5.0, start=2.0) == frames[10:]


def write_stamped(path, stamps_ms):
    """Write numbered pictures under any time stamps, as damaged recordings have them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 48, "yuvj420p"
        for number, stamp in enumerate(stamps_ms):
            frame = av.VideoFrame.from_ndarray(make_picture(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            for packet in stream.encode(frame):
                packet.pts, packet.dts = (
                    round(Fraction(ms, 1000) / packet.time_base) for ms in (stamp, min(stamp, 40 * number))
                )
                packet.stream = stream
                container.mux(packet)
    return path


SPOILED = {
    "all equal": [0] * 100,
    "still from a second on": [min(ms, 1000) for ms in STEADY],
    "still for two seconds": [1000 if 1000 < ms <= 3000 else ms for ms in STEADY],
    "one astray each second": [ms + 37_600_000 if ms % 1000 == 480 else ms for ms in STEADY],
    "two astray": [ms + 3_000 if ms in (1480, 1520) else ms for ms in STEADY],
    "set to another day": [ms + 900_000_000 * (ms > 1500) for ms in STEADY],
}


@pytest.mark.parametrize(
    ("what", "suffix"), [(what, ".mkv") for what in list(SPOILED)] + [("all equal", ".mov")]
)
def test_a_clock_that_is_wrong_is_repaired_and_said(tmp_path, what, suffix, caplog):
    path = write_stamped(tmp_path / f"a{suffix}", SPOILED[what])
    with VideoFile(path, sample_fps=5.0) as video, caplog.at_level(logging.WARNING):
        frames = [(frame.t, read_number(frame.image)) for frame in video]
    assert frames == [(pytest.approx(n / 25, abs=0.002), n) for n in range(0, 100, 5)]
    assert sum(video.repairs.values()) > 0 and 0 < len(caplog.records) <= 2
    assert sampled(path, 5.0, start=2.0) == frames[10:], "a resumed run sees other times"


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("fps", [5, 10, 30])
def test_a_raw_stream_has_the_rate_that_its_headers_tell(tmp_path, codec, fps):
    path = tmp_path / f"a.{codec[-3:]}"
    with av.open(str(path), "w", format={"libx264": "h264", "libx265": "hevc"}[codec]) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuv420p"
        for number in range(4 * fps):
            frame = av.VideoFrame.from_ndarray(np.full((64, 160, 3), number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with VideoFile(path, sample_fps=1.0) as video:
        assert [frame.t for frame in video] == [pytest.approx(second, abs=1e-6) for second in range(4)]


@pytest.mark.parametrize(
    ("codec", "format", "rate", "said"),
    [
        ("mjpeg", "mjpeg", 5, "timed at 25 a second"),  # nothing in it tells its rate
        ("mpeg1video", "mpeg1video", 30, "timed at 30 a second"),
        ("mpeg2video", "mpeg2video", 24, "timed at 24 a second"),
    ],
)
def test_a_raw_stream_is_said_to_have_no_stamps(tmp_path, codec, format, rate, said, caplog):
    path = tmp_path / "a.raw"
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = 160, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((64, 160, 3), number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with VideoFile(path, sample_fps=1.0) as video, caplog.at_level(logging.WARNING):
        times = [frame.t for frame in video]
    assert times == [
        pytest.approx(second, abs=1e-3) for second in range(math.ceil(50 / int(said.split()[2])))
    ]
    assert said in caplog.text and sum(video.repairs.values()) == 50
    with VideoFile(path, sample_fps=1.0) as video:
        assert video.frame_at(1.0).t == pytest.approx(1.0, abs=1 / 24)


def test_a_gif_is_a_video(tmp_path):
    path = write_video(tmp_path / "a.gif", range(0, 2000, 100), codec="gif")
    assert sampled(path, 5.0) == [(pytest.approx(n / 10), n) for n in range(0, 20, 2)]


def test_damaged_bytes_in_the_middle_are_skipped_and_counted(tmp_path):
    path = write_video(tmp_path / "a.mkv", STEADY, gop=10)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    place = 0
    for number, packet in enumerate(packets):
        place = data.index(packet, place) + len(packet)
        if 45 <= number < 55:  # lengths of H.264 units that reach beyond their packet
            data[place - len(packet) : place - len(packet) + 4] = b"\x7f\xff\xff\xff"
    path.write_bytes(data)
    with VideoFile(path, sample_fps=1000) as video:
        frames = list(video)
    times = [frame.t for frame in frames]
    assert video.errors > 0 and 20 < len(frames) < 100
    assert times == sorted(times)
    # What lies before the damage is untouched.
    assert [read_number(frame.image) for frame in frames[:15]] == list(range(15))


def test_a_file_that_is_cut_short_gives_what_it_has(tmp_path):
    path = write_video(tmp_path / "a.mkv", STEADY)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = sampled(path, 5.0)
    assert 3 < len(frames) < 20
    # The last packet is cut, and pictures that build on it are lost.
    assert [n for _, n in frames[:-2]] == list(range(0, 5 * (len(frames) - 2), 5))


def test_an_mp4_without_its_index_is_one_sentence(tmp_path):
    path = write_video(tmp_path / "a.mp4", STEADY)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(LvmError, match="cannot be opened: it is not complete, damaged or no video; "):
        VideoFile(path, sample_fps=1.0)


def test_an_unknown_codec_is_one_sentence(tmp_path):
    path = write_video(tmp_path / "a.mkv", range(0, 400, 40))
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ"))
    with pytest.raises(LvmError, match="video format that is not known here"):
        VideoFile(path, sample_fps=1.0)


def test_an_encrypted_file_is_one_sentence(tmp_path):
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "11" * 16}
    path = write_video(tmp_path / "a.mp4", STEADY, options=key)
    with pytest.raises(LvmError, match="is encrypted"):
        list(VideoFile(path, sample_fps=1.0))


def test_what_is_no_video_is_one_sentence(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    for name, words in [
        ("empty.mp4", "is empty"),
        ("text.mp4", "cannot be opened"),
        ("list.m3u8", "cannot be opened|holds no video"),
        ("absent.mp4", "no such file"),
        (".", "is no file"),
    ]:
        with pytest.raises(LvmError, match=words):
            VideoFile(tmp_path / name, sample_fps=1.0)


def test_a_song_is_no_video(tmp_path):
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(LvmError, match="holds no video"):
        VideoFile(path, sample_fps=1.0)


def test_pictures_that_are_too_large_are_refused_before_they_are_decoded(tmp_path):
    # A GIF of 14000 x 14000 pixels in 40 bytes.
    side = (14000).to_bytes(2, "little")
    colours = bytes([0x80, 0, 0]) + bytes(3) + b"\xff\xff\xff"
    data = b"GIF89a" + side * 2 + colours + b"," + bytes(4) + side * 2 + bytes([0, 2, 2, 0x4C, 1, 0, 0x3B])
    path = tmp_path / "a.gif"
    path.write_bytes(data)
    with pytest.raises(LvmError, match="too large"):
        list(VideoFile(path, sample_fps=1.0))


def test_names_with_colons_and_percents_are_plain_files(tmp_path):
    path = write_video(tmp_path / "rtsp:lane %03d.mkv", range(0, 400, 40))
    assert len(sampled(path, 5.0)) == 2


def test_closing_ends_the_iteration(tmp_path):
    with VideoFile(write_video(tmp_path / "a.mkv", STEADY), sample_fps=1000) as video:
        frames = iter(video)
        next(frames)
        video.close()
        assert list(frames) == []


def test_frame_at_is_the_picture_that_is_shown(tmp_path):
    path = write_video(tmp_path / "a.mkv", [0, 500, 600, 3000, 3040])
    for t, number in [(0.0, 0), (0.49, 0), (0.5, 1), (0.55, 1), (2.9, 2), (3.0, 3), (3.05, 4)]:
        assert read_number(read_frame_at(str(path), t).image) == number, t
    assert read_frame_at(str(path), 2.9).t == 0.6


def _write_transport_stream(path, parts):
    """Write parts one after the other, each the times of its pictures in ms, on a clock of its own."""
    data = b""
    for number, times_ms in enumerate(parts):
        data += write_video(path.with_name(f"{number}.ts"), times_ms, gop=10).read_bytes()
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("parts", "seeks"),
    [
        ([range(0, 20_000, 40)], True),
        ([[*range(0, 4000, 40), *range(9000, 13_000, 40)]], True),
        ([range(3_600_000, 3_620_000, 40)], True),
        ([range(0, 4000, 40), range(0, 4000, 40)], False),
        ([range(60_000, 64_000, 40), range(0, 4000, 40), range(500_000, 504_000, 40)], False),
    ],
    ids=["plain", "with a hole", "from an hour on", "the same clock again", "other clocks"],
)
def test_a_moment_of_a_transport_stream_is_sought_and_equal_to_that_of_a_whole_run(tmp_path, parts, seeks):
    path = _write_transport_stream(tmp_path / "a.ts", parts)
    with VideoFile(path, sample_fps=1000.0) as video:
        whole = [(frame.t, frame.image) for frame in video]
    for at in (0, 1, 7, len(whole) // 3, len(whole) // 2, len(whole) - 12, len(whole) - 1):
        t, image = whole[at]
        with VideoFile(path, sample_fps=1.0) as video:
            frame = video.frame_at(t + 0.004)
            assert frame.t == t and (frame.image == image).all()
            if seeks and at > 30:
                assert video.seen <= 60
    with VideoFile(path, sample_fps=5.0, start=3.0) as video:
        rest = [frame.t for frame in video]
    with VideoFile(path, sample_fps=5.0) as video:
        assert rest == [frame.t for frame in video if frame.t >= 3.0]


@pytest.mark.parametrize("t", [-0.1, 5.0])
def test_frame_at_a_time_outside_the_file_is_one_sentence(tmp_path, t):
    path = write_video(tmp_path / "a.mkv", STEADY)
    with pytest.raises(LvmError, match=r"shows no picture at .* long"):
        read_frame_at(str(path), t)


def test_a_clock_that_starts_again_goes_on_where_it_was(tmp_path, caplog):
    first = write_video(tmp_path / "a.ts", STEADY).read_bytes()
    path = tmp_path / "b.ts"
    path.write_bytes(first + first)
    with VideoFile(path, sample_fps=1000) as video, caplog.at_level(logging.WARNING):
        times = [frame.t for frame in video]
    assert times == sorted(times) and len(times) > 190
    assert times[-1] == pytest.approx(8.0, abs=0.2)


def test_pictures_may_change_their_size_on_the_way(tmp_path):
    small = write_video(tmp_path / "a.ts", range(0, 1000, 40), size=(64, 48)).read_bytes()
    large = write_video(tmp_path / "b.ts", range(1000, 2000, 40), size=(128, 96)).read_bytes()
    path = tmp_path / "c.ts"
    path.write_bytes(small + large)
    shapes = [frame.image.shape for frame in VideoFile(path, sample_fps=1.0)]
    assert shapes == [(48, 64, 3), (96, 128, 3)]


def test_a_stream_that_turns_up_late_disturbs_nothing(tmp_path):
    path = write_video(tmp_path / "a.ts", STEADY)
    data = bytearray(path.read_bytes())
    last = data.rindex(b"\x47\x41\x00")  # the last picture's first packet, on PID 0x100 …
    data[last + 2] = 0x80  # … now on one that nobody announced
    path.write_bytes(data)
    assert len(sampled(path, 1000)) >= 97


def test_the_test_pictures_survive_encoding(tmp_path):
    assert read_number(make_picture(0b1010110011)) == 0b1010110011


@pytest.mark.media
def test_times_equal_those_that_were_published_for_the_file():
    media = real_media()
    facts = json.loads((media / "odd/torchcodec__nasa_13013.mp4.stream3.all_frames_info.json").read_text())
    with VideoFile(media / "videos/torchcodec__nasa_13013.mp4", sample_fps=1000) as video:
        times = [round(frame.t, 6) for frame in video]
    assert times == [float(fact["pts_time"]) for fact in facts]


@pytest.mark.media
def test_real_videos_come_to_their_end_at_one_frame_a_second():
    videos = sorted((real_media() / "videos").iterdir())
    assert len(videos) >= 25
    for path in videos:
        with VideoFile(path, sample_fps=1.0) as video:
            times = [frame.t for frame in video]
        assert times[0] == 0.0 and video.errors == 0, path.name
        assert len(times) == int(times[-1]) + 1, path.name
        assert all(0 <= t - second < 0.07 for second, t in enumerate(times)), path.name
        assert video.duration is None or video.duration - times[-1] < 1.1, path.name


@pytest.mark.media
def test_real_videos_resume_with_the_same_pixels():
    for path in sorted((real_media() / "videos").iterdir()):
        with VideoFile(path, sample_fps=1.0) as video:
            whole = list(video)
        for share in (0.3, 0.75):
            start = whole[-1].t * share + 0.01
            rest = [frame for frame in whole if frame.t >= start]
            with VideoFile(path, sample_fps=1.0, start=start) as video:
                resumed = list(video)
            assert [frame.t for frame in resumed] == [frame.t for frame in rest], path.name
            for frame, other in zip(resumed, rest, strict=True):
                assert np.array_equal(frame.image, other.image), (path.name, frame.t)


@pytest.mark.parametrize(
    "name, times, options",
    [
        ("even.mp4", range(0, 2000, 40), {}),
        ("uneven.mkv", [0, 30, 90, 100, 400, 1000, 1010, 1500], {}),
        ("late.mp4", [500, 540, 580, 700], {}),
        ("plain.h264", range(0, 400, 40), {}),
        ("stream.ts", [0, 40, 80, 200, 240, 900], {}),
        ("picture.gif", [0, 100, 200, 500], {"codec": "gif"}),
    ],
)
def test_frames_are_timed_as_they_are_decoded(tmp_path, name, times, options):
    source = VideoFile(write_video(tmp_path / name, times, **options), sample_fps=1000.0)
    decoded = [frame.t for frame in source]
    assert source.frame_times() == pytest.approx(decoded) and len(decoded) == len(list(times))


def test_frames_of_a_cut_film_are_timed_by_decoding(tmp_path):
    """A film that begins between key frames, as an edit list cuts it, has packets that are never shown."""
    whole = write_video(tmp_path / "whole.ts", range(0, 4000, 40), gop=50)
    cut = tmp_path / "cut.ts"
    cut.write_bytes(whole.read_bytes()[188 * 60 :])
    source = VideoFile(cut, sample_fps=1000.0)
    assert source.frame_times() == pytest.approx([frame.t for frame in source])
