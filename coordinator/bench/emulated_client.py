"""A client of an emulated federation: it trains on its own examples, sieves its update, and keeps what is left."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from coordinator.bench.flat_model import FlatModel, Loss
from coordinator.bench.recipe import Recipe
from coordinator.job import Work
from coordinator.tasks.examples import Examples
from shared.compression.codec import Codec, Encoded
from shared.compression.dgc import MomentumCorrection
from shared.compression.memory import ClientMemory, remembered
from shared.compression.plan import Plan
from shared.compression.registry import codec_for_update, memory_by_codec
from shared.compression.residual import ResidualFeedback
from shared.layout import F32, Layout


@dataclass(frozen=True, slots=True)
class RoundOrder:
    """What all clients of a round are told: the float32 `[size]` model, the plan, and the work at the round's rate."""

    server_round: int
    public: F32
    plan: Plan
    work: Work


@dataclass(frozen=True, slots=True)
class LocalUpdate:
    """A client's encoded update, with the number of examples and the mean loss behind it."""

    encoded: Encoded
    examples: int
    loss: float


class EmulatedClient:
    """One client's data, batch order and codec memory; the module it trains is everybody's."""

    def __init__(self, number: int, examples: Examples, recipe: Recipe, seed: int, layout: Layout) -> None:
        self._number, self._recipe, self._seed = number, recipe, seed
        self._x, self._y = torch.from_numpy(examples.x), torch.from_numpy(examples.y)
        self._memory = first_memory(recipe, layout)
        self._last_round: int | None = None

    def train(self, order: RoundOrder, model: FlatModel, loss: Loss) -> LocalUpdate:
        """Train from the round's model, and sieve the update by its plan with what earlier rounds left.

        The same calls give the same bytes.
        """
        model.load(order.public)
        mean_loss = model.train(self._batches(order), loss, order.work)
        local = model.vector() - order.public
        missed_rounds = 0 if self._last_round is None else order.server_round - self._last_round - 1
        compensated = self._memory.compensate(local, missed_rounds)
        encoded = codec_of(self._recipe, local).encode(compensated, model.layout, order.plan)
        self._memory, self._last_round = remembered(self._memory, compensated, encoded), order.server_round
        return LocalUpdate(encoded, len(self._y), mean_loss)

    def _batches(self, order: RoundOrder) -> Iterator[tuple[Tensor, Tensor]]:
        """As on a device: reshuffled each epoch, a last partial batch left out unless there is no other."""
        random = np.random.default_rng((self._seed, order.server_round, self._number))
        size, left = min(order.work.batch_size, len(self._y)), order.work.steps
        while True:
            rows = torch.from_numpy(random.permutation(len(self._y)))
            for start in range(0, len(self._y) - size + 1, size):
                if left == 0:
                    return
                left -= 1
                chosen = rows[start : start + size]
                yield self._x[chosen], self._y[chosen]


def codec_of(recipe: Recipe, local: F32) -> Codec:
    """The recipe's codec, for an update of which `local` float32 `[size]` is this round's part."""
    codec = codec_for_update(recipe.codec, local)
    options = dict(recipe.codec_options)
    changed: Codec = replace(codec, **options) if options else codec  # type: ignore[type-var]  # only codecs with fields
    return changed


def first_memory(recipe: Recipe, layout: Layout) -> ClientMemory:
    """What a client has before its first round."""
    kind = ResidualFeedback if recipe.memory == "residual" else memory_by_codec(recipe.codec)
    memory = kind.zero(layout.size)
    if isinstance(memory, MomentumCorrection) and recipe.dgc_clip_norm is not None:
        return replace(memory, clip_norm=recipe.dgc_clip_norm)
    return memory
