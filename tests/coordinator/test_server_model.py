import hashlib

import numpy as np
import pytest

from coordinator.server_model import ServerModel, model_bytes, model_digest
from shared.compression.codec import Codec
from shared.compression.plan import Plan
from shared.compression.registry import codec_by_name, decode_frame
from shared.delta_chain import Link, since
from shared.layout import F32, Layout
from shared.update import base_tag

LAYOUT = Layout.of([("w", (64, 32), "weight"), ("b", (64,), "bias")])


def updates(count: int) -> list[F32]:
    random = np.random.default_rng(7)
    return [(random.standard_t(4, LAYOUT.size) * 0.01).astype(np.float32) for _ in range(count)]


def fresh(history_rounds: int = 4) -> ServerModel:
    return ServerModel(LAYOUT, np.linspace(-1, 1, LAYOUT.size, dtype=np.float32), history_rounds)


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


@pytest.mark.parametrize("name", ["partition", "stc"])
@pytest.mark.parametrize("lag", [1, 2, 5])
def test_device_that_lags_gets_the_public_model_bit_for_bit_by_the_deltas_since_its_own(name: str, lag: int) -> None:
    model, publics = fresh(), list[F32]()
    for update in updates(7):
        publics.append(model.public.copy())
        step(model, update, codec_by_name(name))
    device, held = publics[-lag], model_digest(publics[-lag])
    links = since((*model.earlier, Link(base_tag(str(model.base)), model.delta)), held)
    assert len(links) == lag
    for link in links:
        decode_frame(link.frame, LAYOUT, Plan(len(link.frame))).add_to(device)
    assert model_digest(device) == model.digest


def test_no_more_earlier_deltas_are_kept_than_rounds_are_wanted() -> None:
    for wanted in (0, 1, 4):
        model, frames = fresh(wanted), list[bytes]()
        for update in updates(7):
            step(model, update, codec_by_name("partition"))
            frames.append(model.delta)
        assert [link.frame for link in model.earlier] == frames[6 - wanted : 6]


def test_earlier_deltas_are_always_smaller_than_the_model_with_the_current_one() -> None:
    model = fresh(256)
    for update in updates(40):
        step(model, update, codec_by_name("partition"))
    size_bytes = sum(len(link.frame) for link in model.earlier) + len(model.delta)
    assert 4 * LAYOUT.size - 450 < size_bytes < 4 * LAYOUT.size
    step(model, updates(1)[0], codec_by_name("dense"))
    assert model.earlier == ()


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
    assert len(first.earlier) == 2
    for name in ("digest", "base", "delta", "earlier"):
        assert getattr(first, name) == getattr(second, name), name


def test_checkpoint_of_a_version_without_a_history_is_restored_without_one() -> None:
    model, second = fresh(), fresh()
    for update in updates(3):
        step(model, update, codec_by_name("partition"))
    state = model.state()
    del state["earlier"]
    second.restore(state, model.base, model.delta)
    assert (second.digest, second.earlier) == (model.digest, ())


def test_digest_is_that_of_the_little_endian_bytes() -> None:
    vector = np.array([1.0, -2.0], np.float32)
    assert model_bytes(vector) == bytes.fromhex("0000803f000000c0")
    assert model_digest(vector) == hashlib.sha256(bytes.fromhex("0000803f000000c0")).hexdigest()
