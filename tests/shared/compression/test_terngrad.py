import numpy as np

from shared.compression.draws import uniform_draws
from shared.compression.plan import Plan
from shared.compression.terngrad import TernGradCodec, clip_deviations, scale_bits, ternary_draw
from shared.layout import Layout

CODEC = TernGradCodec()


def test_a_value_is_sent_with_the_probability_of_its_share_of_the_largest() -> None:
    values = np.repeat([0.0, 0.5, 1.5, 2.0], 50_000)
    sent = ternary_draw(values, 2.0, uniform_draws(1, 200_000)).reshape(4, -1).mean(axis=1)
    assert sent[0] == 0
    assert sent[3] == 1
    np.testing.assert_allclose(sent[1:3], [0.25, 0.75], atol=0.01)


def test_values_are_clipped_to_two_and_a_half_standard_deviations() -> None:
    values = np.abs(np.random.default_rng(0).standard_normal(100_000)) * 3
    clipped = clip_deviations(values)
    np.testing.assert_allclose(clipped.max(), 7.5, rtol=0.01)
    np.testing.assert_array_equal(clipped[values < 7], values[values < 7])


def test_the_scale_is_rounded_up_so_that_sending_stays_unbiased() -> None:
    for largest in (0.1, 1.0, 1.00390625, 3.7e-12):
        scale = float(np.uint32(scale_bits(largest)).view(np.float32))
        assert largest <= scale < largest * 1.008


def test_every_tensor_sends_one_magnitude_its_own_and_the_signs_are_true(watch_layout: Layout) -> None:
    update = np.random.default_rng(0).standard_normal(watch_layout.size).astype(np.float32)
    update[: watch_layout.offsets[1]] *= 100
    delivered = CODEC.encode(update, watch_layout, Plan(1)).delivered
    np.testing.assert_array_equal(np.sign(delivered.values), np.sign(update[delivered.indices]))
    for name, tensor in watch_layout.split(delivered.densify()).items():
        own = watch_layout.split(update)[name].astype(np.float64)
        largest = min(float(np.abs(own).max()), 2.5 * float(np.sqrt(np.mean(own * own))))
        magnitudes = set(np.abs(tensor[tensor != 0]).tolist())
        assert len(magnitudes) == 1
        assert largest <= magnitudes.pop() * 1.000001 < largest * 1.009


def test_many_updates_are_delivered_without_bias() -> None:
    layout = Layout.of([("weight", (2, 10_000), "weight")])
    update = np.random.default_rng(0).uniform(0.2, 1.0, layout.size).astype(np.float32)
    delivered = CODEC.encode(update, layout, Plan(1)).delivered.densify()
    np.testing.assert_allclose(delivered.mean(), update.mean(), rtol=0.02)
