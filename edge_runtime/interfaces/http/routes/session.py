"""Sign in and out: the session of the page, which is a cookie."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_runtime.config.access_tokens import MAX_TOKEN_CHARACTERS, Role
from edge_runtime.interfaces.http.auth import SESSION_S, AccessControl, session_cookie, session_cookie_header
from edge_runtime.interfaces.http.openapi import accepts, json_body
from edge_runtime.interfaces.http.request_bodies import BodyReader
from engines.errors import LvmError


class SignIn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    token: str = Field(min_length=1, max_length=MAX_TOKEN_CHARACTERS)


class Session(BaseModel):
    """`role` is null before signing in; `required` says whether tokens are configured."""

    role: Role | None
    required: bool


def add_session_routes(
    app: FastAPI, access: AccessControl, bodies: BodyReader, allowed_frames: Sequence[str] = ()
) -> None:
    framed = any(origin != "'self'" for origin in allowed_frames)

    def _set_cookie(request: Request, response: Response, value: str, max_age_s: int = SESSION_S) -> None:
        path, secure = request.scope.get("root_path", "") + "/", request.url.scheme == "https"
        response.headers["Set-Cookie"] = session_cookie_header(
            value, path, secure=secure, framed=framed, max_age_s=max_age_s
        )

    @app.get("/api/v1/session", response_model=Session)
    async def session(request: Request) -> Session:
        holder = request.scope.get("holder")
        return Session(role=holder.role if holder else None, required=bool(access.tokens))

    @app.post("/api/v1/session", response_model=Session, **accepts(json_body(SignIn)))
    async def sign_in(request: Request, response: Response) -> Session:
        async with bodies.read(request) as body:
            try:
                credentials = SignIn.model_validate_json(body)
            except ValidationError:
                # The input is not repeated: it may be most of a token.
                raise LvmError('sign in with {"token": "…"}') from None
        if not access.tokens:
            return Session(role="admin", required=False)
        holder = access.sign_in(credentials.token, request.client.host if request.client else "unknown")
        _set_cookie(request, response, access.sessions.begin(holder))
        return Session(role=holder.role, required=True)

    @app.delete("/api/v1/session", response_model=Session)
    async def sign_out(request: Request, response: Response) -> Session:
        value = session_cookie(request.headers)
        if value:
            access.sessions.end(value)
        _set_cookie(request, response, "", max_age_s=0)
        return Session(role=None if access.tokens else "admin", required=bool(access.tokens))
