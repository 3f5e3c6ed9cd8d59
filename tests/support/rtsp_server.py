"""Two RTSP servers on loopback for the tests, run by a Python with PyGObject: prints their ports, lives 60 s.

`rtsp://127.0.0.1:PORT/live` of the first is open, `/udp` sends over UDP only; the second server wants user
"kiosk", password "p@ss/word".
"""

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

PICTURES = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1 "
    "! x264enc tune=zerolatency key-int-max=25 ! rtph264pay name=pay0 config-interval=1 )"
)


def serve(auth: GstRtspServer.RTSPAuth | None) -> GstRtspServer.RTSPServer:
    server = GstRtspServer.RTSPServer(service="0", address="127.0.0.1")
    factory = GstRtspServer.RTSPMediaFactory(launch=PICTURES, shared=True)
    if auth:
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        for permission in ("media.factory.access", "media.factory.construct"):
            permissions.add_permission_for_role("owner", permission, True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/live", factory)
    udp = GstRtspServer.RTSPMediaFactory(launch=PICTURES, shared=True)
    udp.set_protocols(GstRtsp.RTSPLowerTrans.UDP)
    server.get_mount_points().add_factory("/udp", udp)
    server.attach(None)
    return server


def main() -> None:
    Gst.init(None)
    auth = GstRtspServer.RTSPAuth()
    owner = GstRtspServer.RTSPToken()
    owner.set_string("media.factory.role", "owner")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("kiosk", "p@ss/word"), owner)
    servers = [serve(None), serve(auth)]
    print(*(server.get_bound_port() for server in servers), flush=True)
    loop = GLib.MainLoop()
    GLib.timeout_add_seconds(60, loop.quit)
    loop.run()


main()
