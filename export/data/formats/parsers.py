"""List the formats that can be read, by name."""

from __future__ import annotations

from export.data.formats.activitynet import read_activitynet
from export.data.formats.ava import read_ava
from export.data.formats.coco import read_coco
from export.data.formats.cvat import read_cvat
from export.data.formats.elan import read_elan
from export.data.formats.forms import Parser
from export.data.formats.label_studio import read_label_studio
from export.data.formats.mot import read_mot
from export.data.formats.via import read_via
from export.data.formats.yolo import read_yolo

PARSERS: dict[str, Parser] = {
    "cvat": read_cvat,
    "coco": read_coco,
    "yolo": read_yolo,
    "mot": read_mot,
    "label-studio": read_label_studio,
    "activitynet": read_activitynet,
    "ava": read_ava,
    "via": read_via,
    "elan": read_elan,
}
