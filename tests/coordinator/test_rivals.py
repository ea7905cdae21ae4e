"""The comparisons' compressors; where one is not installed, its own tests are skipped."""

import numpy as np
import pytest

from coordinator.bench.rivals import INSTALL, RIVALS, DeepCabacCodec, Sz3Codec
from shared.compression.codec import Codec
from shared.compression.plan import Plan
from shared.compression.registry import CODECS
from shared.compression.residual import ResidualFeedback
from shared.errors import SettingsError
from shared.layout import F32, Layout

LAYOUT = Layout.of([("conv.weight", (20, 10, 5), "weight"), ("scale", (), "norm"), ("out.weight", (10, 200), "weight")])
NAMES = [rival.name for rival in RIVALS]


def gradient_like(seed: int) -> F32:
    return np.random.default_rng(seed).standard_t(4, LAYOUT.size).astype(np.float32)


@pytest.fixture(params=RIVALS, ids=NAMES)
def rival(request: pytest.FixtureRequest) -> Codec:
    codec: Codec = request.param
    try:
        codec.encode(gradient_like(0), LAYOUT, Plan(400))
    except SettingsError as error:
        pytest.skip(str(error))
    return codec


@pytest.mark.parametrize("budget_bytes", [1, 40, 150, 400, 1_500])
def test_a_rival_keeps_to_its_budget_and_decodes_to_what_it_delivers(rival: Codec, budget_bytes: int) -> None:
    encoded = rival.encode(gradient_like(1), LAYOUT, Plan(budget_bytes))
    decoded = rival.decode(encoded.frame, LAYOUT, Plan(budget_bytes))
    assert len(encoded.frame) <= budget_bytes
    np.testing.assert_array_equal(decoded.indices, encoded.delivered.indices)
    np.testing.assert_array_equal(decoded.values, encoded.delivered.values)


def test_more_bytes_leave_less_behind(rival: Codec) -> None:
    update, left = gradient_like(2), []
    for budget_bytes in (150, 500, 1_500, 5_000):
        delivered = rival.encode(update, LAYOUT, Plan(budget_bytes)).delivered
        left.append(float(np.sum(np.square(ResidualFeedback.zero(LAYOUT.size).after(update, delivered).residual))))
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.05 * left[0]


@pytest.mark.parametrize("value", [0.0, 1e-38, 3e38])
def test_an_update_at_the_edge_of_its_type_comes_back(rival: Codec, value: float) -> None:
    encoded = rival.encode(np.full(LAYOUT.size, value, np.float32), LAYOUT, Plan(400))
    decoded = rival.decode(encoded.frame, LAYOUT, Plan(400))
    np.testing.assert_array_equal(decoded.densify(), encoded.delivered.densify())
    np.testing.assert_allclose(decoded.densify(), value, rtol=0.2)


def test_rivals_are_no_codecs_of_the_wire() -> None:
    assert not {rival.wire_id for rival in RIVALS} & {codec.wire_id for codec in CODECS}
    assert not set(NAMES) & {codec.name for codec in CODECS}


@pytest.mark.parametrize(("codec", "package"), [(Sz3Codec(), "pysz"), (DeepCabacCodec(), "nncodec")])
def test_one_that_is_missing_says_how_to_install_it(
    codec: Codec, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr("coordinator.bench.rivals.import_module", missing)
    with pytest.raises(SettingsError, match=f"{package} is not installed") as caught:
        codec.encode(gradient_like(0), LAYOUT, Plan(400))
    assert INSTALL[package] in str(caught.value)
