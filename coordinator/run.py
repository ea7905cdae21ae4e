"""One run of a job, durable: every step is in the journal before the next begins, so a killed run continues."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flwr.app import ConfigRecord, Message

from coordinator.admission import Admission, AdmissionLimits, typical_norm
from coordinator.checkpoints import CheckpointStore
from coordinator.fleet import Device
from coordinator.intake import Intake
from coordinator.job import Job
from coordinator.journal import Journal
from coordinator.muster import Muster
from coordinator.records import RoundRecord, RoundState
from coordinator.round_grid import RoundGrid
from coordinator.strategy import SieveStrategy, plain_figures
from shared.errors import DeadlineExceeded, GradsieveError, RunError

log = logging.getLogger(__name__)

FAREWELL_SECONDS = 5.0
REGATHER_SECONDS = 45.0
"""Longer than any device's pause between two attempts to reach the broker."""


@dataclass(frozen=True)
class Progress:
    """Where a run is, for whoever shows it."""

    server_round: int
    phase: str


class Run:
    """Drives a strategy through its rounds by Flower's own hooks; the journal decides where to begin.

    Round r is: fix cohort and plan (journal), offer, collect (journal, update by update), freeze (journal), aggregate,
    checkpoint (file), close (journal). A crash between two steps repeats the one it interrupted, with the same bits.
    """

    def __init__(
        self,
        job: Job,
        strategy: SieveStrategy,
        journal: Journal,
        checkpoints: CheckpointStore,
        muster: Muster,
        grid: RoundGrid,
        intake: Intake,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_closed: Callable[[RoundRecord], None] = lambda record: None,
    ) -> None:
        self.job, self.strategy, self.journal = job, strategy, journal
        self._checkpoints, self._muster, self._grid, self._intake = checkpoints, muster, grid, intake
        self._on_progress, self._on_closed = on_progress, on_closed
        self._seen = (0, 0)

    @property
    def id(self) -> str:
        """The run's id, as in the journal and on the wire."""
        return self.strategy.run

    def execute(self) -> dict[str, float]:
        """Train the rounds that are left, evaluate the last model on all devices, and return the final figures."""
        with self._recorded():
            first = self._restore() + 1
            self._regather()
            for server_round in range(first, self.job.rounds + 1):
                self.play_round(server_round)
            figures = self._evaluate()
            self._farewell()
        return figures

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        try:
            yield
        except GradsieveError as error:
            self.journal.note(self.id, "error", str(error))
            raise

    def finish(self) -> None:
        """Enter the end into the journal, once all that is to be kept of the run was written: no resume after this."""
        self.journal.finish_run(self.id, "finished")

    def await_devices(self, count: int, seconds: float) -> bool:
        """Wait until so many devices are online, at most so long; whether they are."""
        return self._muster.wait_for(count, seconds)

    def devices(self) -> list[Device]:
        """The devices heard of so far, by name, as they are now."""
        return self._muster.devices()

    def _restore(self) -> int:
        """Load the model of the last closed round; its number, or 0 for a run that never closed one."""
        closed = [r for r in self.journal.rounds(self.id) if r.state is RoundState.CLOSED]
        if not closed:
            return 0
        last = closed[-1]
        checkpoint = self._checkpoints.load(last.checkpoint)
        self.strategy.restore(checkpoint.tensors, checkpoint.facts["base"] or None)
        if self.strategy.model.digest != last.model:
            raise RunError(
                f"{last.checkpoint} holds model {self.strategy.model.digest[:12]}, but the journal closed round "
                f"{last.server_round} with {last.model[:12]}: restore both from one backup"
            )
        log.info("%s continues after round %d", self.id, last.server_round)
        return last.server_round

    def _regather(self) -> None:
        """After a resume, wait for the devices of the last round: they too may have lost the broker, and back off."""
        last = self.journal.last_round(self.id)
        if last is None:
            return
        self._report(last.server_round, f"waiting for the devices of the last round, at most {REGATHER_SECONDS:g} s")
        self._muster.regather(last.cohort, REGATHER_SECONDS)

    def play_round(self, server_round: int) -> None:
        """One round from its opening to its close; the one before must be closed."""
        record = self._open(server_round)
        self.strategy.begin_round(server_round, record.plan)
        self._traffic()
        with self._muster.lock:
            self._intake.open(server_round, record.cohort, self._admission(record))
        self._grid.restrict(list(record.cohort))
        replies = self._collect(server_round)
        self._report(server_round, "aggregating")
        _, metrics = self.strategy.aggregate_train(server_round, replies)
        self._grid.restrict(None)
        self._close(server_round, plain_figures(metrics))

    def _collect(self, server_round: int) -> Iterable[Message]:
        """The replies of a round that has enough updates; devices told that theirs counts must not be let down.

        Raises `DeadlineExceeded` when the updates are too few after two deadlines: the round stays open in the journal.
        """
        fleet, arrays = self.job.fleet, self.strategy.arrays()
        for _ in range(2):
            self._report(server_round, "collecting updates")
            config = ConfigRecord({"server-round": server_round})
            messages = self.strategy.configure_train(server_round, arrays, config, self._grid)
            replies = self._grid.send_and_receive(messages, timeout=fleet.round_seconds)
            if self._intake.frozen or self._intake.count >= fleet.minimum_updates:
                return replies
            self._regather()
        raise DeadlineExceeded(
            f"round {server_round} has {self._intake.count} updates after two deadlines, at least "
            f"{fleet.minimum_updates} are wanted ([fleet] minimum_updates): see the devices' troubles with "
            "`gradsieve status`, then continue with --resume; the round stays open"
        )

    def _open(self, server_round: int) -> RoundRecord:
        """The round as the journal has it; a new one gets its cohort from the devices that are online."""
        last = self.journal.last_round(self.id)
        if last is not None and last.server_round == server_round:
            return last
        fleet = self.job.fleet
        wanted = fleet.minimum_updates if last else max(fleet.minimum_updates, fleet.minimum_devices)
        devices = self._gather(server_round, wanted)
        cohort = self.strategy.select(server_round, devices)
        plan = self.strategy.next_plan().to_bytes()
        return self.journal.open_round(self.id, server_round, self.strategy.model.digest, cohort, plan)

    def _gather(self, server_round: int, wanted: int) -> list[str]:
        """The devices online, once there are `wanted` of them; raises `DeadlineExceeded`."""
        seconds = self.job.fleet.gather_seconds

        def on_wait(online: int) -> None:
            self._report(server_round, f"waiting for {wanted} devices, {online} online, at most {seconds:g} s")

        return self._muster.gather(wanted, seconds, on_wait)

    def _admission(self, record: RoundRecord) -> Admission | None:
        """What judges updates of an open round; None when a crash came after the round was frozen."""
        if record.state is not RoundState.OPEN:
            return None
        limits = AdmissionLimits(largest_examples=self.job.fleet.largest_examples)
        # before there are updates to compare with, none may be many times as long as the model itself
        norms = [update.facts.norm for update in self.journal.updates(self.id, record.server_round - 1)]
        return Admission(
            self.strategy.layout,
            self.strategy.plan_of(record.server_round),
            record.server_round,
            record.base,
            limits,
            typical_norm(norms) or max(1.0, self.strategy.model.norm()),
            self.strategy.server.history_of,
            self.strategy.server.decoded.keep,
        )

    def _close(self, server_round: int, figures: dict[str, float]) -> None:
        model = self.strategy.model
        name = ""
        if self._checkpoints.wants(server_round):
            name = self._checkpoints.save(server_round, self.strategy.state(), {"base": model.base or ""})
        figures |= {"delta_bytes": float(len(model.delta))} | self._traffic()
        self.journal.close_round(self.id, server_round, model.digest, name, figures)
        self._on_closed(self.journal.round(self.id, server_round))

    def _evaluate(self) -> dict[str, float]:
        rounds = self.job.rounds
        self._gather(rounds, 1)
        self._report(rounds, "evaluating the final model")
        arrays, config = self.strategy.arrays(), ConfigRecord({"server-round": rounds})
        messages = self.strategy.configure_evaluate(rounds, arrays, config, self._grid)
        replies = self._grid.send_and_receive(messages, timeout=self.job.fleet.round_seconds)
        metrics = self.strategy.aggregate_evaluate(rounds, replies)
        if metrics is None:
            self.journal.note(self.id, "warning", "no device has test data: how the final model does is not known")
            return {}
        figures = plain_figures(metrics)
        self.journal.note(self.id, "final", " ".join(f"{k}={v!r}" for k, v in figures.items()))
        return figures

    def _farewell(self) -> None:
        """Tell the devices that the run is over, and wait a moment for their last counters."""

        def on_wait() -> None:
            self._report(self.job.rounds, f"waiting for the devices' last counters, at most {FAREWELL_SECONDS:g} s")

        self._muster.dismiss(self.id, FAREWELL_SECONDS, on_wait)

    def _traffic(self) -> dict[str, float]:
        """Bytes of whole MQTT packets on the coordinator's transport since the last round closed."""
        received, sent = self._muster.traffic_bytes()
        before, self._seen = self._seen, (received, sent)
        return {"uplink_bytes": float(received - before[0]), "published_bytes": float(sent - before[1])}

    def _report(self, server_round: int, phase: str) -> None:
        self._on_progress(Progress(server_round, phase))
