"""Routes of the configuration: read it, read its schema, and replace it as an admin.

A PUT sends the whole file as a person writes it, so comments and `${NAME}` are kept; the previous file
stays beside it as .bak. It may change cameras and their defaults only: paths, addresses and tokens are
changed in the file. A new source must match a pattern of `http.allow_sources`.
"""

from __future__ import annotations

import fnmatch
import os
import re
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from edge_runtime.config.schema import MAX_CONFIG_BYTES, Config, load_config
from edge_runtime.interfaces.http.auth import Forbidden
from edge_runtime.interfaces.http.errors import NotFound
from edge_runtime.interfaces.http.openapi import accepts, documented
from edge_runtime.interfaces.http.request_bodies import BodyReader
from edge_runtime.interfaces.http.schemas import ConfigPut
from edge_runtime.service.run import Run
from edge_runtime.system.secrets import MASK, hide_secrets, mask_secrets
from engines.errors import LvmError
from engines.fsync import fsync_folder

CHANGES = ("cameras", "defaults")
"""Sections that a PUT may change."""


def add_config_routes(app: FastAPI, run: Run, bodies: BodyReader) -> None:
    writing = threading.Lock()

    @app.get("/api/v1/config", **documented(dict[str, Any]))
    def config() -> Any:
        """The configuration in use, secrets and credentials masked."""
        return _masked(run.settings.model_dump(mode="json"))

    @app.get("/api/v1/config/schema.json", **documented(dict[str, Any]))
    def schema() -> dict[str, Any]:
        """The JSON schema of the configuration."""
        return Config.model_json_schema()

    @app.put(
        "/api/v1/config",
        **documented(ConfigPut),
        **accepts({"application/yaml": {"schema": {"type": "string"}}}),
    )
    async def put(request: Request) -> dict[str, Any]:
        async with bodies.read(request, MAX_CONFIG_BYTES) as body:
            return await run_in_threadpool(_locked, body)

    def _locked(body: bytes) -> dict[str, Any]:
        with writing:
            return put_config(run, body)


def put_config(run: Run, text: bytes) -> dict[str, Any]:
    """Replace the file and apply its cameras. Raises LvmError, and then changes nothing."""
    if run.config_file is None or run.reload is None:
        raise NotFound("there is no configuration file to write: this run was not started with --config FILE")
    file = run.config_file.resolve()
    new = file.with_name(f".{file.name}.new")
    try:
        _write(new, text, file.stat().st_mode & 0o777)
        try:
            new_config = load_config(new)
        except LvmError as error:
            raise LvmError(str(error).replace(str(new), "configuration")) from None
        _check(run.settings, new_config)
        backup = file.with_name(f"{file.name}.bak")
        _write(backup, file.read_bytes(), file.stat().st_mode & 0o777)
        os.replace(new, file)
        fsync_folder(file.parent)
    except OSError as error:
        raise LvmError(
            f"the configuration cannot be written: {error.strerror}; change {file} by hand and reload, or "
            "keep it in a folder of the service's own"
        ) from None
    finally:
        if os.path.lexists(
            new
        ):  # checked first: where nothing can be written, nothing can be unlinked either
            new.unlink()
    return {"written": str(file), "backup": str(backup), "problems": run.reload()}


def _write(file: Path, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(file, flags, mode), "wb") as opened:
        os.fchmod(opened.fileno(), mode)
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())


def _check(now: Config, new_config: Config) -> None:
    """Raise Forbidden for what only the file itself may change."""
    for section in Config.model_fields:
        if section not in CHANGES and getattr(now, section) != getattr(new_config, section):
            raise Forbidden(f"{section} can be changed in the file itself only, and by a restart")
    for name, camera in new_config.cameras.items():
        before = now.cameras.get(name)
        if camera.state != (before.state if before is not None else None):
            raise Forbidden(f"cameras.{name}.state can be changed in the file itself only")
        source = str(camera.source)
        if before is not None and source == str(before.source):
            continue
        if MASK in source:
            raise LvmError(
                f"cameras.{name}.source was masked when it was read: write it whole or as ${{NAME}}"
            )
        if not is_allowed_source(source, now.http.allow_sources):
            raise Forbidden(f"cameras.{name}.source matches no pattern of http.allow_sources")


def is_allowed_source(source: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a source matches one of the patterns; URLs are compared without user and password."""
    if re.search(r"[\s\\\x00-\x1f\x7f]", source) and not source.startswith("gst:"):
        return False
    if "://" in source and not source.startswith("gst:"):
        try:
            parts = urlsplit(source)
            if parts.netloc.count("@") > 1:  # parsers differ in which @ ends the password
                return False
            source = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        except ValueError:
            return False
    return any(fnmatch.fnmatchcase(source, pattern) for pattern in patterns)


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            mask_secrets(str(key)): MASK if key == "token_hash" and item else _masked(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return hide_secrets(value) if isinstance(value, str) else value
