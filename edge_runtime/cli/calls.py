"""Calls to a running lvm-edge: JSON there and back, and every refusal as the sentence that it is."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_runtime.answers import Answer
from edge_runtime.cli.question import Words
from edge_runtime.secret import keep_secret
from engines.errors import LvmError, Missing

EXAMPLE = "http://127.0.0.1:8971"
TOKEN = "LVM_EDGE_TOKEN"
"""Environment variable with the token of a service that wants one."""
_TIMEOUT_S = 60.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token is not carried to wherever an answer points."""

    def redirect_request(self, *_: Any) -> None:
        return None


def call(
    method: str, url: str, path: str, body: object = None, token: str | None = None, ca: Path | None = None
) -> Any:
    """What `url` answers to the request as Python values.

    `token` is by default that of the environment, `ca` a file with the certificate to check https by. Raises
    LvmError for an address that is none and with what the service refuses, Missing where nobody answers.
    """
    data = None if body is None else json.dumps(body).encode()
    try:
        request = urllib.request.Request(_checked(url) + path, data, _headers(token), method=method)
        with _opener(ca).open(request, timeout=_TIMEOUT_S) as reply:
            return json.loads(reply.read())
    except urllib.error.HTTPError as error:
        raise LvmError(f"{url}: {_said(error)}") from None
    except json.JSONDecodeError:
        raise LvmError(f"{url} gave no answer that this version understands") from None
    except (ValueError, http.client.InvalidURL) as error:
        raise LvmError(f"--url must be like {EXAMPLE}, got {url!r}: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        raise Missing(f"no lvm-edge answers at {url}: {getattr(error, 'reason', error)}") from None


def ask_over_http(words: Words, url: str, token: str | None = None, ca: Path | None = None) -> Answer:
    """As `call`, for a question."""
    try:
        return Answer.model_validate(call("POST", url, "/api/v1/query", _fields(words), token, ca))
    except ValidationError:
        raise LvmError(f"{url} gave no answer that this version understands") from None


def curl_command(words: Words, url: str, *, token: bool, ca: Path | None = None) -> str:
    """The same question for curl; photos go as files, the token is that of LVM_EDGE_TOKEN."""
    parts = ["curl", "--fail-with-body", _checked(url) + "/api/v1/query"]
    if ca is not None:
        parts += ["--cacert", str(ca)]
    if words.photos:
        without = {key: value for key, value in _fields(words).items() if key != "object"}
        parts += ["--form-string", f"query={json.dumps(without)}"]
        for photo in words.photos:
            parts += ["--form", f'photos=@"{photo}"']
    else:
        parts += ["--json", json.dumps(_fields(words))]
    command = " ".join(map(shlex.quote, parts))
    return f'{command} -H "Authorization: Bearer ${TOKEN}"' if token else command


def _fields(words: Words) -> dict[str, Any]:
    return words.body() | ({"camera": words.camera} if words.camera else {})


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise LvmError(f"--url must be like {EXAMPLE}, got {url!r}")
    return url.rstrip("/")


def _headers(token: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "X-LVM-Edge": "1"}
    if token := token or os.environ.get(TOKEN):
        if not (token.isascii() and token.isprintable()):
            raise LvmError("the token has characters that no token has; copy it again")
        keep_secret(token)
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _opener(ca: Path | None) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if ca is not None:
        try:
            context = ssl.create_default_context(cafile=str(ca))
        except OSError as error:  # ssl.SSLError is one
            raise LvmError(f"--ca {ca}: no certificates in PEM there ({error})") from None
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def _said(error: urllib.error.HTTPError) -> str:
    try:
        said = str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}"
    return f"{said}; set {TOKEN} in the environment" if error.code == 401 else said
