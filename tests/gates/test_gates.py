"""What agreement means, what a limit is, what a failing gate says and writes."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from pydantic import ValidationError

from edge_runtime.memory.online_svd import OnlineSVD
from edge_runtime.memory.token_memory import TokenMemory
from edge_runtime.query.answers import ActivityCandidate, Answer, Covered, SpanCandidate, TimedBox
from engines.errors import GateFailed, LvmError
from export.gates.drift import basis_angle_deg, compare_answers, memory_overlap
from export.gates.limits import GateLimits, allowed_differences, load_settings
from export.gates.report import Line, plot, render_page
from export.gates.result import Agreement, Alone, Checkpoint, Drift, Finding, GateResult
from export.gates.run import describe_failure, require_passed

SVG = "{http://www.w3.org/2000/svg}"


def memory(*places: tuple[int, int], slots: int = 6) -> TokenMemory:
    tick, cell = np.zeros(slots, np.int64), np.zeros(slots, np.int32)
    valid = np.zeros(slots, np.bool_)
    for slot, (tick[slot], cell[slot]) in enumerate(sorted(places)):
        valid[slot] = True
    return TokenMemory(np.zeros((slots, 2), np.float32), tick, cell, np.zeros(slots, np.float32), valid)


def test_overlap_counts_tick_and_cell_together() -> None:
    one = memory((0, 1), (0, 2), (5, 1), (5, 2))
    assert memory_overlap(one, one) == 1 and memory_overlap(memory(), memory()) == 1
    assert memory_overlap(one, memory((0, 1), (0, 3), (5, 1), (6, 2))) == 0.5
    assert memory_overlap(one, memory()) == memory_overlap(memory(), one) == 0
    assert memory_overlap(memory((0, 1), (0, 2)), one) == memory_overlap(one, memory((0, 1), (0, 2))) == 0.5


def basis(*rows: tuple[float, ...], strength: tuple[float, ...] | None = None) -> OnlineSVD:
    array = np.array(rows, np.float32).reshape(len(rows), -1)
    values = np.array(strength or [1.0] * len(rows), np.float32)
    return OnlineSVD(4, 1.0, array, values, np.zeros(array.shape[1], np.float32))


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 0.1, 30.0, 89.0])
def test_the_angle_is_the_largest_between_the_two_spans(degrees: float) -> None:
    a = math.radians(degrees)
    one = basis((1, 0, 0), (0, 1, 0))
    turned = basis((0, math.cos(a), math.sin(a)), (-1, 0, 0))
    assert basis_angle_deg(one, turned) == pytest.approx(degrees, abs=2e-5, rel=1e-5)
    assert basis_angle_deg(turned, one) == pytest.approx(degrees, abs=2e-5, rel=1e-5)


def test_a_missing_direction_is_a_right_angle_unless_it_is_noise() -> None:
    one, more = basis((1, 0, 0)), ((1, 0, 0), (0, 0, 1))
    assert basis_angle_deg(one, basis(*more)) == basis_angle_deg(basis(*more), one) == 90
    assert basis_angle_deg(one, basis(*more, strength=(1.0, 0.009))) == 0
    assert basis_angle_deg(basis(*more, strength=(1.0, 0.011)), one) == 90


def answer(kind: str, abstained: bool = False, **parts: object) -> Answer:
    return Answer(
        type=kind, answer="", confidence=1.0, abstained=abstained, coverage=Covered(start=0.0, end=9.0),
        trained=True, memory_version=1, milliseconds=1.0, **parts,
    )  # type: ignore[arg-type]  # fmt: skip


def span(start: float, end: float) -> SpanCandidate:
    return SpanCandidate(start=start, end=end, confidence=1.0)


def named(name: str, abstained: bool = False) -> Answer:
    return answer("activity", abstained, activities=(ActivityCandidate(activity=name, confidence=0.5),))


def test_answers_agree_when_the_same_is_told() -> None:
    text = compare_answers(named("scan"), named("scan"))
    assert (text.agrees, text.same_content, text.abstained) == (True, True, True)
    assert not compare_answers(named("scan"), named("bag")).agrees
    one_silent = compare_answers(named("scan"), named("scan", abstained=True))
    assert (one_silent.agrees, one_silent.same_content, one_silent.abstained) == (False, True, False)
    both_silent = compare_answers(named("scan", abstained=True), named("bag", abstained=True))
    assert (both_silent.agrees, both_silent.same_content) == (True, False)


def test_boxes_and_spans_agree_from_half_an_overlap() -> None:
    half, less = (0.0, 0.0, 0.2, 0.2), (0.0, 0.0, 0.2, 0.39)
    for box, same in ((half, True), (less, True), ((0.0, 0.0, 0.2, 0.41), False)):
        pair = compare_answers(
            answer("object", boxes=(TimedBox(t=1.0, box=half),)),
            answer("object", boxes=(TimedBox(t=1.0, box=box),)),
        )
        assert pair.agrees is same, box
    two = answer("object", boxes=(TimedBox(t=1.0, box=half), TimedBox(t=2.0, box=half)))
    pair = compare_answers(
        two, answer("object", boxes=(TimedBox(t=1.0, box=half), TimedBox(t=3.0, box=half)))
    )
    assert pair.similarity == 1 and pair.agrees, "which neighbours of many moments are told is no difference"
    far = answer("object", boxes=(TimedBox(t=1.0, box=half), TimedBox(t=30.0, box=half)))
    assert compare_answers(two, far).similarity == pytest.approx(3 / 4), "30 s from any box of the other"
    farther = answer("object", boxes=(TimedBox(t=40.0, box=half), TimedBox(t=50.0, box=half)))
    assert compare_answers(two, farther).similarity == 0 and not compare_answers(two, farther).agrees
    assert compare_answers(two, answer("object")).similarity == 0
    assert compare_answers(answer("time", spans=(span(0, 4),)), answer("time", spans=(span(0, 7.9),))).agrees
    assert not compare_answers(
        answer("time", spans=(span(0, 4),)), answer("time", spans=(span(0, 8.1),))
    ).agrees
    assert not compare_answers(answer("time", spans=(span(0, 4),)), answer("time")).agrees


def test_few_questions_may_differ_by_chance_but_not_many() -> None:
    assert allowed_differences(90, 0.999) == 2
    assert allowed_differences(90, 0.99) == 5
    assert allowed_differences(90, 0.98) == 7
    assert allowed_differences(100_000, 0.99) < 1_100
    assert allowed_differences(9, 1.0) == 0 and allowed_differences(9, 0.0) == 9


def test_settings_from_a_file_keep_the_defaults_that_it_leaves_out(tmp_path: Path) -> None:
    file = tmp_path / "gates.yaml"
    file.write_text("gates:\n  frames: 400\n  sources: [demo, a.mp4]\n  limits:\n    int8: {answers: 0.9}\n")
    found = load_settings(file)
    assert (found.frames, found.sources, found.questions) == (400, ("demo", "a.mp4"), 1000)
    assert found.limits.int8.answers == 0.9 and found.limits.int8.tokens == GateLimits().int8.tokens
    assert found.limits.bf16 == GateLimits().bf16
    file.write_text("")
    assert load_settings(file).limits == GateLimits()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gates:\n  frame: 3\n", ":2: gates.frame: Extra inputs are not permitted"),
        ("gates:\n  limits:\n    int8:\n      anwsers: 0.9\n", ":4: gates.limits.int8.anwsers: Extra inputs"),
        ("gates:\n  limits:\n    int4: {}\n", ":3: gates.limits.int4: Extra inputs"),
        ("gates:\n  limits:\n    int8: {answers: 98}\n", "less than or equal to 1"),
        ("limits: {}\n", ":1: limits: Extra inputs"),
        ("gates: [3]\n", "gates: Input should be a valid dictionary"),
        ("gates:\n  limits: 3\n", "gates.limits: "),
    ],
)
def test_a_wrong_file_is_one_sentence_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "gates.yaml"
    file.write_text(text)
    with pytest.raises(LvmError) as raised:
        load_settings(file)
    assert str(file) in str(raised.value) and said in str(raised.value)


def test_the_coarsest_precision_decides() -> None:
    limits = GateLimits()
    assert limits.for_precisions(["fp32", "int8", "bf16"]) == limits.int8
    assert (
        limits.for_precisions(["fp16", "bf16"]) == limits.bf16
        and limits.for_precisions(["fp32", "fp32"]) == limits.fp32
    )
    with pytest.raises(ValidationError, match="Extra inputs"):
        GateLimits.model_validate({"fp8": {}})


def checkpoint(frame: int, tokens: float = 1.0, answers: float = 1.0) -> Checkpoint:
    told = Agreement(
        questions=90, answers=answers, contents=answers, abstention=1.0, activity=answers, box_iou=0.99,
        span_iou=None, by_kind={"activity": answers, "object": 1.0},
    )  # fmt: skip
    alone = Alone(output="tokens", error=10.0**-frame, kept=tokens, answers=answers, questions=90)
    return Checkpoint(
        frame=frame, t=frame, tokens=tokens, angle_deg=0.1 * frame, agreement=told, alone={"backbone": alone}
    )


def result(*findings: Finding, name: str = "shop") -> GateResult:
    drift = Drift(
        source="tills & <doors>/a.mp4",
        frames=3,
        checkpoints=tuple(checkpoint(frame, 1 - frame / 10) for frame in (1, 2, 3)),
        final=checkpoint(3, 0.7, 0.9),
        findings=findings,
    )
    return GateResult(
        bundle=name, digest="0" * 64, backend="OpenVINO CPU bf16", limits=GateLimits().bf16, seed=0,
        seconds=1.0, precisions={"backbone": "bf16", "sampler": "bf16", "reader": "fp32"}, drift=(drift,),
    )  # fmt: skip


def finding(frame: int, **changes: object) -> Finding:
    values = dict(quantity="tokens", frame=frame, value=0.5, limit=0.9, graph="sampler", certain=True)
    return Finding.model_validate({**values, "words": "the memories share half", **changes})


def test_the_report_is_one_well_formed_page_without_network_or_script() -> None:
    text = render_page(result(finding(2, words='less < than & "more"'), name="a<b>&c"))
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n"))
    assert "prefers-color-scheme: dark" in text
    tags = {element.tag for element in root.iter()}
    assert not tags & {"script", "img", "link", "iframe"} and "svg" in tags
    assert "http" not in text and "url(" not in text and "@import" not in text
    said = " ".join(root.itertext())
    for words in ("Gates of a<b>&c", "tills & <doors>/a.mp4", 'less < than & "more"', "Failed", "sampler"):
        assert words in said, words
    assert render_page(result()).count("Passed") == 1
    ended = result().drift[0].model_copy(update={"checkpoints": (), "final": None})
    ElementTree.fromstring(render_page(result().model_copy(update={"drift": (ended,)})).partition("\n")[2])


def test_lines_are_drawn_where_their_values_are() -> None:
    line = Line("one", [(0, 0.5), (100, 1.0), (200, 0.75)])
    figure = ElementTree.fromstring(plot("A & B", [line, Line("none", [])], limit=0.9))
    drawn = [one for one in figure.iter("polyline")]
    assert len(drawn) == 1, "what was never measured is not drawn"
    points = [tuple(map(float, pair.split(","))) for pair in drawn[0].attrib["points"].split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and x0 < x1
    assert y1 < y2 < y0 and (y0 - y1) == pytest.approx(2 * (y2 - y1), abs=0.2)
    limit = next(one for one in figure.iter("line") if one.attrib["class"] == "limit")
    assert y1 < float(limit.attrib["y1"]) < y2
    assert plot("empty", [Line("none", [])]) == ""


def test_powers_of_ten_lie_at_equal_distances_where_that_is_asked() -> None:
    lines = [Line("one", [(0, 1e-6), (1, 1e-4), (2, 1e-2)]), Line("<two>", [(0, 1e-3)])]
    figure = ElementTree.fromstring(plot("errors", lines, show="{:.0e}".format, log=True))
    drawn = next(one for one in figure.iter("polyline")).attrib["points"].split()
    y0, y1, y2 = (float(pair.split(",")[1]) for pair in drawn)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2) and y0 > y2
    text = [one.text for one in figure.iter("text")]
    assert "1e-05" in text and "1e-03" in text
    assert [span[0].tail for span in figure.iter("span")] == ["one", "<two>"]


def test_what_is_beyond_its_limit_stands_out() -> None:
    final = checkpoint(3, 0.7, 0.9)
    (drift,) = result().drift
    root = ElementTree.fromstring(
        render_page(
            result().model_copy(update={"drift": (drift.model_copy(update={"final": final}),)})
        ).partition("\n")[2]
    )
    missed = [row[0].text for row in root.iter("tr") if row.attrib.get("class") == "missed"]
    assert missed == [
        "answers agree, of 90 questions",
        "the same, abstention aside",
        "remembered tokens in common",
    ]


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0], [0.0, 0.0], [1e-9, 1e9]])
def test_any_values_can_be_drawn(values: list[float]) -> None:
    figure = plot("one", [Line("one", list(enumerate(values)))], limit=1.0)
    assert "nan" not in figure and "inf" not in figure
    assert figure.count('class="grid"') >= 1


def test_a_failure_names_graph_step_and_quantity_and_writes_its_report(tmp_path: Path) -> None:
    html = tmp_path / "new" / "gates.html"
    later, earlier = finding(800, graph="reader"), finding(400)
    with pytest.raises(GateFailed) as raised:
        require_passed(result(later, earlier), html)
    assert str(raised.value) == (
        "shop on OpenVINO CPU bf16: sampler, tills & <doors>/a.mp4 after 400 frames: "
        f"the memories share half, and 1 more; see {html}"
    )
    assert raised.value.exit_status == 3
    assert "Failed" in html.read_text()
    assert GateResult.model_validate_json(html.with_suffix(".json").read_text()) == result(later, earlier)


def test_the_sentence_begins_with_nan_and_owns_up_to_doubt() -> None:
    nan = finding(900, quantity="finite", value=None, limit=None, graph="reader", words="holds NaN")
    assert "reader, tills & <doors>/a.mp4 after 900 frames: holds NaN, and 1 more" in describe_failure(
        result(finding(400), nan)
    )
    assert "no graph alone, most likely backbone, " in describe_failure(
        result(finding(400, graph="backbone", certain=False))
    )
    assert describe_failure(result()) == ""


def test_nothing_is_written_of_success_unless_asked(tmp_path: Path) -> None:
    require_passed(result(), tmp_path / "gates.html")
    assert not list(tmp_path.iterdir())
    require_passed(result(), tmp_path / "gates.html", always=True)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["gates.html", "gates.json"]


def test_a_report_that_cannot_be_written_hides_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GateFailed, match="the memories share half; the report could not be written to"):
        require_passed(result(finding(4)), tmp_path / "file" / "gates.html")
