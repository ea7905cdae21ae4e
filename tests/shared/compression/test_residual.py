import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.compression.plan import Plan
from shared.compression.registry import codec_by_name
from shared.compression.residual import ResidualFeedback
from shared.layout import F32, Layout

LAYOUT = Layout.of([("weight", (4, 70), "weight")])
moderate = st.floats(-1e9, 1e9, width=32)
vectors = hnp.arrays(np.float32, LAYOUT.size, elements=moderate)


@settings(deadline=None, max_examples=40)
@given(vectors, vectors, st.sampled_from(["partition", "stc", "dense"]))
def test_what_was_not_delivered_is_left_exactly(update: F32, residual: F32, name: str) -> None:
    feedback = ResidualFeedback(residual)
    compensated = feedback.compensate(update)
    np.testing.assert_array_equal(compensated, update + residual)
    delivered = codec_by_name(name).encode(compensated, LAYOUT, Plan(40)).delivered
    left = feedback.after(compensated, delivered).residual
    assert left.dtype == np.float32
    np.testing.assert_array_equal(left, compensated - delivered.densify())


def test_a_dense_codec_leaves_nothing() -> None:
    update = np.random.default_rng(0).standard_normal(LAYOUT.size).astype(np.float32)
    feedback = ResidualFeedback.zero(LAYOUT.size)
    delivered = codec_by_name("dense").encode(feedback.compensate(update), LAYOUT, Plan(40)).delivered
    assert not feedback.after(update, delivered).residual.any()


def test_missed_rounds_let_the_residual_decay() -> None:
    feedback = ResidualFeedback(np.ones(3, np.float32))
    nothing = np.zeros(3, np.float32)
    np.testing.assert_allclose(feedback.compensate(nothing, missed_rounds=1), 0.9, rtol=1e-6)
    np.testing.assert_allclose(feedback.compensate(nothing, missed_rounds=3), 0.729, rtol=1e-6)


def test_everything_arrives_in_the_end() -> None:
    update = np.random.default_rng(1).standard_normal(LAYOUT.size).astype(np.float32)
    feedback, received = ResidualFeedback.zero(LAYOUT.size), np.zeros(LAYOUT.size, np.float32)
    for turn in range(60):
        compensated = feedback.compensate(update if turn == 0 else np.zeros_like(update))
        delivered = codec_by_name("partition").encode(compensated, LAYOUT, Plan(40)).delivered
        delivered.add_to(received)
        feedback = feedback.after(compensated, delivered)
    assert np.abs(update - received).max() < 0.05 * np.abs(update).max()
