"""Read the time zones that recorders write into the names of files and folders: `CET`, `EST5EDT`, `+0100`."""

from __future__ import annotations

import re
from datetime import timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

HOURS = {
    "UTC": 0, "GMT": 0, "CET": 1, "CEST": 2, "MEZ": 1, "MESZ": 2, "EET": 2, "EEST": 3, "MSK": 3, "SAST": 2,
    "EST": -5, "EDT": -4, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "AKST": -9, "AKDT": -8,
    "HST": -10, "PKT": 5, "WIB": 7, "HKT": 8, "SGT": 8, "AWST": 8, "JST": 9, "KST": 9, "ACST": 9.5,
    "ACDT": 10.5, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13,
}  # fmt: skip
"""Hours ahead of UTC. Names that mean several zones (CST, IST, BST) or a side of a house (WEST) are missing:
they are local time."""
_REGIONS = "Africa America Antarctica Asia Atlantic Australia Europe Indian Pacific US Etc".split()
_SIGNED = r"[+-](?:0\d|1[0-4])[-_.:]?(?:00|15|30|45)|[+](?:0\d|1[0-4])"
OFFSET = (
    rf"(?:{_SIGNED})(?![-_.:]?\d)|(?:[Uu][Tt][Cc]|GMT)(?:(?:{_SIGNED})(?![-_.:]?\d)|[+-](?:\d|1[0-4])(?!\d))"
)
"""A pattern of `+0100`, `-05-00`, `+01`, `UTC+0100` and `GMT-5`."""
NAME = (
    rf"(?:Z|[Uu][Tt][Cc]|{'|'.join(HOURS)}|[A-Z]{{3}}\d{{1,2}}[A-Z]{{3}}"
    rf"|(?:{'|'.join(_REGIONS)})(?:[-_][A-Z][A-Za-z]+){{1,3}})(?![A-Za-z0-9])"
)
"""A pattern of names: `Z`, `CET`, `EST5EDT`, `Europe_Berlin`."""


def read_zone(text: str) -> tzinfo | None:
    """Return the zone of a text that `OFFSET` or `NAME` matched; None for one that is not known here."""
    if (offset := re.fullmatch(r"[A-Za-z]*([+-])(\d{1,2})[-_.:]?(\d\d)?", text)) is not None:
        ahead = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
        return timezone(-ahead if offset[1] == "-" else ahead)
    if text == "Z":
        return timezone.utc
    if text.upper() in HOURS:
        return timezone(timedelta(hours=HOURS[text.upper()]))
    parts = re.split(r"[-_]", text)
    # Europe_Berlin_Door: what follows the zone is not known from it.
    for count in range(len(parts), 0, -1):
        name = "_".join(parts[:count]).replace("_", "/", 1)
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            continue
    return None
