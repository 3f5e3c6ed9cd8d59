"""Calls to a running lvm-edge: JSON there and back, and every refusal as the sentence that it is."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from typing import Any

from edge_runtime.secret import keep_secret
from engines.errors import LvmError, Missing

EXAMPLE = "http://127.0.0.1:8971"
TOKEN = "LVM_EDGE_TOKEN"
"""Environment variable with the token of a service that wants one."""
_TIMEOUT_S = 30.0


def call(method: str, url: str, path: str, body: object = None) -> Any:
    """What `url` answers to the request as Python values.

    Raises LvmError for an address that is none and with what the service refuses, Missing where nobody
    answers.
    """
    if not url.startswith(("http://", "https://")):
        raise LvmError(f"--url must be like {EXAMPLE}, got {url!r}")
    data = None if body is None else json.dumps(body).encode()
    try:
        request = urllib.request.Request(url.rstrip("/") + path, data, _headers(), method=method)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as reply:
            return json.loads(reply.read())
    except urllib.error.HTTPError as error:
        raise LvmError(f"{url}: {_said(error)}") from None
    except json.JSONDecodeError:
        raise LvmError(f"{url} gave no answer that this version understands") from None
    except (ValueError, http.client.InvalidURL) as error:
        raise LvmError(f"--url must be like {EXAMPLE}, got {url!r}: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        raise Missing(f"no lvm-edge answers at {url}: {getattr(error, 'reason', error)}") from None


def _headers() -> dict[str, str]:
    headers = {"Content-Type": "application/json", "X-LVM-Edge": "1"}
    if token := os.environ.get(TOKEN):
        keep_secret(token)
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}"
