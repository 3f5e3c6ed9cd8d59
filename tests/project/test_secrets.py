"""Secrets are planted wherever a source, a broker, a proxy or a client gives one; nothing may repeat them."""

import http.server
import io
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request

import pytest
import typer
from PIL import Image

from edge_runtime.config.paths import default_state_folder
from edge_runtime.interfaces.cli import main
from edge_runtime.interfaces.cli.error_exit import run_app
from edge_runtime.persistence import Header, is_same_source
from edge_runtime.sources import canonicalise, open_source
from edge_runtime.system import secrets
from edge_runtime.system.secrets import hide_secrets, register_source, show_source
from engines.errors import LvmError
from tests.support.broker import Broker, Subscriber, free_port, need_mosquitto, wait_until

COMMAND = [sys.executable, "-m", "edge_runtime.interfaces.cli.main"]
SECRETS = {
    "password": "Xq1pass",
    "key in the path": "Kq2pathKey",
    "query": "Tq3token",
    "blank": "Bq4 two words",
    "gst user": "Uq5gstUser",
    "gst password": "Gq6 gst pass",
    "gst proxy": "Pq7proxy",
    "passphrase": "Sq8longPassphrase",
    "environment": "Eq9 environment",
    "broker": "Mq10 broker pass",
    "token": "Hq11" + "t" * 40,
    "proxy": "Rq12proxyPass",
    "no scheme": "Nq13query",
    "followed": "Fq14sig",
    "file on a server": "Lq15share",
    "blank before gst": "Cq16sig",
    "capital GST": "Gq17capital",
    "refused": "Zq18refused",
    "gst name": "Nq19name",
    "gst host": "Hq20host",
    "gst location": "Lq21location",
    "name of a host": "Tq22tunnel7x",
    "user of the broker": "Uq23accessToken",
    "pattern of sources": "Aq24allowed",
    "host of a pipeline": "Pq25tunnel",
    "behind a !": "Eq26behind",
}


@pytest.fixture
def camera_port():
    """A camera that gives one JPEG a request."""
    picture = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(picture, "JPEG")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(picture.getvalue())))
            self.end_headers()
            self.wfile.write(picture.getvalue())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def _configuration(folder, camera_port: int, broker_port: int, http_port: int) -> str:
    s, dead = SECRETS, free_port()
    sources = {
        "picture": f"http://me:{s['password']}@127.0.0.1:{camera_port}/{s['key in the path']}/snap.jpg"
        f"?token={s['query']}",
        "blank": f"rtsp://bob:{s['blank']}@127.0.0.1:{dead}/live",
        "gst": f"gst:rtspsrc location=rtsp://127.0.0.1:{dead}/live user-id={s['gst user']} "
        f'user-pw="{s["gst password"]}" proxy-pw={s["gst proxy"]} ! decodebin',
        "srt": f"srt://127.0.0.1:{dead}?passphrase={s['passphrase']}",
        "env": "${CAMERA_SOURCE}",
        "bare": f"127.0.0.1/snap.cgi?usr=admin&pw={s['no scheme']}",
        "followed": f"follow:http://127.0.0.1:{dead}/f.mp4?sig={s['followed']}",
        "share": f"file://u:{s['file on a server']}@nas/f.mp4",
        "indented": f' gst:uridecodebin uri="rtsp://127.0.0.1:{dead}/l?sig={s["blank before gst"]}" ! a',
        "capital": f"GST:rtspsrc location=rtsp://127.0.0.1:{dead}/l user-pw={s['capital GST']} ! decodebin",
        "named": f"gst:tcpclientsrc name={s['gst name']} host=u:{s['gst host']}@127.0.0.1 ! decodebin",
        "located": f"gst:souphttpsrc location=127.0.0.1/cam?{s['gst location']} ! decodebin",
        "tunnel": f"http://{s['name of a host']}.invalid/live",
        "tunnel2": f"gst:rtspsrc location=rtsp://{s['host of a pipeline']}.invalid/live ! decodebin",
        "bang": f"gst:rtspsrc user-pw=my ! {s['behind a !']} location=rtsp://127.0.0.1:{dead}/l ! decodebin",
    }  # fmt: skip
    settings = {
        "cameras": {name: {"source": source} for name, source in sources.items()},
        "state": {"directory": str(folder / "state")},
        "http": {
            "listen": f"127.0.0.1:{http_port}",
            "tokens": [{"name": "all", "role": "admin", "token": s["token"]}],
            "allow_sources": [f"10.0.0.*/snap?pw={s['pattern of sources']}"],
        },
        "mqtt": {
            "enabled": True, "host": "127.0.0.1", "port": broker_port, "username": s["user of the broker"],
            "password": s["broker"], "stats_interval_s": 1, "discovery": {"enabled": True},
        },
        "logs": {"file": str(folder / "run.log"), "level": "debug"},
    }  # fmt: skip
    return json.dumps(settings)  # which is YAML too


def test_no_planted_secret_comes_out_anywhere(tmp_path, camera_port):
    need_mosquitto()
    said: dict[str, str] = {}
    file, port = tmp_path / "kiosk.yaml", free_port()
    proxy = f"http://px:{SECRETS['proxy']}@127.0.0.1:{free_port()}"
    environment = os.environ | {
        "CAMERA_SOURCE": f"rtsp://cam:{SECRETS['environment']}@127.0.0.1:{free_port()}/live",
        "https_proxy": proxy, "http_proxy": proxy, "no_proxy": "127.0.0.1",
    }  # fmt: skip

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        return done.stdout + done.stderr

    def get(path: str, put: str | None = None) -> str:
        headers = {"Authorization": f"Bearer {SECRETS['token']}", "X-LVM-Edge": "1"}
        data, method = (None, "GET") if put is None else (put.encode(), "PUT")
        if put is not None:
            headers["Content-Type"] = "application/yaml"
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as reply:
            return reply.read().decode()

    with Broker(tmp_path) as broker, Subscriber(broker.port) as ear:
        file.write_text(_configuration(tmp_path, camera_port, broker.port, port))
        with (tmp_path / "said").open("wb") as out:
            run = subprocess.Popen(
                [*COMMAND, "-v", "run", "--config", str(file), "--backend", "onnxruntime"],
                env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
        try:
            wait_until(
                lambda: (
                    json.loads(ear.last("lvm/stats") or "{}")
                    .get("cameras", {})
                    .get("picture", {})
                    .get("frames")
                ),
                lambda: f"a picture: {(tmp_path / 'said').read_text()[-2000:]}",
                60,
            )
            wait_until(lambda: '"why": "' in get("/api/v1/cameras") or '"why":"' in get("/api/v1/cameras"),
                       "a reason", 60)  # fmt: skip
            for number, source in enumerate(_mistyped(SECRETS["refused"])):
                written = json.dumps({"cameras": {"picture": {"source": source}}})
                with pytest.raises(urllib.error.HTTPError) as refused:
                    get("/api/v1/config", written)
                said[f"PUT {number}"] = refused.value.read().decode()
            for path in (
                "cameras", "status", "config", "info", "events/history", "answers", "activities", "log"
            ):  # fmt: skip
                try:
                    said[path] = get(f"/api/v1/{path}")
                except urllib.error.HTTPError as error:
                    said[path] = error.read().decode()
            said["metrics"] = get("/metrics")
        finally:
            run.send_signal(signal.SIGTERM)
            run.wait(30)
        said["mqtt"] = "\n".join(f"{topic} {payload!r}" for topic, payload, _ in ear.messages)
    said["printed"] = (tmp_path / "said").read_text()
    said["log"] = (tmp_path / "run.log").read_text()
    state = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert any(path.parent.name == "picture" for path in state), "the camera that works was watched"
    said["state"] = "\n".join(f"{path} {path.read_bytes()!r}" for path in state)
    said["check-config"] = call("check-config", "--show", str(file))
    said["status"] = call("status", "--state", str(tmp_path / "state" / "picture"))
    assert "/snap.cgi?***" in said["log"] and "there is no source" in said["cameras"]
    assert "http://***@127.0.0.1" in said["status"] and "gst:rtspsrc" in said["check-config"]
    assert "lvm/stats" in said["mqtt"] and "rtsp://***@" in said["cameras"]
    for place, text in said.items():
        for name, secret in SECRETS.items():
            for form in (secret, secret.replace(" ", "%20"), secret.replace(" ", "+")):
                assert form not in text, f"{name} is in {place}"


def _mistyped(secret: str) -> list[str]:
    return [
        f"127.0.0.1/snap.cgi?usr=admin&pw={secret}",
        f"follow:http://127.0.0.1:9/f.mp4?sig={secret}",
        f"follow:file://u:{secret}@nas/f.mp4",
        f"file://u:{secret}@nas/f.mp4",
        f"rtsp//127.0.0.1:9/live?auth={secret}",
        f"127.0.0.1:554/{secret}/live",
        f"cam.local/user=admin_password={secret}_channel=1",
    ]


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("10.0.0.5/snap.cgi?usr=admin&pw=tl", "10.0.0.5/snap.cgi?***"),
        ("/here/10.0.0.5/snap.cgi?usr=admin&pw=tl", "/here/10.0.0.5/snap.cgi?***"),
        ("cam.local:554/Zk3jq9vXk2/live", "cam.local:554/***/live"),
        ("h/live?sig=tl", "h/live?***"),
        ("h/live?Zk3jq9vXk2", "h/live?***"),
        ("/dev/video0?x=tl", "/dev/video0?***"),
        ("follow:http://h/film.mp4?sig=tl", "follow:http://h/***?***"),
        ("FOLLOW: file://u:tl@nas/f.mp4", "follow:file://***@nas/f.mp4"),
        ("/here/http:/h/film.mp4?sig=tl", "/here/http:/h/***?***"),
        ("file://tl@nas/f.mp4", "file://***@nas/f.mp4"),
        ("file:///films/f.mp4", None),
        ("GST:rtspsrc user-pw=tl ! x", "gst:rtspsrc user-pw=*** ! x"),
        (' gst:uridecodebin uri="rtsp://h/l?sig=tl"', "gst:uridecodebin uri=rtsp://h/***?***"),
        ("exec:ffmpeg -headers 'Authorization: Bearer tl' -i x", "exec:***"),
        ("rtsp//h/tlZk3/live", "rtsp//h/***/live"),
        ("-i rtsp://h/l7/live", "-i rtsp://h/***/live"),
        ("10.0.0.5/user=admin_password=tl_channel=1", "10.0.0.5/***"),
        ("/here/nas/user=admin_password=tl_channel=1", "/here/nas/user=***"),
        ("tlZk3@nas/f", "***@nas/***"),
        ("/films/Müller's day (2)/10:03:07.mp4", None),
        ("/films/camera=front/date=2024-11-26/10.mp4", None),
        ("/rec/cam?/2024-11-2?_*.mp4", None),
        ("/rec/cam?.mp4", None),
        ("/rec/@eaDir/a.jpg", None),
        ("/rec/192.168.1.20/2024-11-26/a.mp4", None),
        ("/dev/v4l/by-path/pci-0000:00:14.0-usb-0:2:1.0-video-index0", None),
        ("pictures of a Python program", None),
        ("rtsp://10.0.0.5:554/Streaming/Channels/101", None),
        ("rtsp://cam.local/h264Preview_01_main", None),
        ("rtsp://[fe80::1%eth0]:554/stream1", None),
        ("rtsp://user:pass@cam/live", "rtsp://***@cam/live"),
        ("rtsp://user:a b@c@cam/live", "rtsp://***@cam/live"),
        ("rtsp://user:p@ss/wo?rd@cam/live", "rtsp://***"),
        ("http://cam/mjpeg?token=a@b", "http://***"),
        ("https://abcdefghijklmnopqrstuvwxyz012345.ui.nabu.casa/", "https://***.ui.nabu.casa/"),
        ("http://3f2a85c4b1.tunnel.example:8080/live", "http://***.tunnel.example:8080/live"),
        ("Xq1pass.tunnel.example:8080/live", "***.tunnel.example:8080/live"),
        ("rtsp://axis-00408c123456.local/axis-media/media.amp", None),
        ("rtsp://Kamera-Eingang.fritz.box:554/live", None),
        ("rtsp://ec2-3-12-4-5.compute-1.amazonaws.com/live", None),
        ("http://nvr:8080/Zk3jq9vXk2/mjpeg/yard7x/mon", "http://nvr:8080/***/mjpeg/***/***"),
        ("rtsp://cam/user=admin&password=tl&channel=1", "rtsp://cam/***"),
        ("rtmp://a.example/live/sk_82kdhw", "rtmp://a.example/live/***"),
        ("ftp://u:pw@cam/film.mp4", "ftp://***@cam/***"),
        ("admin:hunter22@10.0.0.3/live", "***@10.0.0.3/live"),
        ("rtsp:/u:hunter22@cam/live", "***@cam/live"),
        ("gst:v4l2src device=/dev/video0 ! video/x-raw, width=6 ! tee name=t ! queue t. ! x", None),
        ("gst:nvcamerasrc ! video/x-raw(memory:NVMM),width=19 ! x", None),
        ("gst:a location=rtsp://u:p@h/cam user-pw=x ! y", "gst:a location=rtsp://***@h/cam user-pw=*** ! y"),
        ("gst:souphttpsrc user-pw = abc user-id='d e' ! y", "gst:souphttpsrc user-pw=*** user-id=*** ! y"),
        (r"gst:rtspsrc user-pw=a\ b passphrase=c ! y", "gst:rtspsrc user-pw=*** passphrase=*** ! y"),
        ("gst:rtspsrc user-pw=not quoted ! y", "gst:rtspsrc user-pw=*** *** ! y"),
        ('gst:rtspsrc user-pw="no end ! y', "gst:***"),
        (
            'gst:x extra-headers="h,Authorization=(string)\\"Basic YWJj\\"" cookies=a;b ! y',
            "gst:x extra-headers=*** cookies=*** ! y",
        ),
        ("gst:a name=Xq1pass host=Xq1pass ! Xq1pass.", "gst:a name=*** host=*** ! ***"),
        ("gst:tcpclientsrc host=u:Xq1pass@h port=5 ! x", "gst:tcpclientsrc host=*** port=5 ! x"),
        ("gst:filesrc location=u:Xq1@h/film ! x", "gst:filesrc location=***@h/*** ! x"),
        ("gst:filesrc location=/f?token=Xq1 ! x", "gst:filesrc location=/f?*** ! x"),
        ("gst:rtspsrc location=rtsp://Xq1pass.io/live ! x", "gst:rtspsrc location=rtsp://***.io/live ! x"),
        ("gst:a device=Xq1pass pattern=Xq1pass ! x", "gst:a device=*** pattern=*** ! x"),
        ("gst:a caps=video/x-raw,format=Xq1pass ! x", "gst:a caps=video/x-raw,*** ! x"),
        ("gst:rtspsrc user-pw=my ! Xq1pass ! rtpjpegdepay", "gst:rtspsrc user-pw=*** ! *** ! rtpjpegdepay"),
        ('gst:filesrc location="/my films/a.mp4" ! decodebin', None),
        ("gst:tcpclientsrc name=src_1 host=10.0.0.5 port=5 ! src_1. ! jpegdec", None),
        ("gst:rtspsrc protocols=tcp+udp latency=200 ! rtph264depay ! avdec_h264 ! videoconvert", None),
        ('gst:srtsrc uri="srt://h:1?passphrase=abc" ! y', "gst:srtsrc uri=srt://h:1?*** ! y"),
        ("/videos/a@b.mp4", None),
        ("demo?seed=3", None),
        ("/dev/video0", None),
    ],
)  # fmt: skip
def test_what_is_shown_of_a_source_is_listed(source, shown):
    assert show_source(source) == (shown or source)
    assert show_source(show_source(source)) == show_source(source)


@pytest.mark.parametrize(
    "source",
    [
        "rtsph://u:Vq1mist@cam/live",
        "rtsp:/u:Vq1mist@cam/live",
        "u:Vq1mist@cam/live",
        "ftp://cam/?key=Vq1mist",
        *_mistyped("Vq1mist"),
    ],
)
def test_a_mistyped_source_is_named_without_its_password(source):
    with pytest.raises(LvmError) as caught:
        open_source(canonicalise(source), sample_fps=1.0)
    assert "Vq1mist" not in str(caught.value) and "there is no source" in str(caught.value)
    assert "Vq1mist" not in default_state_folder(canonicalise(source)).name


@pytest.mark.parametrize("source", _mistyped("Vq2mist"))
def test_commands_do_not_repeat_what_is_mistyped(source, tmp_path, capfd):
    file = tmp_path / "kiosk.yaml"
    file.write_text(json.dumps({"cameras": {"one": {"source": source, "title": "rtsp://u:Vq2mist@h"}}}))
    shown = _run("check-config", "--show", str(file), capfd=capfd)
    assert "source: " in shown and "there is no file" in shown and "Vq2mist" not in shown
    state = ("--state", str(tmp_path / "state"))
    said = _run("run", "--source", source, *state, "--backend", "onnxruntime", capfd=capfd)
    assert "there is no source" in said and "***" in said and "Vq2mist" not in said


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("u:Vq3url@127.0.0.1:9", "got '***@127.0.0.1:9'"),
        ("http://u:Vq3url@127.0.0.1:9", "got 'http://***@127.0.0.1:9'"),
        ("h?token=Vq3url&sig=Vq3url", "got 'h?***'"),
        ("http://127.0.0.1:9/?a=Vq3url", "got 'http://127.0.0.1:9/?***"),
        ("htp://h/Vq3url", "got 'htp://h/***'"),
        ("http://127.0.0.1:Vq3url", "got 'http://***'"),
        ("http://127.0.0.1:9/Vq3url", "no lvm-edge answers at http://127.0.0.1:9/***"),
    ],
)
def test_an_address_of_a_server_is_shown_as_a_source_is(url, shown, capfd):
    for command in (("status",), ("activities",), ("ask", "time", "--activity", "drink")):
        said = _run(*command, "--url", url, capfd=capfd)
        assert shown in said and "Vq3url" not in said


def _run(*arguments: str, capfd) -> str:
    """Run a command in this process, which has forgotten all secrets; return what it printed."""
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(secrets, "_values", set())
        patched.setattr(sys, "argv", ["lvm-edge", *arguments])
        patched.setattr(threading, "excepthook", threading.excepthook)
        patched.setattr(sys, "unraisablehook", sys.unraisablehook)
        run_app(main.app, "lvm-edge")
    said = capfd.readouterr()
    return said.out + said.err


def test_what_others_say_of_a_source_is_masked():
    register_source('gst:rtspsrc user-pw="Wq2 gst pw" location=rtsp://h/Wq3key/live ! x')
    register_source("rtsp://me:Wq4%40url@cam/live")
    text = 'no property "Wq2 gst pw"; could not open Wq3key; Basic bWU6V3E0QHVybA==; Wq4@url'
    assert hide_secrets(text) == 'no property "***"; could not open ***; Basic ***; ***'
    assert hide_secrets("mqtt.password: a word and 12 of live") == "mqtt.password: a word and 12 of live"


def test_two_sources_that_are_shown_alike_are_two_and_another_password_is_the_same_one():
    fields = {"model": "m", "bundle": "b", "sampler": "fifo", "epoch": 0.0, "sample_fps": 1.0}
    header = Header(source="rtsp://u:one@nvr/7fhq2k", **fields)
    assert header.source == "rtsp://***@nvr/***"
    again = Header.model_validate_json(header.model_dump_json())
    assert again == header
    assert is_same_source(again, source="rtsp://u:two@nvr/7fhq2k")
    assert not is_same_source(again, source="rtsp://u:one@nvr/9xkw3d")
    old = json.loads(header.model_dump_json(exclude={"source_id"})) | {"source": "rtsp://***@nvr/7fhq2k"}
    assert is_same_source(Header.model_validate(old), source="rtsp://u:one@nvr/7fhq2k")


def test_a_crash_of_the_program_or_of_a_thread_shows_no_secret(capfd, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x"])
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setenv("HTTPS_PROXY", "http://px:Yq1proxy pw@127.0.0.1:9")
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        register_source("rtsp://me:Yq2 crash@cam/live")
        thread = threading.Thread(target=lambda: (_ for _ in ()).throw(KeyError("Yq2 crash, Yq1proxy pw")))
        thread.start()
        thread.join()
        raise ValueError("cannot open rtsp://me:Yq2 crash@cam/live by Yq1proxy pw")

    with pytest.raises(SystemExit) as ended:
        run_app(app, "x")
    said = capfd.readouterr().err
    assert ended.value.code == 1 and "KeyError" in said and "ValueError" in said
    assert "Yq1" not in said and "Yq2" not in said


@pytest.mark.parametrize(
    "settings",
    [
        {"mqtt": {"client_id": "u:Vq5conf@b"}},
        {"mqtt": {"port": "1883:Vq5conf"}},
        {"mqtt": {"username": "Vq5conf"}},
        {"mqtt": {"host": "Vq5conf.broker.example"}},
        {"mqtt": {"topic_prefix": "mqtt://u:Vq5conf@b/#"}},
        {"http": {"listen": "u:Vq5conf@0.0.0.0:80"}},
        {"http": {"trusted_proxies": ["u:Vq5conf@10.0.0.1"]}},
        {"http": {"allowed_frames": ["u:Vq5conf@x.example"]}},
        {"http": {"hosts": ["u:Vq5conf@x.example"]}},
        {"http": {"root_path": "/kiosk?token=Vq5conf"}},
        {"http": {"allow_sources": ["gst:rtspsrc user-pw=Vq5conf *", "rtsp://u:Vq5conf@10.0.0.*"]}},
        {"http": {"tokens": [{"name": "a:Vq5conf@", "token": "t" * 40}]}},
        {"objects": {"catalogue": "smb://u:Vq5conf@nas/x"}},
        {"state": {"encryption": {"key_file": "u:Vq5conf@nas"}}},
        {"cameras": {"a": {"source": "0", "connection": {"transport": "tcp:Vq5conf"}}}},
        {"cameras": {"a": "rtsp://u:Vq5conf@h/l"}},
    ],
    ids=str,
)
def test_a_secret_in_the_wrong_setting_is_not_repeated(settings, tmp_path, capfd):
    file = tmp_path / "kiosk.yaml"
    file.write_text(json.dumps(settings))
    said = _run("check-config", "--show", str(file), capfd=capfd)
    assert said and "Vq5conf" not in said
