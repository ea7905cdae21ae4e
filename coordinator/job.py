"""A job: what to train, how devices work, how updates are sieved. One TOML file, the same on every engine."""

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from shared.compression.plan import PLAIN_GAIN_EIGHTHS
from shared.compression.registry import codec_by_name
from shared.errors import SettingsError
from shared.settings import load_settings


def _known_codec(name: str) -> str:
    try:
        return codec_by_name(name).name
    except SettingsError as error:
        raise ValueError(str(error)) from None


Share = Annotated[float, Field(gt=0, le=1)]
CodecName = Annotated[str, AfterValidator(_known_codec)]

PARTITION_GAIN_EIGHTHS = 12
LEAST_BUDGET_BYTES = 16
SGD_ALONE = ("momentum", "nesterov")
ADAM_ALONE = ("beta1", "beta2", "epsilon")
PriorName = Literal["client", "public", "both", "none"]


class JobPart(BaseModel):
    """Root of the job's tables: frozen; unknown keys, infinities and NaN rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Work(JobPart):
    """What a device does in a round."""

    steps: int = Field(50, ge=1, le=1_000_000, description="optimiser steps a round and device")
    interval: Literal["fixed", "schedule", "adaptive"] = Field(
        "fixed", description="are steps always as many, do they run to final_steps, or follow the clients' drift"
    )
    final_steps: int = Field(50, ge=1, le=1_000_000, description="of schedule: steps of the last round")
    least_steps: int = Field(1, ge=1, le=1_000_000, description="of adaptive: never fewer")
    most_steps: int = Field(1000, ge=1, le=1_000_000, description="of adaptive: never more")
    drift: float = Field(0.5, gt=0, lt=1, description="of adaptive: drift aimed at; 0 all alike, 1 unrelated")
    round_cost_steps: float = Field(0.0, ge=0, description="of adaptive: what a round's traffic takes, in steps")
    batch_size: int = Field(32, ge=1, le=65_536, description="examples a step")
    learning_rate: float = Field(0.05, gt=0, le=1e3, description="of the first round")
    final_learning_rate: float | None = Field(
        None, gt=0, le=1e3, description="of the last round, between them a half cosine; none: the first round's"
    )
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="local optimiser, which starts anew every round")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    nesterov: bool = Field(False, description="Nesterov's form of sgd's momentum")
    beta1: float = Field(0.9, ge=0, lt=1, description="of adam: decay of the mean gradient")
    beta2: float = Field(0.999, ge=0, lt=1, description="of adam: decay of the mean squared gradient")
    epsilon: float = Field(1e-8, gt=0, le=1, description="of adam: added to the root it divides by")
    weight_decay: float = Field(0.0, ge=0, le=1, description="L2 factor")
    decoupled_decay: bool = Field(False, description="shrink weights apart from the gradient, as AdamW does")
    clip_norm: float | None = Field(None, gt=0, description="largest Euclidean norm of a step's gradient")
    proximal_mu: float = Field(0.0, ge=0, le=1e3, description="FedProx: pull towards the round's model")
    warmup_rounds: int = Field(0, ge=0, description="rounds in which the learning rate rises to its schedule")

    @model_validator(mode="after")
    def _parts_fit_the_optimizer(self) -> Self:
        other, fields = (SGD_ALONE if self.optimizer == "adam" else ADAM_ALONE), type(self).model_fields
        strange = [name for name in other if getattr(self, name) != fields[name].default]
        if strange:
            raise ValueError(f"optimizer {self.optimizer} has no {', '.join(strange)}: leave it out")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if self.least_steps > self.most_steps:
            raise ValueError(f"least_steps = {self.least_steps} is above most_steps = {self.most_steps}")
        if self.decoupled_decay and not self.weight_decay:
            raise ValueError("decoupled_decay says how weight_decay works: set that above 0")
        return self

    def rate_at(self, server_round: int, rounds: int) -> float:
        """Learning rate of a round, counted from 1: a half cosine to the last one, after a linear warm-up."""
        progress = (server_round - 1) / max(1, rounds - 1)
        fall = 0.5 * (1 + math.cos(math.pi * progress))
        final = self.learning_rate if self.final_learning_rate is None else self.final_learning_rate
        rate = final + (self.learning_rate - final) * fall
        return rate * min(1.0, server_round / (self.warmup_rounds + 1))


class Budgeted(JobPart):
    """What a codec frame may take: bytes, or a share of a dense one."""

    budget_bytes: int = Field(ge=LEAST_BUDGET_BYTES, description="longest codec frame")
    ratio: float | None = Field(
        None, ge=1, le=1e6, description="in place of budget_bytes: how many times shorter than dense a frame is"
    )

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.ratio is not None and self.budget_bytes != type(self).model_fields["budget_bytes"].default:
            raise ValueError("both budget_bytes and ratio: leave one out")
        return self

    def budget_for(self, size: int) -> int:
        """Bytes of the longest frame for a model of `size` values."""
        return self.budget_bytes if self.ratio is None else max(math.floor(4 * size / self.ratio), LEAST_BUDGET_BYTES)


class Sieve(Budgeted):
    """How updates travel up."""

    codec: CodecName = Field("partition", description="name of a codec; see docs/compression.md")
    prior: PriorName = Field(
        "client", description="what predicts where values are sent: a client's own frames, the plan, both, or nothing"
    )
    budget_bytes: int = Field(300, ge=LEAST_BUDGET_BYTES, description="longest codec frame of one update")
    columns: bool = Field(True, description="does the plan predict columns, or blocks alone")
    gain: float | None = Field(
        None,
        ge=1,
        le=2.875,
        description="what sent magnitudes are multiplied by; none: 1.5 in partition without chance, else 1",
    )

    chance: float | None = Field(
        None, ge=1, le=2.5, description="exponent of priority sampling, in quarters; none: the largest values are sent"
    )

    @property
    def chance_quarters(self) -> int:
        """The exponent as the plan has it; 0 without one."""
        return 0 if self.chance is None else round(4 * self.chance)

    @property
    def gain_eighths(self) -> int:
        """The gain as the plan has it; codecs but `partition` and `stc` deliver plain values whatever it says."""
        if self.gain is None:
            drifts = self.codec == "partition" and self.chance is None
            return PARTITION_GAIN_EIGHTHS if drifts else PLAIN_GAIN_EIGHTHS
        return round(8 * self.gain)


class Downlink(Budgeted):
    """How the model travels down."""

    codec: CodecName = Field("partition", description="name of a codec; see docs/compression.md")
    budget_bytes: int = Field(3000, ge=LEAST_BUDGET_BYTES, description="longest codec frame of one round's delta")
    history_rounds: int = Field(32, ge=0, le=256, description="earlier deltas offered to devices that missed rounds")
    first_model: Literal["grown", "whole"] = Field(
        "grown", description="do devices make the first model from a seed, where the task begins at random, or fetch it"
    )


class Server(JobPart):
    """The server's optimiser, after FedAvgM (Hsu, Qi, Brown 2019)."""

    momentum: float = Field(0.0, ge=0, lt=1, description="of the mean update")
    learning_rate: float = Field(1.0, gt=0, description="of the momentum")
    weighting: Literal["examples", "uniform"] = Field("examples", description="how updates are weighted")


class Fleet(JobPart):
    """Who takes part and how long anybody waits."""

    minimum_devices: int = Field(1, ge=1, description="devices that must be online before the first round")
    minimum_updates: int = Field(1, ge=1, description="updates below which a round is void; fewer devices online: wait")
    participation: Share = Field(1.0, description="share of the online devices asked to train in a round")
    gather_seconds: float = Field(60.0, gt=0, le=604_800, description="longest wait for the devices before a round")
    round_seconds: float = Field(120.0, gt=0, le=3600, description="longest wait for the updates of a round")
    grace_seconds: float = Field(5.0, ge=0, description="how long an offline device is still waited for")
    largest_examples: int = Field(1_000_000, ge=1, description="example count above which an update is refused")


class Split(JobPart):
    """How the examples of one data set come to lie on emulated devices; devices of a real fleet have their own."""

    kind: Literal["iid", "dirichlet", "shards", "quantity", "natural"] = Field(
        "iid", description="alike, by mixtures of classes, in runs of sorted labels, in uneven amounts, or by owner"
    )
    alpha: float = Field(0.5, gt=0, le=1e6, description="of dirichlet: small for few classes a device")
    shards: int = Field(2, ge=1, le=1000, description="of shards: runs of sorted labels a device")
    sigma: float = Field(1.0, gt=0, le=4, description="of quantity: log-normal spread of the amounts")


class Job(JobPart):
    """One federated training; `rounds` rounds of `task`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,23}$", description="becomes part of the run's id")
    task: str = Field(description="a task gradsieve ships, such as watch, or the .gsb file of your own export")
    rounds: int = Field(50, ge=1, le=100_000, description="rounds to train")
    seed: int = Field(1, ge=0, le=1 << 53, description="of initial weights, sampling and local data order")
    work: Work = Work()
    sieve: Sieve = Sieve()
    downlink: Downlink = Downlink()
    server: Server = Server()
    fleet: Fleet = Fleet()
    split: Split = Split()

    def changes_since(self, earlier: "Job") -> list[str]:
        """What this job says otherwise than an earlier one, such as `work.steps = 40 instead of 20`."""
        now, before = _flat(self.model_dump()), _flat(earlier.model_dump())
        return [f"{key} = {now[key]!r} instead of {before[key]!r}" for key in now if now[key] != before[key]]


def _flat(values: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Nested tables with their keys joined by dots."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def load_job(path: Path) -> Job:
    """The job in a TOML file; raises `SettingsError` naming file, key and what would be right."""
    return load_settings(Job, path, "GRADSIEVE_JOB_")
