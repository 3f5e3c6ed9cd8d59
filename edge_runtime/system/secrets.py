"""Values that came from the environment never leave the process in words.

A configuration names a secret as `${NAME}`; its value is noted here when it is put in. Whatever is printed
for people (one-sentence errors, the log, refusals over HTTP) goes through `masked` at the door, so that it
does not depend on every sentence in between being careful. A setting that is nothing but a secret should be a
pydantic `SecretStr` on top of that.
"""

from __future__ import annotations

import re
import threading
from urllib.parse import quote, quote_plus

MASK = "***"
LEAST = 4
"""Characters: a shorter value would blank half of every sentence, and is no secret."""

_lock = threading.Lock()
# Of the whole process on purpose: a secret is one wherever it turns up.
_values: set[str] = set()


def keep_secret(value: str) -> None:
    """Blank `value` from now on, also as it looks in a URL, in `repr` and line by line."""
    forms = {value, quote(value, safe=""), quote(value), quote_plus(value), repr(value)[1:-1]}
    forms |= {line.strip() for line in value.splitlines()}
    with _lock:
        _values.update(form for form in forms if len(form) >= LEAST)


def masked(text: str) -> str:
    """`text` with every secret replaced by ***."""
    with _lock:
        values = sorted(_values, key=len, reverse=True)  # the longest first: one may hold another
    for value in values:
        text = text.replace(value, MASK)
    return text


SECRET_WORDS = re.compile(r"(?i)((?:pass(?:word|wd)?|pwd|token|secret|auth|key)[=:])[^&/;\s]*")


def redacted(text: str) -> str:
    """`text` with the credentials of every URL in it blanked: `rtsp://***@host/live?***`.

    Everything up to the last @ goes, since passwords hold @ and / more often than they should.
    """
    text = re.sub(r"(\b\w{1,20}://)\S*@", r"\1***@", text)
    text = re.sub(r"(\b\w{1,20}://[^\s?]*\?)\S+", r"\1***", text)
    return SECRET_WORDS.sub(r"\1***", text)
