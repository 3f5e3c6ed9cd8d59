"""Keep secrets out of everything that is printed: those of the environment, of sources and of brokers.

A secret is registered here when it is read: the value of a `${NAME}`, a password of its own setting, and what
`show_source` hides of a source. All text for people (error messages, the log, HTTP errors) passes
`mask_secrets` where it leaves the process, so that no message has to take care of it. A setting that is
nothing but a secret should be a pydantic `SecretStr` as well.
"""

from __future__ import annotations

import re
import threading
from base64 import b64encode
from typing import Any
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
MIN_CHARS = 4
"""A shorter value would blank half of every sentence, and is not a secret."""

_lock = threading.Lock()
# One set for the process on purpose: a secret is one wherever it appears.
_values: set[str] = set()


def register_secret(value: str) -> None:
    """Mask `value` from now on, also in its forms in a URL, in `repr` and line by line."""
    forms = {value, quote(value, safe=""), quote(value), quote_plus(value), repr(value)[1:-1]}
    forms |= {line.strip() for line in value.splitlines()}
    with _lock:
        _values.update(form for form in forms if len(form) >= MIN_CHARS)


def mask_secrets(text: str) -> str:
    """Return `text` with every secret replaced by ***."""
    with _lock:
        values = sorted(_values, key=len, reverse=True)  # the longest first: one may hold another
    for value in values:
        text = text.replace(value, MASK)
    return text


SECRET_WORDS = re.compile(r"(?i)((?:pass(?:word|wd)?|pwd|token|secret|auth|key)[=:])[^&/;\s]*")


def redact(text: str) -> str:
    """Return a text of any kind with the credentials of every URL blanked: `rtsp://***@host/live?***`.

    Everything up to the last @ is removed, since passwords contain @ and / often enough. This is the net
    under `show_source`, which says what is shown of a source.
    """
    return SECRET_WORDS.sub(r"\1***", _redact_addresses(text))


def _redact_addresses(text: str) -> str:
    text = re.sub(r"(\b\w{1,20}:/{1,2})\S*@", r"\1***@", text)
    text = re.sub(r"(?<![^\s'\"=(])[^\s:/@'\"]{1,64}:(?!/)[^\s@'\"]{1,200}@(?=[\w\[])", "***@", text)
    return re.sub(r"(\b\w{1,20}://[^\s?]*\?)\S+", r"\1***", text)


def hide_secrets(text: str) -> str:
    """Return a sentence of our own without known secrets and credentials of addresses.

    It keeps words as `password: …`, which `redact` would take for one.
    """
    return mask_secrets(_redact_addresses(text))


def hide_all(value: Any) -> Any:
    """Return JSON data with `hide_secrets` applied to each text in it."""
    if isinstance(value, dict):
        return {key: hide_all(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide_all(item) for item in value]
    return hide_secrets(value) if isinstance(value, str) else value


# -- what is shown of a source -----------------------------------------------------------------------------

PLAIN_WORDS = frozenset(
    "live stream streams streaming channel channels ch cam camera cameras video videos media mjpg mjpeg h264 "
    "h265 hevc main sub major minor low high preview profile axis amp cgi bin snapshot snap shot image "
    "images jpg jpeg png current isapi psia onvif onvifstream realmonitor unicast multicast av hls index "
    "m3u8 mp4 ts mkv sdp flv webm avi playlist master out output rtsp rtmp srt http api v1 v2 proxy test "
    "feed view viewer user admin root guest front back left right lane kiosk shop till door true false none "
    "auto password passwd secret default group monitor garage office lvm edge".split()
)
"""Words of a path that cameras and servers use themselves, so they are shown; and no secret to anybody."""
_PLAIN_PARTS = re.compile(r"[._+-]|(?<=[a-z0-9])(?=[A-Z])")
_NUMBERED = re.compile(r"([a-z]*)\d{0,3}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(%\w{1,15})?\]|[\w.*-]*)(:\d{1,5})?")
_LABEL_PART = r"(?:[^\W\d_]{1,24}\d{0,4}|[A-Za-z0-9]{1,4})"
_LABEL = re.compile(
    rf"(?:{_LABEL_PART}(?:[-_]+{_LABEL_PART})*(?:[-_](?:[0-9A-Fa-f]{{6}}|[0-9A-Fa-f]{{12}}))?|\*\*\*|)"
)
"""Of a host's name: words and short numbers, and the hardware address that cameras add to their name."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)([^/?#]*)([^?#]*)(.*)", re.DOTALL)

_NUMBER = re.compile(r"-?\d{1,10}(?:[./]\d{1,10})?|true|false|yes|no")
_FORMAT = re.compile(r"[A-Z][A-Z0-9]{1,7}(?:_[0-9A-Z]{1,6})?|[a-z]{2,4}\d{2,3}(?:[lb]e)?")
_ENCODING = re.compile(r"h26[3-6]|mp4v-es|vp[89]|l16|pcm[ua]|theora")
_DEVICE = re.compile(r"/dev/[\w/.:@+-]{1,100}|(?:plug)?hw:\d{1,3}(?:,\d{1,3})?")
_VALUES = frozenset(
    "ball smpte smpte75 snow black white red green blue bar gamut blink solid circular gradient colors "
    "checkers-1 checkers-2 checkers-4 checkers-8 pinwheel spokes tcp udp udp-mcast http tls rw mmap "
    "userptr dmabuf dmabuf-import clockwise counterclockwise rotate-90 rotate-180 rotate-270 "
    "rotate-90l rotate-90r horizontal-flip vertical-flip upper-left-diagonal upper-right-diagonal "
    "identity none auto progressive interleaved mixed fields alternate video audio application "
    "raw jpeg mjpeg vp8 vp9 av1 mpeg main high baseline constrained-baseline main-10 simple advanced "
    "downstream upstream byte-stream avc avc3 hvc1 hev1 au nal mono unknown forever".split()
)
"""Values that properties of elements choose from."""
_NUMERIC = frozenset(
    "sensor-id sensor-mode width height framerate num-buffers is-live latency drop sync max-buffers port "
    "channel do-timestamp timeout tcp-timeout udp-timeout loop payload clock-rate pixel-aspect-ratio "
    "index start-index stop-index blocksize max-size-buffers max-size-bytes max-size-time key-int-max "
    "bitrate config-interval async qos silent leaky".split()
)
_CHOSEN = frozenset(
    "pattern protocols flip-method method video-direction io-mode media encoding-name interlace-mode "
    "profile stream-format alignment leaky sensor-mode".split()
)
"""Properties whose value is one of `_VALUES`, several joined with +, or a number."""
_NO_SECRET = re.compile(r"\d{0,5}|[\d.:x]{1,9}|[a-z]{1,5}|\W*")
"""Values that others use, too: blanking them would spoil sentences and protect nobody."""
_DEMO = re.compile(r"\s*demo($|[:?])")
_PREFIX = re.compile(r"\s*(follow:|file://|gst:)\s*", re.IGNORECASE)
_IN_PATH = re.compile(
    r"""
    (?: ^ | (?<=/) ) \s* (?=[\w*-]*[a-z.*]) [\w.*-]+ :\d{2,5} (?=/|$)      # a server and its port
    | ^ \s* \d{1,3} (?:\.\d{1,3}){3} (?=/|$)                            # a server that begins the path
    | (?: ^ | (?<=[/\s]) ) (?: rtspt? | rtsps | https? | rtmp\w{0,2} | srt | s?rtp | udp | tcp | ftps? )
      (?: [:;] (?=.) | (?=//) ) [/\\]* (?:\*\*\*@)? [\w.*-]* (?: :\d{1,5} )? (?=/|$)   # a scheme
    | \*\*\*@ [^/]*                                                     # an account that is masked
    | : (?! [0-9a-f]{1,2} (?![a-z0-9]) | $ )                            # unlike 10:03:07, usb-0:2:1.0
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Where the path of a file turns out to be a mistyped address, or of another program."""
_AFTER_SCHEME = re.compile(r"(?<=@)[^/@]+$|(?<![^\s/:\\])[\w.*-]+(?::\d{1,5})?$")
"""The host in a match of `_IN_PATH`."""
_WITHOUT = r"[^=&;@#%:\s]"
_PATTERN = re.compile(
    rf"\?(?:{_WITHOUT}*\*{_WITHOUT}*|(?:[\w.-]{{0,2}}[/?])*[\w.-]{{0,2}}|{_WITHOUT}*\.(?:mp4|mkv|avi|mov|ts|jpe?g|png))"
)
"""From a ? on: a pattern of files, not a query."""
_NAME_WITH_AT = re.compile(r"@.*|.*\.(?:mp4|mkv|avi|mov|m4v|m2?ts|webm|mpe?g|jpe?g|png|bmp|webp)")
_DATE = re.compile(r"[\d_-]{1,10}")
_ELEMENT = re.compile(r"[A-Za-z][\w-]{0,40}|[().]")
_KNOWN_ELEMENT = re.compile(
    r"[a-z][a-z0-9_]*(?:src|sink|dec(?:oder)?|enc(?:oder)?|parse|depay|pay|mux|convert|conv|scale|rate|bin[23]?|"
    r"buffer|queue2?|tee|identity|filter|valve|crop|flip)|queue2?|tee|[a-z]{1,5}|[().]"
)
_CAPS = re.compile(r"(video|image|application|audio|multipart)/[\w.-]+(\(memory:\w+\))?")
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')+""", re.DOTALL)


def show_source(spec: str) -> str:
    """Return what is shown of a source: in logs, errors, states, over HTTP and MQTT.

    What may be shown is listed, everything else is `***`: of an address the scheme, host and port, and words
    of the path that cameras use themselves; of a GStreamer pipeline the elements, and properties that hold
    no secrets; of the path of a file the names, but no account, query or setting in it, since a mistyped
    address is a path. `spec` need not have been tidied. Showing what was shown changes nothing.
    """
    return _split_source(spec)[0]


def show_setting(text: str) -> str:
    """Return what is shown of a setting that may be an address by mistake: `show_source` of what has the
    signs of addresses."""
    return show_source(text) if re.search(r"[@:?=&]", text) else text


def register_label(host: str) -> None:
    """Mask the parts of a host's name, or the name of a user, that look like a token from now on."""
    for label in host.split("."):
        if not _is_plain_label(label) and not re.fullmatch(r"[\d:\[\]]*", label):
            register_secret(label)


def register_source(spec: str) -> None:
    """Mask what `show_source` hides of a source from now on, whoever repeats it."""
    for text in _split_source(spec)[1]:
        values = [part.partition("=")[2] or part for part in re.split(r"[/?#&,;]", text)]
        pieces = {part for value in values for part in (value, *re.split(r"[:@]", value))}
        for bare in {piece.strip("\"'") for piece in (text, *pieces)}:
            for form in {bare, unquote(bare), re.sub(r"\\(.)", r"\1", bare)}:
                word = form.strip(":@")  # `rtsp:` is no secret, and blanking it would spoil every address
                if not _is_plain(word) and not _NO_SECRET.fullmatch(word):
                    register_secret(form)


def _split_source(spec: str) -> tuple[str, list[str]]:
    """Return what is shown of a source, and the parts that are not."""
    shown, hidden = _split_once(spec)
    # What is shown may be taken for another kind of source, so until nothing changes.
    while (again := _split_once(shown))[0] != shown:
        shown, hidden = again[0], hidden + again[1]
    return shown, hidden


def _split_once(spec: str) -> tuple[str, list[str]]:
    hidden: list[str] = []
    kind = ""
    while not kind.endswith(("gst:", "file://")) and (prefix := _PREFIX.match(spec)) is not None:
        kind, spec = kind + prefix[1].lower(), spec[prefix.end() :]
    if kind.endswith("gst:") or re.search(r"\s!\s", spec):  # or a pipeline without its gst:
        return kind + _show_pipeline(spec, hidden), hidden
    if _DEMO.match(spec):
        return kind + SECRET_WORDS.sub(rf"\1{MASK}", spec), hidden
    if kind.endswith("file://"):
        return kind + _show_path(spec, hidden, of_file=True), hidden
    if (url := _URL.fullmatch(spec.strip())) is not None:
        return kind + _show_url(url, hidden), hidden
    return kind + _show_path(spec, hidden), hidden


def _show_path(text: str, hidden: list[str], *, of_file: bool = False) -> str:
    """Return a path without what may be secret; it may be a mistyped address unless it is certainly
    `of_file`."""
    if re.fullmatch(r"/dev/[\w/.:@+-]+", text):
        return text
    account = re.search(r"[^/]*:.*@", text, re.DOTALL)
    if account is None and not _NAME_WITH_AT.fullmatch(text.split("/")[0]):
        account = re.match(r"[^/]+@", text)
    if account is not None:
        if account.group() != f"{MASK}@":
            hidden.append(account.group()[:-1])
        text = f"{text[: account.start()]}{MASK}{text[account.end() - 1 :]}"
    text, query = _split_query(text)
    if query not in ("", "?"):
        hidden.append(query[1:])
        query = f"?{MASK}"
    address = None if of_file else _IN_PATH.search(text)
    if address is None:
        return _show_names(text, hidden) + query
    before, found, rest = text[: address.start()], address.group(), text[address.end() :]
    found = _AFTER_SCHEME.sub(lambda host: _show_host(host.group(), hidden), found)
    first, slash, rest = rest.partition("/")
    if first not in ("", MASK):
        hidden += [first, *first.split()]
        first = MASK
    return _show_names(before, hidden) + found + first + slash + _show_segments(rest, hidden) + query


def _split_query(text: str) -> tuple[str, str]:
    """Return a path and what follows it from the first ? on that is no sign of a pattern."""
    marks = (mark.start() for mark in re.finditer(r"\?", text))
    queries = (at for at in marks if text[at + 1 :] == MASK or not _PATTERN.fullmatch(text, at))
    at = next(queries, len(text))
    return text[:at], text[at:]


def _show_names(path: str, hidden: list[str]) -> str:
    """Return the names of folders and files, without accounts and settings among them."""
    shown = []
    for name in path.split("/"):
        before, at, after = name.rpartition("@")
        if before and before != MASK and not _NAME_WITH_AT.fullmatch(name):
            hidden.append(before)
            name = MASK + at + after
        key, equals, value = name.partition("=")
        if equals and not (_is_plain(value) or _DATE.fullmatch(value)):
            hidden.append(name)
            name = f"{key}={MASK}" if re.fullmatch(r"[\w .-]{1,40}", key) else MASK
        shown.append(name)
    return "/".join(shown)


def _show_segments(path: str, hidden: list[str]) -> str:
    """Return the path of an address with the words that cameras use themselves."""
    segments = path.split("/")
    hidden += [segment for segment in segments if not _is_plain(segment)]
    return "/".join(segment if _is_plain(segment) else MASK for segment in segments)


def _show_url(url: re.Match[str], hidden: list[str]) -> str:
    scheme, authority, path, query = url.groups()
    if "@" in path + query:  # parsers differ in what the host is then
        hidden.append(authority + path + query)
        return scheme + MASK
    user, at, host = authority.rpartition("@")
    if at:
        # A server is told both in base64.
        hidden += [user, b64encode(unquote(user).encode()).decode()]
    host = _show_host(host, hidden)
    shown = _show_segments(path, hidden)
    if len(query) > 1:
        hidden.append(query[1:])
    return f"{scheme}{MASK if at else ''}{at}{host}{shown}{query[:1]}{MASK if len(query) > 1 else ''}"


def _is_plain(text: str) -> bool:
    """Return whether a segment of a path has words and short numbers of cameras only."""
    if text == MASK:
        return True
    parts = [part.lower() for part in _PLAIN_PARTS.split(text)]
    plain = (part in PLAIN_WORDS or _is_numbered(part) for part in parts)
    return all(plain) and sum(character.isdigit() for character in text) <= 6


def _is_numbered(part: str) -> bool:
    match = _NUMBERED.fullmatch(part)
    return match is not None and (not match[1] or match[1] in PLAIN_WORDS)


def _show_pipeline(text: str, hidden: list[str]) -> str:
    """Return a pipeline with the values of unlisted properties, and words of unknown meaning, masked."""
    words = _WORD.findall(text)
    rest = _WORD.sub("", text).strip()
    if rest:  # a quote without its end
        hidden += [text, *text.split()]
        return MASK
    # GStreamer allows blanks around =.
    joined = re.sub(r"\s+=\s*|(?<=[\w-])=\s+", "=", text)
    if joined != text and "".join(_WORD.findall(joined)) == "".join(words):
        words = _WORD.findall(joined)
    names = {f"{word[5:]}." for word in words if word.startswith("name=") and _is_name(word[5:])}
    shown: list[str] = []
    expects = "element"
    for word in words:
        bare = word[1:-1] if word[0] in "\"'" and word[0] == word[-1] else word
        if word in "!:":
            expects = "element"
        elif expects != "property" and _CAPS.match(bare) or expects == "caps":
            word, expects = _show_caps(bare, hidden), "caps"
        elif "=" in word:
            key, _, value = word.partition("=")
            word = _show_property(key, value, hidden)
        elif expects == "element" and _is_element(word, shown):
            expects = "element" if word in "()." else "property"
        elif word not in names and word != MASK:
            hidden.append(word)
            word = MASK
        shown.append(word)
    return " ".join(shown)


def _is_element(word: str, before: list[str]) -> bool:
    """Return whether a word is the name of an element. Behind a hidden value and a ! only an element that
    is known by its ending: the ! may be part of a password without quotes."""
    pattern = _KNOWN_ELEMENT if before[-1:] == ["!"] and before[-2:][0].endswith(MASK) else _ELEMENT
    return pattern.fullmatch(word) is not None


def _is_name(text: str) -> bool:
    """Return whether text is what elements are named, as t, pay0 or src_1."""
    return re.fullmatch(r"[a-z]{1,5}_?\d{0,2}", text) is not None or _is_plain(text)


def _is_listed(key: str, value: str) -> bool:
    """Return whether a property of an element holds no secret: it is listed, and so is its value."""
    if key == "name":
        return _is_name(value)
    if key == "device":
        return _DEVICE.fullmatch(value) is not None
    if key == "format":
        return _FORMAT.fullmatch(value) is not None or value in _VALUES
    if key in _NUMERIC and _NUMBER.fullmatch(value):
        return True
    if key in _CHOSEN:
        chosen = value.lower().split("+")
        return all(part in _VALUES or _ENCODING.fullmatch(part) or _NUMBER.fullmatch(part) for part in chosen)
    return False


def _show_property(key: str, value: str, hidden: list[str]) -> str:
    plain = value.strip("\"'")
    if plain == MASK or _is_listed(key, plain):
        return f"{key}={value}"
    if key in ("location", "uri"):
        url = _URL.fullmatch(plain)
        if url is not None:
            return f"{key}={_show_url(url, hidden)}"
        if plain and not re.search(r"[\"'\\]", plain):
            quote = value[:1] if re.search(r"\s", plain) else ""
            return f"{key}={quote}{_show_path(plain, hidden)}{quote}"
    elif key in ("host", "address"):
        return f"{key}={_show_host(plain, hidden)}"
    elif key == "caps":
        return f"{key}={_show_caps(plain, hidden)}"
    hidden.append(value)
    return f"{key if re.fullmatch(r'[a-z][a-z0-9:._-]{0,40}', key) else MASK}={MASK}"


def _show_caps(caps: str, hidden: list[str]) -> str:
    parts = []
    for part in re.split(r"(,\s*|;\s*)", caps):
        key, equals, value = part.partition("=")
        value = re.sub(r"^\(\w+\)", "", value)  # its type
        listed = _is_listed(key.strip(), value) if equals else _CAPS.fullmatch(key)
        if listed or part == MASK or not part.strip(",; "):
            parts.append(part)
        else:
            hidden.append(part)
            parts.append(MASK)
    return "".join(parts)


def _show_host(host: str, hidden: list[str]) -> str:
    """Return a host and its port; of a name, the labels that are made of words and short numbers.

    Some services give everybody a secret name, as tunnels and remote access do.
    """
    if _HOST.fullmatch(host) is None:
        hidden.append(host)
        return MASK
    if host.startswith("["):
        return host
    name, colon, port = host.partition(":")
    labels = name.split(".")
    hidden += [label for label in labels if not _is_plain_label(label)]
    shown = (label if _is_plain_label(label) else MASK for label in labels)
    return ".".join(shown) + colon + port


def _is_plain_label(label: str) -> bool:
    return label.isdecimal() and len(label) < 4 or _LABEL.fullmatch(label) is not None
