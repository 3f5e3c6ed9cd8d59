"""Say what an error of FFmpeg or GStreamer means and what to do.

The text of FFmpeg's own errors is not shown: it repeats the address with its password.
"""

from __future__ import annotations

import errno
import re
import socket

import av

from edge_runtime.sources.base import NoVideo, Refused, TransportRefused, Unsupported
from engines.errors import LvmError

NO_ANSWER = "no answer in time; check that it is on, or give it more time (connection.open_timeout_s)"

Meaning = tuple[type[LvmError], str]

# The first match wins. Not "404" among those that refuse us: a relay answers that until its camera is back.
_BY_CLASS: dict[type[Exception], Meaning] = {
    av.error.ExitError: (LvmError, NO_ANSWER),
    av.error.HTTPUnauthorizedError: (
        Refused,
        "it wants a user and a password, or others (401); write SCHEME://USER:PASSWORD@HOST/…",
    ),
    av.error.HTTPForbiddenError: (
        Refused,
        "this user may not see it (403); check the user's rights on the camera",
    ),
    av.error.HTTPNotFoundError: (
        LvmError,
        "there is nothing at this address (404); check the path behind the host",
    ),
    av.error.HTTPClientError: (LvmError, "the server does not take the request (4xx); check the address"),
    av.error.HTTPServerError: (LvmError, "the server has a fault (5xx); restart it if that lasts"),
    av.error.InvalidDataError: (
        NoVideo,
        "it is not complete, damaged or no video; play it elsewhere, or convert it to MP4",
    ),
    av.error.DecoderNotFoundError: (Refused, "its video format is not known here; convert it to H.264"),
    av.error.DemuxerNotFoundError: (Refused, "its file format is not known here; convert it to MP4"),
    av.error.PatchWelcomeError: (Refused, "its format is not fully known here; convert it to MP4"),
    av.error.ProtocolNotFoundError: (
        Unsupported,
        "FFmpeg was built without this kind of address here; use gst: with GStreamer's element for it",
    ),
    av.error.EOFError: (LvmError, "it ended before the first picture; check that something is sent"),
    av.error.MemoryError: (LvmError, "there is too little memory for it; use a smaller stream of the camera"),
}
_BY_NUMBER: dict[int, Meaning] = {
    errno.ECONNREFUSED: (LvmError, "connection refused: no server listens there; check host and port"),
    errno.ECONNRESET: (LvmError, "the server broke the connection; check how many viewers it allows"),
    errno.EPIPE: (LvmError, "the server broke the connection; check how many viewers it allows"),
    errno.ETIMEDOUT: (LvmError, NO_ANSWER),
    errno.EHOSTUNREACH: (LvmError, "no way to this host; check its address and the network"),
    errno.ENETUNREACH: (LvmError, "no way to this network; check the cable and the router"),
    errno.EADDRINUSE: (LvmError, "another program receives at this port; stop it or choose another port"),
    errno.EADDRNOTAVAIL: (LvmError, "this machine has no such address to receive at; check the host"),
    errno.EPROTONOSUPPORT: (
        TransportRefused,
        "the camera does not send over this transport; set connection.transport to tcp, udp or auto",
    ),
    # FFmpeg's answer to a format that is not on the list, and to a name that no server knows.
    errno.EINVAL: (
        LvmError,
        "its format is not read here, or the address is not complete; check it",
    ),
    errno.EIO: (LvmError, "the host is not known or the connection broke; check its name and the network"),
    errno.EACCES: (Refused, "this user may not read it; check its permissions"),
    errno.EPERM: (Refused, "this is not permitted here; check its permissions"),
    errno.ENOENT: (LvmError, "there is no such file; check the path"),
    errno.EISDIR: (LvmError, "it is a folder; name a file in it"),
}
_OF_A_FILE: dict[int, Meaning] = {
    errno.EINVAL: (LvmError, "its format is not read here; name the video itself, not a list of videos"),
    errno.EIO: (LvmError, "the disk that it lies on cannot be read; check the disk"),
}


def explain_failure(error: Exception, *, local: bool) -> Meaning:
    """Return the kind of exception and the reason for an error of FFmpeg about a file or a stream."""
    for kind, meaning in _BY_CLASS.items():
        if isinstance(error, kind):
            return meaning
    number = getattr(error, "errno", None)
    known = _BY_NUMBER | (_OF_A_FILE if local else {})
    if number in known:
        return known[number]
    text = str(getattr(error, "strerror", None) or type(error).__name__).rstrip(".")
    return LvmError, f"FFmpeg says {text}; play it elsewhere to see whether it works there"


def explain_connection(error: OSError) -> str:
    """Return the reason why a server does not take a connection."""
    if isinstance(error, socket.gaierror):
        return _BY_NUMBER[errno.EIO][1]
    if isinstance(error, TimeoutError):
        return NO_ANSWER
    known = _BY_NUMBER.get(error.errno or 0)
    return (
        known[1] if known else f"the system says {error.strerror or type(error).__name__}; check the network"
    )


RAW = "it must end in raw video, so add decodebin or the decoder"
_BY_WORDS: dict[str, str] = {
    r"could not link (\S+)": f"its elements do not fit together: {RAW}",
    r"no (such )?element": "an element of it is not installed; install the GStreamer plugin that has it",
    r"no property": "an element has no such property; gst-inspect-1.0 lists them",
    r"syntax error|empty pipeline|unexpected": "it is written wrongly; try it with gst-launch-1.0",
    r"not-negotiated|not-linked|Internal data stream": f"its elements do not agree on a format: {RAW}",
    r"Unauthorized|401": "it wants a user and a password, or others; set user-id and user-pw of its source",
    r"connect|could not resolve": "no server answers there; check host, port and network",
    r"not found|No such file|Could not open|Cannot identify": (
        "what it reads is not there or does not answer; check location, address and device"
    ),
    r"busy": "another program uses its device; close that one",
}


def explain_pipeline(message: str) -> str:
    """Return what GStreamer's words mean and what to do, and the words themselves."""
    for words, meaning in _BY_WORDS.items():
        if re.search(words, message, re.IGNORECASE):
            return f"{meaning} ({message})"
    return message
