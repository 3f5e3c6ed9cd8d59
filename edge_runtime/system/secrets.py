"""Keep secrets from the environment, and credentials in URLs, out of everything that is printed.

A configuration names a secret as `${NAME}`; its value is registered here when it is inserted. All text for
people (error messages, the log, HTTP errors) passes `mask_secrets` where it leaves the process, so that no
message has to take care of it. A setting that is nothing but a secret should be a pydantic `SecretStr` as
well.
"""

from __future__ import annotations

import re
import threading
from urllib.parse import quote, quote_plus

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
    """Return `text` with the credentials of every URL blanked: `rtsp://***@host/live?***`.

    Everything up to the last @ is removed, since passwords contain @ and / often enough.
    """
    text = re.sub(r"(\b\w{1,20}://)\S*@", r"\1***@", text)
    text = re.sub(r"(\b\w{1,20}://[^\s?]*\?)\S+", r"\1***", text)
    return SECRET_WORDS.sub(r"\1***", text)
