import hashlib

import numpy as np
import pytest

from coordinator.server_model import ServerModel, model_bytes, model_digest
from shared.compression.codec import Codec
from shared.compression.plan import Plan
from shared.compression.registry import codec_by_name, decode_frame
from shared.layout import F32, Layout

LAYOUT = Layout.of([("w", (64, 32), "weight"), ("b", (64,), "bias")])


def updates(count: int) -> list[F32]:
    random = np.random.default_rng(7)
    return [(random.standard_t(4, LAYOUT.size) * 0.01).astype(np.float32) for _ in range(count)]


def fresh() -> ServerModel:
    return ServerModel(LAYOUT, np.linspace(-1, 1, LAYOUT.size, dtype=np.float32))


def step(model: ServerModel, update: F32, codec: Codec, momentum: float = 0.4) -> None:
    model.step(update, momentum, 1.0, codec, budget_bytes=400)


@pytest.mark.parametrize("name", ["partition", "stc", "dense"])
def test_device_that_applies_every_delta_holds_the_public_model_bit_for_bit(name: str) -> None:
    model, device = fresh(), fresh().public.copy()
    for update in updates(5):
        before = model.digest
        step(model, update, codec_by_name(name))
        assert model.base == before
        decode_frame(model.delta, LAYOUT, Plan(len(model.delta))).add_to(device)
        assert model_digest(device) == model.digest


def test_what_the_downlink_owes_is_paid_later_and_never_lost() -> None:
    model, start = fresh(), fresh().public
    given = updates(6)
    for update in given:
        step(model, update, codec_by_name("partition"), momentum=0.0)
    np.testing.assert_allclose(model.public + model.residual, start + np.sum(given, axis=0), atol=1e-5)


def test_momentum_adds_what_earlier_rounds_moved() -> None:
    model, (update, *_) = fresh(), updates(1)
    for _ in range(2):
        step(model, update, codec_by_name("dense"), momentum=0.5)
    np.testing.assert_allclose(model.public, fresh().public + 2.5 * update, atol=1e-6)


def test_restored_model_goes_on_with_the_same_bits() -> None:
    first, second = fresh(), fresh()
    *early, last = updates(3)
    for update in early:
        step(first, update, codec_by_name("partition"))
    second.restore(first.state(), first.base, first.delta)
    for model in (first, second):
        step(model, last, codec_by_name("partition"))
    assert (first.digest, first.base, first.delta) == (second.digest, second.base, second.delta)


def test_digest_is_that_of_the_little_endian_bytes() -> None:
    vector = np.array([1.0, -2.0], np.float32)
    assert model_bytes(vector) == bytes.fromhex("0000803f000000c0")
    assert model_digest(vector) == hashlib.sha256(bytes.fromhex("0000803f000000c0")).hexdigest()
