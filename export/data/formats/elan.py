"""Read ELAN's .eaf: annotations of tiers, in milliseconds of the video.

Every annotation with a value is a label; an annotation that refers to another has its time, and its value
is a further label of it. Time slots without a time lie evenly between their neighbours, as ELAN shows them.
A video's TIME_ORIGIN is added: ELAN's times begin there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from export.data.formats.forms import InvalidFile, ReadOptions, Report, Span, VideoAnnotations
from export.data.formats.reading import Element, Foreign, parse, read_xml

MAX_CHAIN = 20
"""Annotations that refer to one another; tiers are nested less deep."""
Milliseconds = Annotated[int, Field(ge=0, le=10**12)]


class _Slot(Foreign):
    TIME_SLOT_ID: str
    TIME_VALUE: Milliseconds | None = None


class _Media(Foreign):
    MEDIA_URL: str = ""
    RELATIVE_MEDIA_URL: str = ""
    MIME_TYPE: str = ""
    TIME_ORIGIN: Annotated[int, Field(ge=-(10**12), le=10**12)] = 0


class _Aligned(Foreign):
    ANNOTATION_ID: str
    TIME_SLOT_REF1: str
    TIME_SLOT_REF2: str


class _Reference(Foreign):
    ANNOTATION_ID: str
    ANNOTATION_REF: str


def read_elan(path: Path, report: Report, options: ReadOptions) -> list[VideoAnnotations]:
    """Read an .eaf file. Raises InvalidFile."""
    root = read_xml(path)
    if root.name != "ANNOTATION_DOCUMENT":
        raise InvalidFile(root.place, f"expected ELAN's <ANNOTATION_DOCUMENT>, got <{root.name}>")
    media = _find_media(root, report)
    origin = media.TIME_ORIGIN / 1000.0
    hints = tuple(hint for hint in (media.RELATIVE_MEDIA_URL, media.MEDIA_URL) if hint)
    video = VideoAnnotations(hints, root.place, "seconds")
    times = _read_slots(root, report)
    aligned: dict[str, tuple[Element, float, float, list[str]]] = {}
    references: dict[str, tuple[Element, str, str]] = {}
    for tier in root.all("TIER"):
        for holder in tier.all("ANNOTATION"):
            for element in holder.all("ALIGNABLE_ANNOTATION"):
                _add_aligned(element, times, aligned, references, report)
            for element in holder.all("REF_ANNOTATION"):
                if entry := parse(_Reference, element.attributes, element.place, report):
                    if entry.ANNOTATION_ID in references or entry.ANNOTATION_ID in aligned:
                        report.refuse(element.place, f"annotation {entry.ANNOTATION_ID} is there twice")
                        continue
                    value = element.get_text("ANNOTATION_VALUE")
                    references[entry.ANNOTATION_ID] = (element, entry.ANNOTATION_REF, value)
    for element, _, value in references.values():
        target = element.attributes["ANNOTATION_REF"]
        for _ in range(MAX_CHAIN):
            if target not in references:
                break
            target = references[target][1]
        if target not in aligned:
            report.refuse(
                element.place, f"annotation {element.attributes['ANNOTATION_REF']!r:.40} is not in the file"
            )
        elif value:
            aligned[target][3].append(value[:200])
    for element, start, end, labels in aligned.values():
        if start + origin < 0:
            report.refuse(element.place, f"begins {-(start + origin):g} s before the video does")
        elif labels:
            video.spans.append(Span(tuple(labels), start + origin, end + origin, element.place))
        else:
            report.note(element.place, "an annotation without a value was left out")
    return [video]


def _find_media(root: Element, report: Report) -> _Media:
    """Return the first video of the file, else its first medium."""
    header = root.find("HEADER")
    elements = header.all("MEDIA_DESCRIPTOR") if header else []
    parsed = [
        media for element in elements if (media := parse(_Media, element.attributes, element.place, report))
    ]
    videos = [media for media in parsed if not media.MIME_TYPE.startswith("audio")]
    if len(videos) > 1:
        report.note(elements[0].place, "of several videos the first counts")
    return (videos or parsed or [_Media()])[0]


def _read_slots(root: Element, report: Report) -> dict[str, float]:
    """Return the seconds of each time slot; those without a time are spread between their neighbours."""
    order = root.find("TIME_ORDER")
    slots: list[_Slot] = []
    for element in order.all("TIME_SLOT") if order else []:
        if slot := parse(_Slot, element.attributes, element.place, report):
            slots.append(slot)
    times: dict[str, float] = {}
    before, waiting = 0.0, list[str]()
    for slot in slots:
        if slot.TIME_VALUE is None:
            waiting.append(slot.TIME_SLOT_ID)
            continue
        now = slot.TIME_VALUE / 1000.0
        for number, name in enumerate(waiting, 1):
            times.setdefault(name, before + (now - before) * number / (len(waiting) + 1))
        times.setdefault(slot.TIME_SLOT_ID, now)
        before, waiting = now, []
    return times


def _add_aligned(
    element: Element,
    times: dict[str, float],
    aligned: dict[str, tuple[Element, float, float, list[str]]],
    references: dict[str, tuple[Element, str, str]],
    report: Report,
) -> None:
    entry = parse(_Aligned, element.attributes, element.place, report)
    if entry is None:
        return
    if entry.ANNOTATION_ID in aligned or entry.ANNOTATION_ID in references:
        report.refuse(element.place, f"annotation {entry.ANNOTATION_ID} is there twice")
        return
    start, end = times.get(entry.TIME_SLOT_REF1), times.get(entry.TIME_SLOT_REF2)
    if start is None or end is None:
        name = entry.TIME_SLOT_REF1 if start is None else entry.TIME_SLOT_REF2
        report.refuse(element.place, f"time slot {name!r:.40} has no time in the file")
        return
    if end <= start:
        report.refuse(element.place, f"must end after it starts, got {start:g} to {end:g} s")
        return
    value = element.get_text("ANNOTATION_VALUE")
    aligned[entry.ANNOTATION_ID] = (element, start, end, [value[:200]] if value else [])
