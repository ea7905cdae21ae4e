"""One command on its way: what it still waits for, and the order it becomes when all is here."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from edge_client.orders import EvaluateOrder, Order, TrainOrder
from edge_client.outbox import StatePaths
from shared.messages import BlobRef, EvaluateCommand, RoundManifest, TrainCommand

TRAINING_SHARE = 0.9
"""Share of the time left that the trainer may take; the rest is for the upload."""


class Stage(StrEnum):
    """What an assignment waits for, as heartbeats and logs say it: at most 40 characters."""

    MANIFEST = "waiting for the round manifest"
    BUNDLE = "fetching the bundle"
    MODEL = "fetching the model"
    DELTA = "fetching model delta and plan"
    VERDICT = "waiting for the last update's verdict"
    QUEUED = "waiting for the trainer"
    TRAINING = "training"
    EVALUATING = "evaluating"


@dataclass(frozen=True, slots=True)
class Part:
    """An object that an order needs, and the stage of waiting for it."""

    ref: BlobRef
    stage: Stage
    name: Literal["bundle", "plan", "model", "delta"]


@dataclass
class Assignment:
    """A train or evaluate command until its answer came, its deadline passed or a newer round replaced it.

    `whole_model` is set once the trainer said that it cannot get to the round's model from what it holds.
    """

    command: TrainCommand | EvaluateCommand
    deadline: float
    stage: Stage = Stage.MANIFEST
    whole_model: bool = False

    @property
    def run(self) -> str:
        """The run that it is for."""
        return self.command.run

    @property
    def server_round(self) -> int:
        """The round that it is for."""
        return self.command.server_round

    @property
    def trains(self) -> bool:
        """True for training, False for evaluation."""
        return isinstance(self.command, TrainCommand)

    @property
    def title(self) -> str:
        """What the log calls it."""
        return f"run {self.run} round {self.server_round}"

    def extend(self, command: TrainCommand | EvaluateCommand, now: float) -> None:
        """The command came again: it gives more time, never less."""
        self.command = command
        self.deadline = max(self.deadline, now + command.seconds)

    def parts(self, manifest: RoundManifest) -> list[Part]:
        """What must be here before the order; the model comes last, for the trainer may not need it whole."""
        parts = [Part(manifest.bundle, Stage.BUNDLE, "bundle")]
        if self.trains and manifest.plan is not None:
            parts.append(Part(manifest.plan, Stage.DELTA, "plan"))
        if self.whole_model:
            parts.append(Part(manifest.model, Stage.MODEL, "model"))
        elif manifest.delta is not None:
            parts.append(Part(manifest.delta, Stage.DELTA, "delta"))
        return parts

    def order(self, manifest: RoundManifest, device: str, paths: StatePaths, now: float) -> Order:
        """What the trainer is asked, with as much time as the deadline leaves it."""
        files = {
            part.name: str(paths.received(self.run, part.name))
            for part in self.parts(manifest)
            if part.name != "bundle"
        }
        bundle = str(paths.bundle(manifest.bundle.digest))
        base = manifest.base if "delta" in files else None
        seconds = max(0.001, (self.deadline - now) * TRAINING_SHARE)
        if not self.trains:
            return EvaluateOrder(
                run=self.run,
                server_round=self.server_round,
                bundle=bundle,
                model=files.get("model"),
                delta=files.get("delta"),
                base=base,
                target=manifest.model.digest,
                seconds=seconds,
            )
        return TrainOrder(
            run=self.run,
            server_round=self.server_round,
            device=device,
            bundle=bundle,
            model=files.get("model"),
            delta=files.get("delta"),
            base=base,
            target=manifest.model.digest,
            plan=files.get("plan"),
            work=manifest.work,
            evaluate=manifest.work.evaluate,
            seconds=seconds,
        )
