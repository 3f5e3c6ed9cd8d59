"""Fuzz annotation files: a line with the format's name, and any bytes that become records of a video.

`map` is a map of labels, `rest` a file of ReST's questions. In folders (yolo, mot) files are set apart by a
line `--`, and one that begins with `#NAME` has that name.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from engines.errors import LvmError
from export.data.files import write_annotations
from export.data.formats.forms import Report, VideoAnnotations
from export.data.formats.parsers import PARSERS
from export.data.importing import ImportRules, import_annotations, read_annotations
from export.data.label_map import LabelMap, Meaning, read_label_map
from export.data.records import Classes, NamedActivity, Video
from export.data.rest_questions import import_questions
from export.data.timeline import VideoClock
from tools.fuzzing.mutate import mutate_bytes, mutate_json

CLOCK = VideoClock(
    Video(video="v", path="v", fps=25.0, width=200, height=100, duration_s=10.0, split="train"),
    [number / 25 for number in range(250)],
)
KINDS = (*PARSERS, "map", "rest")
BESIDE = {
    "yolo": ("data.yaml", "obj.names", "classes.txt"),
    "mot": ("seqinfo.ini", "labels.txt"),
}
"""Files of a folder that are no annotations, but say what those mean."""
KEYS = (
    "images annotations categories videos bbox bboxes image_id category_id video_id track_id frame_id "
    "file_name sequence ranges start end frame enabled labels timelinelabels framesCount duration x y width "
    "height value result database segment label subset metadata attribute file view vid z xy av fid_list "
    "qid type q_s q_e t_s t_e activities instance crop boxes happened duration tick5"
).split()
WORDS = tuple(
    word.encode()
    for word in (
        "<track <box </track> <image <tag/> <mask <ellipse <polygon <skeleton frame= outside= xtl= points= "
        "<ANNOTATION_DOCUMENT> <TIER> <ALIGNABLE_ANNOTATION <REF_ANNOTATION TIME_SLOT_REF1= ANNOTATION_REF= "
        "TIME_ORIGIN= TIME_VALUE= <!DOCTYPE <!ENTITY &a; &#0; <![CDATA[ ]]> <?xml encoding='utf-16'?> nan -1 "
        "1e400 999999999999 0 , ; \n ' 250 249 -0.5 0.5,0.5,0.6,0.6 inf 1e-320 \u2028 \x1b[31m"
    ).split(" ")
)


class Target:
    max_bytes = 4096

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "case"
        self._data = folder / "data"
        classes = Classes(activities=(NamedActivity(id=0, name="take", doing="taking it"),))
        drawn = CLOCK.video.model_copy(update={"path": None, "seed": 0})  # which needs no file
        write_annotations(self._data, [drawn], [], [], classes)

    def seeds(self) -> list[bytes]:
        return [seed.encode() for seed in SEEDS]

    def mutate(self, data: bytes, rng: Random) -> bytes | None:
        kind, _, content = data.partition(b"\n")
        changed = mutate_json(content, rng, KEYS) if rng.random() < 0.6 else None
        if changed is None:
            changed = (
                _change_number(content, rng) if rng.random() < 0.3 else mutate_bytes(content, rng, WORDS)
            )
        return kind + b"\n" + changed

    def run(self, data: bytes) -> None:
        name, _, content = data.partition(b"\n")
        kind = name.decode("latin-1")
        if kind not in KINDS:
            kind = KINDS[len(content) % len(KINDS)]
        path = self._write(kind, content)
        report = Report()
        if kind in PARSERS:
            self._import(kind, path, report)
        else:
            with _check_place(self._folder):
                if kind == "map":
                    read_label_map(path)
                else:
                    import_questions([path], self._data, report)
        for sentence in report.problems:
            assert str(self._folder) in sentence, "a problem names no file"
        for sentence in (*report.problems, *report.notes):
            assert sentence.isprintable() and len(sentence) < 500, "a report is no sentence"

    def _import(self, kind: str, path: Path, report: Report) -> None:
        with _check_place(self._folder):
            annotations = read_annotations(kind, [path], report)
        labels = LabelMap({"milk": Meaning(product="milk"), "take": Meaning("take")})
        imported = import_annotations(annotations, _find, labels, ImportRules(), report)
        for event in imported.events:
            assert 0 <= event.t_s < event.t_e <= CLOCK.end + 0.2, "an event lies outside the video"
        for track in imported.tracks:
            assert 0 <= track.tick5 <= CLOCK.end * 5 + 1, "a box lies outside the video"

    def _write(self, kind: str, content: bytes) -> Path:
        """Write the case as a file, or as the folder that its format has, and return what to read."""
        if kind in BESIDE:
            shutil.rmtree(self._folder, ignore_errors=True)
            (self._folder / "gt").mkdir(parents=True)
            for number, part in enumerate(content.split(b"\n--\n")[:10], 1):
                line, _, rest = part.partition(b"\n")
                name = line[1:].decode("latin-1")
                if name in BESIDE[kind]:
                    (self._folder / name).write_bytes(rest)
                else:
                    own = f"v_{number}.txt" if kind == "yolo" else "gt/gt.txt"
                    (self._folder / own).write_bytes(part)
            return self._folder
        file = self._folder.with_suffix(".file")
        file.write_bytes(content)
        return file


def _find(annotations: VideoAnnotations) -> VideoClock:
    return CLOCK


@contextmanager
def _check_place(folder: Path) -> Iterator[None]:
    """Check that a refusal says which file is wrong."""
    try:
        yield
    except LvmError as error:
        assert str(folder) in str(error), f"a refusal names no file: {error}"
        raise


_DIGITS = re.compile(rb"-?\d+(?:\.\d+)?")


def _change_number(content: bytes, rng: Random) -> bytes:
    """Replace a number in text by one that is out of place."""
    found = list(_DIGITS.finditer(content))
    if not found:
        return content
    match = rng.choice(found)
    other = rng.choice((b"-1", b"0", b"1e9", b"nan", b"250", b"249", b"9" * 40, b"0.5", b"", b"1e-9", b"100"))
    return content[: match.start()] + other + content[match.end() :]


def _json(kind: str, content: object) -> str:
    return f"{kind}\n{json.dumps(content)}"


_META = (
    "<meta><task><id>1</id><source>v</source><size>250</size><original_size><width>200</width>"
    "<height>100</height></original_size></task></meta>"
)
_SIDES = 'xtl="20" ytl="10" xbr="60" ybr="60"'
_RESULTS = [
    {"id": "a", "type": "videorectangle", "value": {
        "framesCount": 240, "duration": 10.0, "labels": ["milk"], "sequence": [
            {"frame": 1, "enabled": True, "x": 1, "y": 2, "width": 30, "height": 40},
            {"frame": 9, "enabled": False, "x": 5, "y": 2, "width": 30, "height": 40},
        ]}},
    {"id": "b", "value": {"ranges": [{"start": 3, "end": 9}], "timelinelabels": ["take"]}},
]  # fmt: skip
SEEDS = (
    f'cvat\n<annotations><version>1.1</version>{_META}<track id="0" label="milk"><box frame="0" keyframe="1" '
    f'outside="0" occluded="0" {_SIDES}><attribute name="a">take</attribute></box>'
    '<polygon frame="9" outside="0" '
    'points="1,2;3,4;9,9"/><box frame="20" outside="1" xtl="1" ytl="1" xbr="9" '
    'ybr="9"/></track></annotations>',
    f'cvat\n<annotations><image id="0" name="frame_000004" width="200" '
    f'height="100"><box label="take" {_SIDES}/>'
    '<tag label="wave"/><mask label="x" left="1" top="1" width="9" height="9" '
    'rle="1"/></image></annotations>',
    _json(
        "coco",
        {
            "categories": [{"id": 1, "name": "wave"}],
            "images": [{"id": n, "file_name": f"v_{n}.jpg", "width": 200, "height": 100} for n in range(3)],
            "annotations": [
                {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 30, 40], "track_id": 1}
                for n in range(3)
            ],
        },
    ),
    _json(
        "coco",
        {
            "categories": [{"id": 1, "name": "wave"}],
            "videos": [{"id": 1, "width": 200, "height": 100, "file_names": ["v/0.jpg", "v/5.jpg"]}],
            "annotations": [{"id": 1, "video_id": 1, "category_id": 1, "bboxes": [[1, 2, 30, 40], None]}],
        },
    ),
    "yolo\n0 0.5 0.5 0.2 0.2 0.9 3\n1 0.1 0.1 0.2 0.2\n--\n0 0.4 0.5 0.2 0.2 3\n0 .1 .1 .2 .2 .3 .3 .1 .3",
    "yolo\n0 0.5 0.5 0.2 0.2\n--\n#data.yaml\npath: .\nnames: {0: take, 1: milk}\n",
    "yolo\n#obj.names\nmilk\ntake\n--\n1 0.5 0.5 0.2 0.2\n",
    "mot\n#seqinfo.ini\n[Sequence]\nname=v\nframeRate=25\nseqLength=250\nimWidth=200\nimHeight=100\n--\n"
    "#labels.txt\nmilk\ntake\n--\n1,1,20,10,40,50,1,2,1.0\n9,1,22,10,40,50,1,2,0.4\n",
    "map\nactivities:\n  take: [pick up, grab]\n  return:\nproducts: {milk: [carton]}\n"
    "both: {take milk: [take, milk]}\nignore: [person]\nother: product\ndoing: {take: taking it}\n",
    _json(
        "rest",
        [
            {
                "qid": "q",
                "video": "v",
                "type": "object",
                "duration": "short",
                "q_s": 0,
                "q_e": 9,
                "t_s": 1,
                "t_e": 3,
                "activities": ["take"],
                "boxes": {"5": [0.1, 0.1, 0.2, 0.2]},
            },
            {
                "qid": "r",
                "video": "v",
                "type": "time",
                "q_s": 0,
                "q_e": 9,
                "activities": [0],
                "instance": 0,
                "crop": {"tick5": 5, "box": [0.1, 0.1, 0.2, 0.2]},
                "happened": False,
            },
        ],
    ),
    "mot\n1,1,20,10,40,50,1,1,1.0\n2,1,22,10,40,50,1,1,0.4\n5,2,20,10,40,50,0,2,1\n",
    _json("label-studio", [{"data": {"video": "/data/upload/v.mp4"}, "annotations": [{"result": _RESULTS}]}]),
    _json(
        "activitynet",
        {"database": {"v": {"subset": "training", "annotations": [{"label": "wave", "segment": [1.5, 3]}]}}},
    ),
    "ava\nv,0003,0.1,0.1,0.3,0.6,12,7\nv,0004,0.2,0.1,0.4,0.6,12,7\nv,0004,0.2,0.1,0.4,0.6,,8\n",
    _json(
        "via",
        {
            "attribute": {"1": {"aname": "a", "type": 4, "options": {"1": "wave", "2": "milk"}}},
            "file": {"1": {"fid": 1, "fname": "v", "type": 4}},
            "view": {"1": {"fid_list": [1]}},
            "metadata": {
                "a": {"vid": "1", "z": [1, 2.5], "xy": [], "av": {"1": "1"}},
                "b": {"vid": "1", "z": [3], "xy": [2, 10, 10, 20, 20], "av": {"1": "2"}},
            },
        },
    ),
    'elan\n<ANNOTATION_DOCUMENT><HEADER><MEDIA_DESCRIPTOR MEDIA_URL="file:///v" TIME_ORIGIN="20"/></HEADER>'
    '<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="900"/><TIME_SLOT TIME_SLOT_ID="c"/>'
    '<TIME_SLOT TIME_SLOT_ID="b" TIME_VALUE="2000"/></TIME_ORDER><TIER><ANNOTATION><ALIGNABLE_ANNOTATION '
    'ANNOTATION_ID="1" TIME_SLOT_REF1="a" TIME_SLOT_REF2="c"><ANNOTATION_VALUE>take</ANNOTATION_VALUE>'
    '</ALIGNABLE_ANNOTATION></ANNOTATION><ANNOTATION><REF_ANNOTATION ANNOTATION_ID="2" ANNOTATION_REF="1">'
    "<ANNOTATION_VALUE>milk</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>",
)
