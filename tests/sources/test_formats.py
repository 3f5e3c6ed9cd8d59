"""The list of formats against the installed FFmpeg: every name is judged, and nothing opens other files."""

from __future__ import annotations

import logging
import os

import av
import cv2
import numpy as np
import pytest
from av.format import ContainerFormat

from edge_runtime.sources import open_source
from edge_runtime.sources.decoding import FORMATS, NETWORK_FORMATS, STILLS
from edge_runtime.sources.failures import explain_failure, explain_pipeline
from edge_runtime.sources.live_source import Supervision
from edge_runtime.sources.video import VideoFile
from engines.errors import LvmError
from tests.support.media import make_picture, read_number, write_video

OPEN_OTHERS = set(
    "concat hls image2 image2pipe sdp sap rtsp rtp rtp_mpegts mlv vobsub webm_dash_manifest dash imf "
    "lavfi alsa oss fbdev kmsgrab v4l2 video4linux2 x11grab pulse jack live_flv svg_pipe".split()
)
"""Playlists, devices, and what names further files; image2, HLS, RTSP and RTP are for addresses."""
TEXT = set(
    "ass aqtitle bin data ffmetadata idf adf jacosub lrc mcc microdvd mpl2 mpsub pjs rcwt realtext sami "
    "scc srt stl subviewer subviewer1 tedcaptions tty vplayer webvtt xbin sup dvbsub dvbtxt sbg".split()
)
"""Subtitles and texts, and pictures made of letters."""
SINGLE = set(
    "alias_pix brender_pix ico fits msp frm iff txd cri_pipe dds_pipe dpx_pipe exr_pipe gem_pipe "
    "gif_pipe hdr_pipe jpegxs_pipe pbm_pipe pcx_pipe pfm_pipe pgmyuv_pipe pgx_pipe phm_pipe "
    "photocd_pipe pictor_pipe psd_pipe qdraw_pipe sgi_pipe sunrast_pipe vbn_pipe xbm_pipe xpm_pipe "
    "xwd_pipe".split()
)
"""Pictures that no camera sends."""
HEADLESS = set("bitpacked rawvideo v210 v210x".split())
"""Pixels without a size: nothing can recognise them."""
SOUND = set(
    "3dostr aa aax ac3 ac4 ace acm act adp ads adx aea afc aiff aix alaw alp amr amrnb amrwb apac apc "
    "ape apm aptx aptx_hd argo_asf argo_brp argo_cvg ast au avr bfstm binka bit boa bonk brstm caf "
    "codec2 codec2raw daud dcstr derf dfpwm dsf dss dts dtshd eac3 epaf ea_cdata f32be f32le f64be "
    "f64le fsb fwse g722 g723_1 g726 g726le g728 g729 genh gsm hca hcom iamf ilbc ircam iss kvag laf "
    "lc3 loas mca mlp mmf mpc mpc8 msf mtaf mulaw musx nistsphere nsp oma osq pp_bnk pvf qcp qoa "
    "redspark rka rsd rso s16be s16le s24be s24le s32be s32le s337m s8 sbc scd sdns sdr2 sds sdx shn "
    "sln sol sox spdif svag svs tak truehd tta u16be u16le u24be u24le u32be u32le u8 vag vidc voc vpk "
    "vqf w64 wady wavarc wsaud wsd wv wve xa xmd xvag xwma".split()
)


def readable():
    """Return the names of the installed FFmpeg's demuxers, each alone."""
    names = set()
    for name in av.formats_available:
        try:
            if ContainerFormat(name, "r").is_input:
                names |= set(name.split(","))
        except ValueError:
            continue
    return names - set("mp4 m4a 3gp 3g2 mj2".split())  # as mov


def test_every_format_of_the_installed_ffmpeg_is_judged():
    judged = set(FORMATS.split(",")) | OPEN_OTHERS | TEXT | SINGLE | HEADLESS | SOUND
    unknown = readable() - judged
    assert not unknown, "video or not? put each into FORMATS, or into a list of this module"


def test_every_name_of_the_list_exists_and_is_there_once():
    names = NETWORK_FORMATS.split(",")
    assert len(set(names)) == len(names)
    # Those that came later than the oldest FFmpeg that may be installed.
    assert set(FORMATS.split(",")) - readable() <= {"apv", "hxvs", "jpegxl_anim", "evc", "pdv", "vvc", "iv8"}


def test_nothing_on_the_list_opens_anything_else():
    assert not set(FORMATS.split(",")) & (OPEN_OTHERS | TEXT)
    assert set(NETWORK_FORMATS.split(",")) & OPEN_OTHERS == {
        *("image2", "hls", "live_flv", "rtsp", "rtp", "rtp_mpegts"),
    } & set(NETWORK_FORMATS.split(","))


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile a.mkv\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.mkv\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>a.mkv</BaseURL></MPD>',
        "just text",
    ],
    ids=["ffconcat", "HLS", "SDP", "DASH", "text"],
)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".txt", ".jpgs"])
def test_a_list_of_files_opens_none_of_them(tmp_path, monkeypatch, text, suffix):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mkv", range(0, 1000, 100))
    path = tmp_path / f"list{suffix}"
    path.write_text(text)
    with pytest.raises(LvmError) as caught:
        list(VideoFile(path, sample_fps=1.0))
    assert "\n" not in str(caught.value) and "Invalid argument" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("cam.mjpeg", "mjpeg"),
        ("cam.mjpg", "mjpeg"),
        ("CAM.MJPEG", "mjpeg"),
        ("cam.bin", "mjpeg"),
        ("frames.pngs", "png"),
    ],
)
def test_pictures_one_after_the_other_are_a_video(tmp_path, name, codec):
    suffix = ".jpg" if codec == "mjpeg" else ".png"
    data = b"".join(cv2.imencode(suffix, make_picture(number))[1].tobytes() for number in range(100))
    (tmp_path / name).write_bytes(data)
    with VideoFile(tmp_path / name, sample_fps=5.0) as video:
        assert [read_number(frame.image) for frame in video] == list(range(0, 100, 5))


# -- several tracks ----------------------------------------------------------------------------------------


@pytest.fixture(params=[".mp4", ".mkv", ".ts"])
def two_tracks(request, tmp_path):
    """A small track of black pictures first, a large one of white pictures second."""
    path = tmp_path / f"two{request.param}"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=5) for _ in range(2)]
        for stream, width in zip(streams, (64, 160), strict=True):
            stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
        for _ in range(10):
            for stream, grey in zip(streams, (0, 255), strict=True):
                image = np.full((48, stream.width, 3), grey, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("track", "width"), [(None, 160), (1, 64), (2, 160)])
def test_of_two_video_tracks_the_larger_is_watched_unless_another_is_chosen(two_tracks, track, width, caplog):
    with caplog.at_level(logging.INFO):
        source = open_source(str(two_tracks), sample_fps=1.0, settings=Supervision(video_track=track))
        frames = list(source)
    assert {frame.image.shape for frame in frames} == {(48, width, 3)} and len(frames) == 2
    assert f"has 2 video tracks: track {1 if width == 64 else 2}, {width} x 48, is watched" in caplog.text


def test_a_title_picture_as_a_track_of_its_own_is_not_the_film(tmp_path):
    path = tmp_path / "title.mkv"
    with av.open(str(path), "w") as container:
        title, film = container.add_stream("mjpeg", rate=5), container.add_stream("libx264", rate=5)
        title.width, title.height, title.pix_fmt = 500, 500, "yuvj420p"
        film.width, film.height, film.pix_fmt = 160, 48, "yuv420p"
        for number in range(10):
            container.mux(film.encode(av.VideoFrame.from_ndarray(make_picture(number), format="rgb24")))
            if not number:
                container.mux(title.encode(av.VideoFrame.from_ndarray(np.zeros((500, 500, 3), np.uint8))))
        container.mux(film.encode(None))
        container.mux(title.encode(None))
    with VideoFile(path, sample_fps=5.0) as video:
        assert [read_number(frame.image) for frame in video] == list(range(10))


def test_a_track_that_is_not_there_is_one_sentence(two_tracks):
    with pytest.raises(LvmError, match="has 2 video tracks: there is no video_track 3"):
        open_source(str(two_tracks), sample_fps=1.0, settings=Supervision(video_track=3))


# -- errors ------------------------------------------------------------------------------------------------

RAW = ("Invalid argument", "Input/output error", "Protocol not supported", "Operation not permitted")


@pytest.mark.parametrize("local", [False, True])
def test_no_error_shows_the_bare_words_of_ffmpeg_or_the_address(local):
    errors = [
        av.error.FFmpegError(number, os.strerror(number), "rtsp://kiosk:s3cret@cam")
        for number in range(1, 134)
    ]
    kinds = [kind for kind in vars(av.error).values() if isinstance(kind, type)]
    errors += [kind(1, "Words.", "s3cret") for kind in kinds if issubclass(kind, av.error.FFmpegError)]
    assert len(errors) > 160
    for error in errors:
        _, why = explain_failure(error, local=local)
        assert "; " in why and not why.startswith(RAW) and "s3cret" not in why and "\n" not in why, error


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ("could not link appsink0 to x264enc0", "must end in raw video"),
        ('no element "nvarguscamerasrc"', "is not installed"),
        ('no property "locatoin" in element "filesrc0"', "has no such property"),
        ("syntax error", "written wrongly"),
        ("Internal data stream error.", "must end in raw video"),
        ("Could not connect to server", "no server answers"),
        ("Device '/dev/video0' is busy", "another program"),
        ("Resource not found.", "is not there"),
        ("Unauthorized", "wants a user"),
    ],
)
def test_words_of_gstreamer_are_explained_and_kept(words, meaning):
    assert meaning in explain_pipeline(words) and f"({words})" in explain_pipeline(words)


def test_stills_over_the_network_are_the_pipes_and_image2():
    assert set(STILLS) - set(FORMATS.split(",")) == {"image2"}
