"""The `connection:` section of a camera: how its stream is opened, and with how much patience."""

from __future__ import annotations

from pydantic import Field

from edge_runtime.sources.live_source import SourceKind, Supervision, Transport
from edge_runtime.system.validation import StrictModel

MAX_PATIENCE_S = 3600.0


class ConnectionSettings(StrictModel):
    """How a stream is opened and read. A file takes `video_track` only."""

    transport: Transport = Field(
        default="auto", description="of RTSP; auto: TCP, and UDP where the camera refuses TCP"
    )
    open_timeout_s: float = Field(
        default=10.0, ge=0.5, le=MAX_PATIENCE_S, description="time for connecting and recognising the stream"
    )
    first_picture_timeout_s: float = Field(
        default=20.0, ge=1, le=MAX_PATIENCE_S, description="time until the first picture, connecting included"
    )
    read_timeout_s: float = Field(
        default=5.0,
        ge=0.5,
        le=MAX_PATIENCE_S,
        description="time without data; a camera of one picture in 12 s needs more than 12",
    )
    video_track: int | None = Field(
        default=None, ge=1, le=64, description="of several, from 1; default: the best that is a film"
    )

    def supervise(self, kind: SourceKind, *, first_must_open: bool) -> Supervision:
        """Return these settings for a source of this kind."""
        usual = Supervision()
        slow = self.read_timeout_s > usual.read_timeout_s
        return Supervision(
            kind=kind,
            transport=self.transport,
            open_timeout_s=self.open_timeout_s,
            first_picture_timeout_s=self.first_picture_timeout_s,
            read_timeout_s=self.read_timeout_s,
            picture_timeout_s=max(usual.picture_timeout_s, 2 * self.read_timeout_s),
            stalled_after_s=self.read_timeout_s if slow else usual.stalled_after_s,
            video_track=self.video_track,
            first_must_open=first_must_open,
        )


def merge_connection(
    defaults: ConnectionSettings | None, own: ConnectionSettings | None
) -> ConnectionSettings:
    """Return a camera's own settings, else those of `defaults`, one by one."""
    chosen = [settings.model_dump(exclude_unset=True) for settings in (defaults, own) if settings is not None]
    return ConnectionSettings.model_validate({key: value for each in chosen for key, value in each.items()})
