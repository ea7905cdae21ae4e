from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from coordinator.bench.federation import Federation
from coordinator.bench.recipe import Recipe
from coordinator.cohort import cohort
from coordinator.job import PriorName
from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.partition import PartitionCodec
from shared.compression.plan import Plan
from shared.compression.registry import CODECS
from shared.compression.residual import ResidualFeedback
from shared.errors import DecodeError
from shared.layout import F32, Layout

Federate = Callable[..., Federation]
DENSE = Recipe("dense", rounds=3, steps=10, batch_size=16, learning_rate=0.05)


def played(federation: Federation, rounds: int = 3) -> Federation:
    for _ in range(rounds):
        federation.play_round()
    return federation


@pytest.mark.parametrize("prior", ["none", "public", "client"])
def test_a_sieved_federation_learns_as_a_dense_one_does_from_a_fortieth_of_the_bytes(
    federate: Federate, prior: PriorName
) -> None:
    dense = played(federate(DENSE))
    sieved = played(federate(replace(DENSE, codec="partition", ratio=40, prior=prior)))
    assert dense.accuracy() > 0.9
    assert sieved.accuracy() > 0.85
    assert dense.traffic.uplink_bytes > 35 * sieved.traffic.uplink_bytes


def test_the_same_cell_gives_the_same_run_and_another_seed_another(federate: Federate) -> None:
    models = [played(federate(seed=seed)).server.model.public for seed in (1, 1, 2)]
    assert np.array_equal(models[0], models[1])
    assert not np.array_equal(models[0], models[2])


def test_bytes_are_those_of_the_frames_that_were_sent(federate: Federate, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    encode = PartitionCodec.encode

    def listened(codec: PartitionCodec, update: F32, layout: Layout, plan: Plan) -> Encoded:
        encoded = encode(codec, update, layout, plan)
        lengths.append(len(encoded.frame))
        return encoded

    monkeypatch.setattr(PartitionCodec, "encode", listened)
    traffic = played(federate(replace(DENSE, codec="partition", ratio=40))).traffic
    assert traffic.uploads == len(lengths) == 12
    assert traffic.uplink_bytes == sum(lengths)
    assert 15 * 12 < traffic.object_bytes - traffic.uplink_bytes < 30 * 12


def test_dense_bytes_down_and_up_are_those_of_whole_models(federate: Federate) -> None:
    federation = played(federate(DENSE))
    whole = 4 * federation.layout.size
    traffic = federation.traffic
    assert traffic.dense_bytes == 12 * whole
    assert traffic.uplink_bytes == 12 * (whole + 1)
    assert traffic.first_model_bytes == 4 * whole
    assert traffic.downlink_bytes == 8 * whole  # a delta is a byte longer than the model, which is sent instead


def test_clients_that_grow_the_first_model_are_sent_its_seed_and_all_deltas_since(federate: Federate) -> None:
    recipe = replace(DENSE, rounds=6, grown=True, downlink_codec="partition", downlink_ratio=40)
    federation = federate(recipe, participation=0.25)
    asked: dict[str, int] = {}
    deltas: list[int] = []
    first, downlink_bytes = federation.server.model.public.copy(), 0
    for server_round in range(1, 7):
        (name,) = cohort(federation.job, server_round, [f"client-{number:05}" for number in range(4)])
        downlink_bytes += sum(deltas[asked.get(name, 0) : server_round - 1])
        asked[name] = server_round - 1
        federation.play_round()
        deltas.append(len(federation.server.model.delta))
    assert federation.traffic.downlink_bytes == downlink_bytes
    assert 0 < federation.traffic.first_model_bytes < 1000 * len(asked)
    again = federate(recipe, participation=0.25).server.model.public
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, federate(replace(recipe, grown=False)).server.model.public)


def test_a_client_that_missed_rounds_knows_how_many_and_is_sent_the_deltas_since(
    federate: Federate, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    compensate = ResidualFeedback.compensate

    def listened(memory: ResidualFeedback, update: F32, missed_rounds: int = 0) -> F32:
        told.append(missed_rounds)
        return compensate(memory, update, missed_rounds)

    monkeypatch.setattr(ResidualFeedback, "compensate", listened)
    recipe = replace(DENSE, codec="partition", ratio=40, rounds=8, downlink_codec="partition", downlink_ratio=40)
    federation = federate(recipe, participation=0.25)
    asked: dict[str, int] = {}
    deltas: list[int] = []
    missed, downlink_bytes = [], 0
    for server_round in range(1, 9):
        (name,) = cohort(federation.job, server_round, [f"client-{number:05}" for number in range(4)])
        if name in asked:
            downlink_bytes += sum(deltas[asked[name] - 1 : server_round - 1])
        missed.append(server_round - asked[name] - 1 if name in asked else 0)
        asked[name] = server_round
        federation.play_round()
        deltas.append(len(federation.server.model.delta))
    assert told == missed
    assert max(missed) > 0
    assert federation.traffic.downlink_bytes == downlink_bytes
    assert federation.traffic.first_model_bytes == len(asked) * 4 * federation.layout.size


def test_a_codec_that_delivers_something_else_than_it_says_is_caught(
    federate: Federate, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = PartitionCodec.encode

    def lying(codec: PartitionCodec, update: F32, layout: Layout, plan: Plan) -> Encoded:
        encoded = encode(codec, update, layout, plan)
        told = encoded.delivered
        return replace(encoded, delivered=SparseUpdate(told.size, told.indices, told.values * 2))

    monkeypatch.setattr(PartitionCodec, "encode", lying)
    with pytest.raises(DecodeError, match="partition"):
        federate(replace(DENSE, codec="partition", ratio=40)).play_round()


@pytest.mark.parametrize("codec", [codec.name for codec in CODECS])
def test_every_codec_runs_a_round(federate: Federate, codec: str) -> None:
    federation = played(federate(replace(DENSE, codec=codec, ratio=20)), 2)
    assert np.isfinite(federation.server.model.public).all()
    assert federation.traffic.uplink_bytes > 0


def test_the_warm_up_of_deep_gradient_compression_sends_more_at_first(federate: Federate) -> None:
    federation = federate(replace(DENSE, codec="dgc", ratio=200, dgc_warmup_rounds=2))
    spent = []
    for _ in range(3):
        before = federation.traffic.uplink_bytes
        federation.play_round()
        spent.append(federation.traffic.uplink_bytes - before)
    assert spent[0] > 4 * spent[1] > 4 * spent[2]
