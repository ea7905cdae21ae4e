"""How a federation trains and compresses: all that a benchmark may vary besides task, clients and seed."""

import math
from dataclasses import dataclass
from typing import Literal

from coordinator.density_forecast import Trust
from coordinator.job import LEAST_BUDGET_BYTES, Downlink, Fleet, Job, PriorName, Server, Sieve, Work

OptionValue = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to train.

    `ratio` is a dense update's bytes against the codec's budget, `downlink_ratio` the same for the model's deltas. The
    learning rate falls along a half cosine. `memory` is what a client keeps: what belongs to the codec, or a plain
    residual, so that codecs differ in nothing else. Warm-up and clipping named `dgc` are that codec's own.
    `codec_options` are fields of the codec, by name. The first model is drawn by torch and sent to every client, or
    `grown` by each from a seed. `study` is the question that the run is to answer, `variant` what
    an ablation changes; neither changes the run.
    """

    codec: str
    ratio: float = 1.0
    prior: PriorName = "none"
    rounds: int = 40
    steps: int = 20
    batch_size: int = 32
    learning_rate: float = 0.01
    final_learning_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float | None = None
    warmup_rounds: int = 0
    server_momentum: float = 0.0
    server_learning_rate: float = 1.0
    downlink_codec: str = "dense"
    downlink_ratio: float = 1.0
    dgc_warmup_rounds: int = 0
    dgc_clip_norm: float | None = None
    memory: Literal["own", "residual"] = "own"
    trust: Trust = "better"
    columns: bool = True
    gain: float = 1.0
    chance: float | None = None
    codec_options: tuple[tuple[str, OptionValue], ...] = ()
    grown: bool = False
    variant: str = ""
    study: str = ""

    def job(self, task: str, seed: int, participation: float, size: int) -> Job:
        """The recipe as a job for a model of `size` values."""
        return Job(
            name="bench",
            task=task,
            rounds=self.rounds,
            seed=seed,
            work=Work(
                steps=self.steps,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                final_learning_rate=self.final_learning_rate,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
                clip_norm=self.clip_norm,
                warmup_rounds=self.warmup_rounds,
            ),
            sieve=Sieve(
                codec=self.codec,
                prior=self.prior,
                budget_bytes=budget_bytes(size, self.ratio),
                columns=self.columns,
                gain=self.gain,
                chance=self.chance,
            ),
            downlink=Downlink(codec=self.downlink_codec, budget_bytes=budget_bytes(size, self.downlink_ratio)),
            server=Server(momentum=self.server_momentum, learning_rate=self.server_learning_rate),
            fleet=Fleet(participation=participation),
        )


def budget_bytes(size: int, ratio: float) -> int:
    """The bytes that are `ratio` times fewer than `size` values take as float32."""
    return max(math.floor(4 * size / ratio), LEAST_BUDGET_BYTES)
