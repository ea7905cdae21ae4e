"""A run in the emulator until the accuracy is reached, and what it took."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.emulation.emulation import EmulatedRun, Setup, emulated_run
from coordinator.job import Job
from coordinator.run_folder import RunFolder
from shared.errors import RunError


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried: local steps a round, and how many boards stand behind each head; the others have none."""

    interval: int
    clusters: tuple[int, ...] = ()

    def job(self, job: Job, boards: int) -> Job:
        """The job with this interval, for as many devices as the coordinator then has.

        A head may have the examples of all its boards.
        """
        fleet, devices = job.fleet, self.devices(boards)
        fits = {name: min(getattr(fleet, name), devices) for name in ("minimum_devices", "minimum_updates")}
        largest_examples = fleet.largest_examples * max(self.clusters, default=1)
        fleet = fleet.model_copy(update=fits | {"largest_examples": largest_examples})
        work = job.work.model_copy(update={"steps": self.interval, "interval": "fixed"})
        return job.model_copy(update={"work": work, "fleet": fleet})

    def devices(self, boards: int) -> int:
        """How many devices the coordinator has of so many boards in all."""
        return boards - sum(self.clusters) + len(self.clusters)


@dataclass(frozen=True, slots=True)
class Pilot:
    """What a trial took; `rounds` is None where the accuracy was not reached in the job's rounds.

    Bytes are whole MQTT packets of the coordinator's devices, each its mean: `first_bytes` until the end of the first
    round, with bundle and first model, and `round_bytes` in a round after that. `moved_bytes` is all of all of them.
    """

    trial: Trial
    rounds: int | None
    accuracy: float
    first_bytes: float
    round_bytes: float
    moved_bytes: float

    def to_json(self) -> dict[str, object]:
        """For a script to read."""
        return {
            "interval": self.trial.interval,
            "clusters": list(self.trial.clusters),
            "rounds": self.rounds,
            "accuracy": round(self.accuracy, 4),
            "first_bytes": round(self.first_bytes),
            "round_bytes": round(self.round_bytes),
            "moved_bytes": round(self.moved_bytes),
        }


@dataclass(frozen=True, slots=True)
class Ground:
    """What all trials share: the job, how many boards and whose data, the accuracy, and who trains."""

    job: Job
    boards: int
    accuracy: float
    data: Path | None = None
    workers: int = 1

    def play(self, trial: Trial, on_round: Callable[[Trial, int, float], None] = lambda *what: None) -> Pilot:
        """Emulate a trial; `on_round` hears of each round and the accuracy that it began with.

        Raises `RunError` where the devices tell no accuracy.
        """
        job = trial.job(self.job, self.boards)
        setup = Setup(job, self.boards, data=self.data, workers=self.workers, clusters=trial.clusters)
        with tempfile.TemporaryDirectory(prefix="gradsieve-pilot-") as path:
            folder = RunFolder(Path(path))
            folder.begin(resume=False)
            with emulated_run(setup, folder) as emulated:
                return self._until_reached(trial, emulated, job.rounds, on_round)

    def _until_reached(
        self, trial: Trial, emulated: EmulatedRun, rounds: int, on_round: Callable[[Trial, int, float], None]
    ) -> Pilot:
        run, best, moved = emulated.run, 0.0, list[float]()
        for server_round in range(1, rounds + 1):
            run.play_round(server_round)
            accuracy = run.journal.round(run.id, server_round).figures.get("base_accuracy")
            if accuracy is None:
                raise RunError(
                    f"nobody tells an accuracy in round {server_round}: a placement needs labels that are classes, "
                    "and test data on the devices"
                )
            moved.append(_moved(emulated))
            best = max(best, accuracy)
            on_round(trial, server_round, accuracy)
            if accuracy >= self.accuracy:
                return self._pilot(trial, server_round, best, moved)
        return self._pilot(trial, None, best, moved)

    def _pilot(self, trial: Trial, reached: int | None, best: float, moved: Sequence[float]) -> Pilot:
        devices = trial.devices(self.boards)
        later = (moved[-1] - moved[0]) / (len(moved) - 1) if len(moved) > 1 else moved[0]
        return Pilot(trial, reached, best, moved[0] / devices, later / devices, moved[-1])


def _moved(emulated: EmulatedRun) -> float:
    figures = emulated.figures()
    return float(str(figures["sent_bytes"])) + float(str(figures["received_bytes"]))
