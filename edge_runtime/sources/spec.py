"""What the name of a source means: a camera, an address, a file or the demo; and one spelling for each."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
from pathlib import Path
from urllib.parse import unquote

from edge_runtime.system.secrets import redact, register_source, show_source
from engines.errors import LvmError

KINDS = (
    "a camera number, a device such as /dev/video0, an address (rtsp, http, rtmp, srt, rtp, udp or tcp://), "
    "csi://N, gst:PIPELINE, demo, a video file, an image, a folder of images or of a recorder's videos, "
    "or a pattern of those (follow:PATH while it grows)"
)

CAMERA = r"\d{1,3}$|/dev/(?!shm/|mqueue/|fd/|std)"
NETWORK = r"(rtsps?|https?|rtmp[a-z]{0,2}|srt|s?rtp|udp|tcp)://"
GSTREAMER = r"gst:"
CSI = r"csi://\d+$"
DEMO = r"demo($|[:?])"
FILE = r"file://"
FOLLOW = r"follow:"
_LIVE = "|".join((CAMERA, NETWORK, GSTREAMER, CSI))
ADDRESS = r"[A-Za-z][\w+.-]*:/?/"
"""Addresses of any kind, also of a kind that is not known or mistyped."""
_NAMED = "|".join((NETWORK, GSTREAMER, r"csi://", FILE, FOLLOW))


def is_live(spec: str) -> bool:
    """Return whether `spec` names a camera or an address: what it shows now may not be there again.

    An address may turn out to be a recording; only the stream itself tells (`sources.base.Recorded`).
    """
    return re.match(_LIVE, spec) is not None


def is_network(spec: str) -> bool:
    """Return whether `spec` is the address of a stream."""
    return re.match(NETWORK, spec) is not None


def is_demo(spec: str) -> bool:
    """Return whether `spec` is the checkout world, which has a ground truth."""
    return re.match(DEMO, spec) is not None


def tidy(spec: str) -> str:
    """Return `spec` as a machine would write it: without blanks around it, the scheme in small letters.

    A number is a camera, unless it has more than three digits or only names a path: a folder 20241126 is a
    folder. A link to a device, as udev makes them, is that device. What is secret in `spec` is masked in
    everything that is printed from now on.
    """
    register_source(spec)
    spec = spec if os.path.lexists(spec) else spec.strip()
    if (scheme := re.match(_NAMED, spec, re.IGNORECASE)) is not None:
        return scheme.group().lower() + spec[scheme.end() :]
    if spec.isdecimal() and os.path.exists(spec) and not os.path.exists(f"/dev/video{spec}"):
        return os.path.abspath(spec)
    try:
        device = stat.S_ISCHR(os.stat(spec).st_mode)
    except (OSError, ValueError):
        device = False
    return os.path.realpath(spec) if device and not spec.startswith("/dev/") else spec


def canonicalise(spec: str) -> str:
    """Return one name for a source, whatever folder it is started from: paths become absolute.

    Raises LvmError for a name that is not UTF-8: states and answers name their source in JSON.
    """
    try:
        spec.encode()
    except UnicodeEncodeError:
        raise LvmError(
            f"{ascii(spec)}: the name of a source must be valid UTF-8; rename it, or make a link to it"
        ) from None
    spec = tidy(spec)
    if is_live(spec) or is_demo(spec) or (re.match(ADDRESS, spec) and not re.match(FILE, spec)):
        return spec
    path = os.path.abspath(os.path.expanduser(to_path(spec)))
    return f"follow:{path}" if re.match(FOLLOW, spec) else path


def identify_source(spec: str) -> str:
    """Return what distinguishes a source from others: a digest of its name, credentials of URLs apart.

    So a camera with another password is the same, and two that are shown alike (`show_source`) are two.
    """
    return hashlib.sha256((redact(spec) if is_live(spec) else spec).encode()).hexdigest()[:16]


def to_path(spec: str) -> str:
    """Return the path in `follow:PATH`, `file://PATH` or a plain path."""
    spec = spec.removeprefix("follow:")
    return unquote(spec.removeprefix("file://")) if re.match(FILE, spec) else spec


def has_source(spec: str) -> bool:
    """Return whether the path that `spec` names is there, or a file that its pattern names."""
    path = os.path.expanduser(to_path(spec))
    return os.path.exists(path) or bool(glob.glob(path, recursive=True))


def require_path(spec: str) -> Path:
    """Return the path that `spec` names. Raises LvmError where there is none."""
    # os.path, not Path: the latter raises for names that are too long or name an unknown user.
    path = Path(os.path.expanduser(to_path(spec)))
    if not spec or not os.path.exists(path):
        raise LvmError(f"there is no source {show_source(spec)!r}: expected {KINDS}")
    return path
