"""Calls to a running lvm-edge: JSON there and back, and every refusal as the sentence that it is."""

from __future__ import annotations

import http.client
import json
import shlex
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_runtime.interfaces.cli.query_text import Words
from edge_runtime.query.answers import Answer
from edge_runtime.system.secrets import keep_secret
from engines.errors import LvmError, Unavailable

EXAMPLE = "http://127.0.0.1:8971"
TOKEN = "LVM_EDGE_TOKEN"
"""Environment variable with the token of a service that wants one."""
_TIMEOUT_S = 60.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token is not carried to wherever an answer points."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class Server:
    """A running lvm-edge: its address, the token that it wants, and what to check its https by."""

    url: str
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    """File with a certificate."""

    def call(self, method: str, path: str, body: object = None) -> Any:
        """What it answers to the request, as Python values.

        Raises LvmError for an address that is none and with what it refuses, Unavailable where nobody answers.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(
                _checked(self.url) + path, data, _headers(self.token), method=method
            )
            with _opener(self.ca).open(request, timeout=_TIMEOUT_S) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError as error:
            raise LvmError(f"{self.url}: {_said(error)}") from None
        except json.JSONDecodeError:
            raise self.not_understood() from None
        except (ValueError, http.client.InvalidURL) as error:
            raise LvmError(f"--url must be like {EXAMPLE}, got {self.url!r}: {error}") from None
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(getattr(error, "reason", error)) from None

    def ask(self, words: Words) -> Answer:
        """As `call`, for a question."""
        try:
            return Answer.model_validate(self.call("POST", "/api/v1/query", _fields(words)))
        except ValidationError:
            raise self.not_understood() from None

    def _silent(self, reason: object) -> LvmError:
        """What to say where no answer came."""
        if isinstance(reason, ssl.SSLCertVerificationError):
            return LvmError(
                f"the certificate of {self.url} is not trusted here, {reason.verify_message}; "
                "name its file with --ca, or in SSL_CERT_FILE"
            )
        return Unavailable(f"no lvm-edge answers at {self.url}: {reason}")

    def not_understood(self) -> LvmError:
        """What to say of an answer that is none."""
        return LvmError(f"{self.url} gave no answer that this version understands")


def server_of(url: str | None, token: str | None, ca: Path | None, **here: object) -> Server | None:
    """The running lvm-edge that --url names, None without.

    `here` are values of options that name something on this machine instead. Raises LvmError for both.
    """
    if url is None:
        return None
    named = [name for name, value in here.items() if value is not None]
    if named:
        raise LvmError(f"name --url or --{named[0]}, not both: a running lvm-edge has its own")
    return Server(url, token, ca)


def curl_command(words: Words, server: Server) -> str:
    """The same question for curl; photos go as files, the token is that of LVM_EDGE_TOKEN."""
    parts = ["curl", "--fail-with-body", _checked(server.url) + "/api/v1/query"]
    if server.ca is not None:
        parts += ["--cacert", str(server.ca)]
    if words.photos:
        without = {key: value for key, value in _fields(words).items() if key != "object"}
        parts += ["--form-string", f"query={json.dumps(without)}"]
        for photo in words.photos:
            parts += ["--form", f'photos=@"{photo}"']
    else:
        parts += ["--json", json.dumps(_fields(words))]
    command = " ".join(map(shlex.quote, parts))
    return f'{command} -H "Authorization: Bearer ${TOKEN}"' if server.token else command


def _fields(words: Words) -> dict[str, Any]:
    return words.body() | ({"camera": words.camera} if words.camera else {})


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise LvmError(f"--url must be like {EXAMPLE}, got {url!r}")
    return url.rstrip("/")


def _headers(token: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "X-LVM-Edge": "1"}
    if token:
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
