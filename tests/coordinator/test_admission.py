import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.admission import Admission, AdmissionLimits, Admitted, typical_norm
from shared.compression.codec import Encoded
from shared.compression.frame_stats import describe
from shared.compression.plan import Plan, plan_from_densities
from shared.compression.registry import CODECS, codec_by_name
from shared.layout import F32, Layout
from shared.update import UpdateHeader, UpdateObject, base_tag, run_tag
from shared.verdicts import Ruling, Verdict

LAYOUT = Layout.of([("hidden.weight", (40, 70), "weight"), ("hidden.bias", (40,), "bias"), ("out", (10, 40), "weight")])
BASE = "5a" * 32
PLAN = Plan(200, plan_from_densities(np.linspace(0.001, 0.2, LAYOUT.num_blocks)))
HEADER = UpdateHeader(
    run_tag=run_tag("run-1"),
    base_tag=base_tag(BASE),
    server_round=4,
    examples=120,
    steps=50,
    loss=0.5,
    correct=8,
    tested=10,
    threshold=0.125,
)


def dense_update(scale: float = 1.0) -> F32:
    values = np.random.default_rng(5).laplace(size=LAYOUT.size) * np.linspace(0.1, 2.0, LAYOUT.size)
    return (scale * values).astype(np.float32)


def encoded(codec: str = "partition", scale: float = 1.0) -> Encoded:
    return codec_by_name(codec).encode(dense_update(scale), LAYOUT, PLAN)


FRAME = encoded().frame


def admission(typical: float | None = None, limits: AdmissionLimits | None = None) -> Admission:
    return Admission(LAYOUT, PLAN, 4, BASE, limits or AdmissionLimits(), typical)


def judged(header: UpdateHeader = HEADER, frame: bytes = FRAME, typical: float | None = None) -> Ruling:
    answer = admission(typical).judge("board", UpdateObject(header, frame).pack())
    assert isinstance(answer, Ruling)
    return answer


@pytest.mark.parametrize("codec", [codec.name for codec in CODECS])
def test_sound_update_is_admitted_with_its_facts(codec: str) -> None:
    sent = encoded(codec)
    content = UpdateObject(HEADER, sent.frame).pack()
    admitted = admission().judge("board", content)
    assert isinstance(admitted, Admitted)
    np.testing.assert_array_equal(admitted.update.indices, sent.delivered.indices)
    np.testing.assert_array_equal(admitted.update.values, sent.delivered.values)
    facts, count = admitted.facts, len(sent.delivered.indices)
    assert (facts.examples, facts.steps, facts.loss, facts.correct, facts.tested) == (120, 50, 0.5, 8, 10)
    assert (facts.frame_bytes, facts.object_bytes, facts.threshold) == (len(sent.frame), len(content), 0.125)
    assert facts.key_values + facts.sparse_values == sum(facts.values_by_tensor) == count
    assert facts.values_by_tensor[0] == np.count_nonzero(sent.delivered.indices < 2800)
    assert facts.norm == pytest.approx(float(np.linalg.norm(sent.delivered.values)), rel=1e-6)


def test_values_are_counted_by_region() -> None:
    admitted = admission().judge("board", UpdateObject(HEADER, FRAME).pack())
    assert isinstance(admitted, Admitted)
    stats = describe(FRAME, LAYOUT, PLAN)
    assert (admitted.facts.key_values, admitted.facts.sparse_values) == (stats.key_count, stats.sparse_count)


def test_update_that_delivers_nothing_is_admitted() -> None:
    nothing = codec_by_name("partition").encode(np.zeros(LAYOUT.size, np.float32), LAYOUT, PLAN)
    admitted = admission(typical=1.0).judge("board", UpdateObject(HEADER, nothing.frame).pack())
    assert isinstance(admitted, Admitted)
    assert (len(admitted.update.indices), admitted.facts.norm) == (0, 0.0)


@pytest.mark.parametrize(
    ("change", "verdict", "reason"),
    [
        ({"server_round": 3}, Verdict.STALE_ROUND, "made for round 3, not 4"),
        ({"server_round": 5}, Verdict.STALE_ROUND, "made for round 5, not 4"),
        ({"base_tag": b"\0\0\0\0"}, Verdict.WRONG_BASE, "trained from model 00000000, this round's is 5a5a5a5a"),
        ({"examples": 0}, Verdict.REFUSED, "0 examples are not within 1 to 1000000"),
        ({"examples": 10**9}, Verdict.REFUSED, "1000000000 examples are not within 1 to 1000000"),
        ({"tested": 7}, Verdict.REFUSED, "malformed: update: 8 correct of 7 tested"),
        ({"threshold": -1.0}, Verdict.REFUSED, "malformed: update: threshold -1.0 is negative"),
    ],
)
def test_header_that_does_not_fit_is_refused_with_the_reason(
    change: dict[str, int | float | bytes], verdict: Verdict, reason: str
) -> None:
    assert judged(replace(HEADER, **change)) == Ruling(verdict, reason)  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    ("frame", "verdict", "reason"),
    [
        (b"", Verdict.REFUSED, "malformed: it has no codec frame"),
        (b"\xee" + FRAME[1:], Verdict.UNSUPPORTED, "no codec has wire id 238"),
        (FRAME[:-3], Verdict.REFUSED, "malformed: "),
        (FRAME + b"\0", Verdict.TOO_LARGE, "a frame of "),
    ],
)
def test_frame_that_does_not_decode_is_refused_with_the_reason(frame: bytes, verdict: Verdict, reason: str) -> None:
    ruling = judged(frame=frame)
    assert ruling.verdict is verdict
    assert ruling.reason.startswith(reason)
    assert "\n" not in ruling.reason


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(poison: float) -> None:
    values = dense_update()
    frame = bytearray(encoded("dense").frame)
    position = frame.find(values[17:18].tobytes())
    assert position > 0
    frame[position : position + 4] = np.float32(poison).tobytes()
    ruling = judged(frame=bytes(frame))
    assert ruling == Ruling(Verdict.REFUSED, "malformed: dense frame holds NaN or infinity: refuse the update")


def test_loss_that_is_not_finite_is_refused() -> None:
    content = bytearray(UpdateObject(HEADER, FRAME).pack())
    position = content.find(np.float16(0.5).tobytes())
    content[position : position + 2] = np.float16(np.nan).tobytes()
    ruling = admission().judge("board", bytes(content))
    assert ruling == Ruling(Verdict.REFUSED, "malformed: update: loss is nan, not a finite number")


def test_object_above_the_limit_is_too_large_before_it_is_read() -> None:
    ruling = admission(limits=AdmissionLimits(largest_object_bytes=1000)).judge("board", bytes(1001))
    assert ruling == Ruling(Verdict.TOO_LARGE, "1001 bytes, this run takes at most 1000")
    default = admission().judge("board", bytes(4 * LAYOUT.size + 257))
    assert isinstance(default, Ruling)
    assert default.verdict is Verdict.TOO_LARGE


def test_norm_far_above_the_typical_one_is_refused() -> None:
    usual = float(np.linalg.norm(encoded().delivered.values))
    ruling = judged(frame=encoded(scale=100.0).frame, typical=usual)
    assert ruling.verdict is Verdict.REFUSED
    assert ruling.reason.endswith(f"is above the {10 * usual:.3g} that this round takes")
    content = UpdateObject(HEADER, encoded(scale=5.0).frame).pack()
    assert isinstance(admission(typical=usual).judge("board", content), Admitted)


def test_norm_is_not_judged_before_one_is_known() -> None:
    content = UpdateObject(HEADER, encoded(scale=1e6).frame).pack()
    assert isinstance(admission(typical=None).judge("board", content), Admitted)


def test_typical_norm_is_the_median_of_those_known() -> None:
    assert typical_norm([]) is None
    assert typical_norm([0.0, 0.0, 5.0]) is None
    assert typical_norm([1.0, 1e9, 2.0]) == 2.0


@given(st.binary(max_size=300))
def test_any_bytes_get_a_ruling(content: bytes) -> None:
    assert isinstance(admission().judge("board", content), Ruling)


@given(st.binary(max_size=200), st.sampled_from([codec.wire_id for codec in CODECS]))
def test_any_frame_behind_a_sound_header_gets_an_answer(body: bytes, wire_id: int) -> None:
    answer = admission(typical=1.0).judge("board", UpdateObject(HEADER, bytes([wire_id]) + body).pack())
    assert isinstance(answer, Admitted | Ruling)


@given(st.integers(0, 8 * (len(FRAME) + 21) - 1))
@settings(max_examples=200)
def test_flipped_bit_never_escapes_as_an_exception(bit: int) -> None:
    content = bytearray(UpdateObject(HEADER, FRAME).pack())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    assert isinstance(admission(typical=1.0).judge("board", bytes(content)), Admitted | Ruling)


@pytest.mark.parametrize("codec", ["partition", "stc"])
def test_a_frame_above_the_round_s_budget_is_too_large_before_it_is_decoded(codec: str) -> None:
    sent = codec_by_name(codec).encode(dense_update(), LAYOUT, replace(PLAN, budget_bytes=PLAN.budget_bytes + 80))
    assert len(sent.frame) > PLAN.budget_bytes
    ruling = judged(frame=sent.frame)
    assert ruling.verdict is Verdict.TOO_LARGE
    assert "budget is 200" in ruling.reason
