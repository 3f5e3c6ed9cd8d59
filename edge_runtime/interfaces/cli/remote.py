"""Call the HTTP API of a running lvm-edge. Its error messages are raised as LvmError."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_runtime.interfaces.cli.query_text import QueryText
from edge_runtime.query.answers import Answer
from edge_runtime.system.secrets import register_secret, register_source, show_source
from engines.errors import LvmError, Unavailable

EXAMPLE = "http://127.0.0.1:8971"
TOKEN = "LVM_EDGE_TOKEN"
"""Environment variable with the access token."""
_TIMEOUT_S = 60.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which would send the token to another server."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class Server:
    """A running lvm-edge: its address, the access token, and the certificate to verify it with."""

    url: str
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    """File of a certificate in PEM, for https."""

    @property
    def masked_url(self) -> str:
        """What messages say of the address."""
        return show_source(self.url)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send a request and return the JSON of the response.

        Raises LvmError with the server's message or for an invalid address, Unavailable if nothing answers.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(
                _check_url(self.url) + path, data, _make_headers(self.token), method=method
            )
            with _make_opener(self.ca).open(request, timeout=_TIMEOUT_S) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise LvmError(f"{self.masked_url}: {_error_message(error)}") from None
        except json.JSONDecodeError:
            raise self.bad_response() from None
        except (ValueError, http.client.InvalidURL):
            raise LvmError(f"--url must be like {EXAMPLE}, got {self.masked_url!r}") from None
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(getattr(error, "reason", error)) from None

    def ask(self, question: QueryText) -> Answer:
        """Ask a question. Raises as `call`."""
        try:
            return Answer.model_validate(self.call("POST", "/api/v1/query", _make_body(question)))
        except ValidationError:
            raise self.bad_response() from None

    def _no_answer(self, reason: object) -> LvmError:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return LvmError(
                f"the certificate of {self.masked_url} is not trusted here, {reason.verify_message}; "
                "name its file with --ca, or in SSL_CERT_FILE"
            )
        why = reason.strerror if isinstance(reason, OSError) and reason.strerror else reason
        return Unavailable(
            f"no lvm-edge answers at {self.masked_url}: {why}; lvm-edge run says at its start where it "
            "answers"
        )

    def bad_response(self) -> LvmError:
        return LvmError(f"{self.masked_url} gave an answer that this version does not understand")


def resolve_server(url: str | None, token: str | None, ca: Path | None, **local: object) -> Server | None:
    """Return the running lvm-edge that --url names, or None.

    `local` are options that name something on this machine instead. Raises LvmError if both are given.
    """
    if url is None:
        return None
    given = [name for name, value in local.items() if value is not None]
    if given:
        raise LvmError(f"name --url or --{given[0]}, not both: a running lvm-edge has its own")
    return Server(url, token, ca)


def make_curl_command(question: QueryText, server: Server) -> str:
    """Return a question as a curl command; photos are sent as files, the token is $LVM_EDGE_TOKEN."""
    parts = ["curl", "--fail-with-body", _check_url(server.url) + "/api/v1/query"]
    if server.ca is not None:
        parts += ["--cacert", str(server.ca)]
    if question.photos:
        without = {key: value for key, value in _make_body(question).items() if key != "object"}
        parts += ["--form-string", f"query={json.dumps(without)}"]
        for photo in question.photos:
            parts += ["--form", f'photos=@"{photo}"']
    else:
        parts += ["--json", json.dumps(_make_body(question))]
    command = " ".join(map(shlex.quote, parts))
    return f'{command} -H "Authorization: Bearer ${TOKEN}"' if server.token else command


def _make_body(question: QueryText) -> dict[str, Any]:
    return question.body() | ({"camera": question.camera} if question.camera else {})


def _check_url(url: str) -> str:
    if not url.startswith(("http://", "https://")) or re.search(r"[@?#]", url):
        register_source(url)
        raise LvmError(f"--url must be like {EXAMPLE}, got {show_source(url)!r}")
    return url.rstrip("/")


def _make_headers(token: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "X-LVM-Edge": "1"}
    if token:
        if not (token.isascii() and token.isprintable()):
            raise LvmError("the token has characters that no token has; copy it again")
        register_secret(token)
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _make_opener(ca: Path | None) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if ca is not None:
        try:
            context = ssl.create_default_context(cafile=str(ca))
        except OSError as error:  # ssl.SSLError is one
            raise LvmError(f"--ca {ca}: no certificates in PEM there ({error})") from None
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def _error_message(error: urllib.error.HTTPError) -> str:
    try:
        message = str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}"
    return f"{message}; set {TOKEN} in the environment" if error.code == 401 else message
