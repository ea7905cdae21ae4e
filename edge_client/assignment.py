"""One command on its way: what it still waits for, and the order it becomes when all is here."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import Literal

from edge_client.orders import EvaluateOrder, LocalRules, Order, TrainOrder
from shared.delta_chain import LARGEST_HISTORY_BYTES, Step, since, unpack_history
from shared.errors import FrameError
from shared.messages import BlobRef, EvaluateCommand, RoundManifest, TrainCommand

TRAINING_SHARE = 0.9
"""Share of the time left that the trainer may take; the rest is for the upload."""


class Stage(StrEnum):
    """What an assignment waits for, as heartbeats and logs say it: at most 40 characters."""

    MANIFEST = "waiting for the round manifest"
    BUNDLE = "fetching the bundle"
    MODEL = "fetching the model"
    HISTORY = "fetching the history of deltas"
    DELTA = "fetching model deltas and plan"
    VERDICT = "waiting for the last update's verdict"
    QUEUED = "waiting for the trainer"
    CONDITION = "waiting until the board may work"
    TRAINING = "training"
    EVALUATING = "evaluating"


class Way(Enum):
    """How the trainer gets to the round's model, the cheapest first."""

    DELTA = auto()
    HISTORY = auto()
    MODEL = auto()


@dataclass(frozen=True, slots=True)
class Part:
    """An object that an order needs, and the stage of waiting for it."""

    ref: BlobRef
    stage: Stage
    name: Literal["bundle", "plan", "model", "history", "delta"]


@dataclass
class Assignment:
    """A train or evaluate command until its answer came, its deadline passed or a newer round replaced it.

    It begins with the deltas that came with manifests. Where the trainer cannot get to the round's model by them it
    says what it holds, and a `detour` follows. `steps` are the earlier deltas on the way from there, once chosen.
    """

    command: TrainCommand | EvaluateCommand
    deadline: float
    stage: Stage = Stage.MANIFEST
    way: Way = Way.DELTA
    held: str | None = None
    steps: tuple[Step, ...] = ()

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

    def detour(self, held: str | None, manifest: RoundManifest) -> Stage:
        """The trainer, which holds the model `held`, needs more than it was given; returns what to wait for now."""
        size = manifest.history.size if manifest.history else 0
        may_lag = self.way is Way.DELTA and held is not None and 0 < size <= LARGEST_HISTORY_BYTES
        self.way, self.held, self.steps = (Way.HISTORY if may_lag else Way.MODEL), held, ()
        return Stage.HISTORY if may_lag else Stage.MODEL

    def choose(self, history: bytes, manifest: RoundManifest, largest_bytes: int) -> None:
        """The history is here: take the deltas since the held model, at most `largest_bytes`, or the whole model.

        The whole model is taken where there is no way by deltas, or where it costs less.
        """
        try:
            self.steps = since(unpack_history(history), self.held) if self.held else ()
        except FrameError:
            self.steps = ()
        size = sum(step.delta.size for step in self.steps) + (manifest.delta.size if manifest.delta else 0)
        if not self.steps or size >= manifest.model.size or size > largest_bytes:
            self.way, self.steps = Way.MODEL, ()

    def parts(self, manifest: RoundManifest) -> list[Part]:
        """What must be here before the order; the model comes last, for the trainer may not need it whole."""
        parts = [Part(manifest.bundle, Stage.BUNDLE, "bundle")]
        if self.trains and manifest.plan is not None:
            parts.append(Part(manifest.plan, Stage.DELTA, "plan"))
        if self.way is Way.MODEL:
            return [*parts, Part(manifest.model, Stage.MODEL, "model")]
        if self.way is Way.HISTORY and manifest.history is not None and not self.steps:
            parts.append(Part(manifest.history, Stage.HISTORY, "history"))
        parts += [Part(step.delta, Stage.DELTA, "delta") for step in self.steps]
        if manifest.delta is not None:
            parts.append(Part(manifest.delta, Stage.DELTA, "delta"))
        return parts

    def order(
        self,
        manifest: RoundManifest,
        received: Mapping[str, Path],
        device: str,
        bundle: Path,
        now: float,
        rules: LocalRules,
    ) -> Order:
        """What the trainer is asked by the device's `rules`, with the received files and the time that is left."""
        files = {name: str(path) for name, path in received.items()}
        seconds = max(0.001, (self.deadline - now) * TRAINING_SHARE)
        if not self.trains:
            return EvaluateOrder(
                run=self.run,
                server_round=self.server_round,
                bundle=str(bundle),
                model=files.get("model"),
                chain=files.get("chain"),
                target=manifest.model.digest,
                seconds=seconds,
                rules=rules,
            )
        history = self.command.history if isinstance(self.command, TrainCommand) else None
        return TrainOrder(
            run=self.run,
            server_round=self.server_round,
            device=device,
            bundle=str(bundle),
            model=files.get("model"),
            chain=files.get("chain"),
            target=manifest.model.digest,
            plan=files.get("plan"),
            work=manifest.work,
            evaluate=manifest.work.evaluate,
            history=history,
            seconds=seconds,
            rules=rules,
        )
