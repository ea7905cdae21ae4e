"""The trainer in this process: what fleets, tests and the trainer's own child process run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_client.allotment import Allotment
from edge_client.data import DataSource
from edge_client.local_round import LocalResult, carried_over, run_round, unforeseeable
from edge_client.memory import available_bytes, rss_bytes
from edge_client.orders import (
    Answer,
    EvaluateOrder,
    Failed,
    NeedModel,
    Order,
    Scored,
    Trained,
    TrainOrder,
    TroubleCode,
    failed,
)
from edge_client.pending import PendingUpdate
from edge_client.privacy_account import PrivacyAccount, read_account, write_account
from edge_client.room import FolderRoom, KeptModel, Room, UpdateStore
from edge_client.runtime import Score
from edge_client.sensors import celsius
from edge_client.task import Task, read_archive
from shared.bundle import BundleManifest, check_memory
from shared.compression.plan import Plan
from shared.errors import (
    BundleError,
    DataError,
    DeadlineExceeded,
    Declined,
    RemoteError,
    SettingsError,
    TrainerError,
)
from shared.layout import F32, Layout
from shared.messages import DeclineReason

TROUBLES: dict[type[Exception], TroubleCode] = {
    DataError: "data_error",
    BundleError: "bundle_refused",
    RemoteError: "wrong_message",
    SettingsError: "wrong_message",
    DeadlineExceeded: "trainer_failed",
    TrainerError: "trainer_failed",
    OSError: "trainer_failed",
    Declined: "not_eligible",
}


class InlineTrainer:
    """Carries out each order within `submit`; the last bundle's sessions and data stay loaded between orders.

    `clock` is monotonic, in seconds. `noise` makes the generator of an update's noise, where the device's rules ask for
    any; `celsius` reads the board's temperature. `room` gives what is kept of a run, by its id, and `load` the task in
    an archive: without them they are the folders of the state directory and one task at a time. `work` and `score`
    take the place of `run_round` and `score_locally`.
    """

    def __init__(
        self,
        state_dir: Path,
        source: DataSource,
        clock: Callable[[], float],
        noise: Callable[[], np.random.Generator] = unforeseeable,
        celsius: Callable[[], float | None] = celsius,
        room: Callable[[str], Room] | None = None,
        load: Callable[[Path], Task] | None = None,
        work: Callable[..., LocalResult] = run_round,
        score: Callable[[EvaluateOrder, Task, F32], Score] | None = None,
    ) -> None:
        self._state_dir, self._source, self._clock, self._noise = state_dir, source, clock, noise
        self._celsius = celsius
        self._room = room or (lambda run: FolderRoom(state_dir / "runs" / run))
        self._task = load or self._load
        self._work, self._score = work, score or score_locally
        self._answers: list[Answer] = []
        self._loaded: tuple[str, Task] | None = None
        self._planned: tuple[bytes, Layout, Plan] | None = None

    def submit(self, order: Order) -> None:
        """Do the work of `order`; its answer waits for `poll`."""
        try:
            answer = self._carry_out(order, self._clock() + order.seconds)
        except tuple(TROUBLES) as error:
            answer = _explain(order, error)
        self._answers.append(answer)

    def poll(self) -> list[Answer]:
        """The answers since the last poll, oldest first."""
        answers, self._answers = self._answers, []
        return answers

    def peak_rss_bytes(self) -> int:
        """0: this trainer has no process of its own."""
        return 0

    def resident_bytes(self) -> int:
        """0: this trainer has no process of its own."""
        return 0

    def close(self) -> None:
        """Forget sessions and data."""
        self._loaded = self._planned = None

    def _carry_out(self, order: Order, deadline: float) -> Answer:
        room = self._room(order.run)
        store = room.updates
        if isinstance(order, TrainOrder) and (answer := _known(order, store)):
            return answer
        task = self._task(Path(order.bundle))
        kept = room.model(task.layout)
        kept.begin(task.growth)
        model = _model(order, kept)
        if model is None:
            return NeedModel(run=order.run, server_round=order.server_round, held=kept.digest())
        if isinstance(order, EvaluateOrder):
            return _scored(order, self._score(order, task, model))
        allotment = Allotment(deadline, order.rules.hottest_celsius, self._celsius, self._clock)
        try:
            return self._train(order, task, model, store, allotment)
        except DeadlineExceeded:
            if allotment.ended_by != "heat":
                raise
            text = f"the board got above {order.rules.hottest_celsius:g} °C before the first step"
            raise Declined(text, DeclineReason.CONDITION) from None

    def _train(self, order: TrainOrder, task: Task, model: F32, store: UpdateStore, allotment: Allotment) -> Trained:
        """Commit an update; a noised one is accounted for first, so that a crash in between counts too much."""
        terms, work = order.rules.privacy, order.work
        account = read_account(self._state_dir) if terms else PrivacyAccount()
        if terms:
            account.check(terms)
        plan = Path(order.plan).read_bytes() if order.plan else b""
        result = self._work(
            order,
            task,
            self._plan(plan, task.layout) if plan else None,
            model,
            carried_over(store, task.layout, work.codec, order.server_round, private=terms is not None),
            allotment,
            self._noise() if terms else None,
        )
        if terms:
            account = account.after(terms)
            write_account(self._state_dir, account)
        update = commit(order, result, store, plan, noised=terms is not None)
        spent = account.spent(terms) if terms else None
        return _trained(update).model_copy(
            update={"privacy": spent, "ended_by": allotment.ended_by, "label_counts": result.label_counts}
        )

    def _plan(self, data: bytes, layout: Layout) -> Plan:
        """The plan in `data`; where many orders of a round come here they all have the same."""
        if self._planned is None or self._planned[0] != data or self._planned[1] is not layout:
            self._planned = data, layout, Plan.from_bytes(data, layout)
        return self._planned[2]

    def _load(self, archive: Path) -> Task:
        if self._loaded is None or self._loaded[0] != archive.stem:
            self._loaded = None
            bundle = read_archive(archive)
            _check_room(bundle.manifest)
            self._loaded = archive.stem, Task(bundle, self._source)
        return self._loaded[1]


def commit(
    order: TrainOrder, result: LocalResult, store: UpdateStore, plan: bytes, *, noised: bool = False
) -> PendingUpdate:
    """Keep what came of an order that was sieved by `plan`: the update, the residual, and the sends after it."""
    update = PendingUpdate(
        order.run, order.server_round, order.target, result.steps, result.object, plan, result.history, noised
    )
    store.commit(update, result.residual.data)
    if result.after is not None:
        store.keep_history(result.after.to_bytes())
    return update


def _check_room(manifest: BundleManifest) -> None:
    """Raise `BundleError` where what this process would grow by is no longer free: a kept bundle may be an old one."""
    missing = manifest.estimated_peak_bytes - rss_bytes()
    check_memory(manifest.name, missing, available_bytes())


def _known(order: TrainOrder, store: UpdateStore) -> Answer | None:
    """The answer that is clear without any training."""
    update = store.read()
    if update is None:
        return None
    if (update.run, update.server_round, update.base) == (order.run, order.server_round, order.target):
        return _trained(update)
    if store.verdict_on(update) is None:
        text = f"the update of round {update.server_round} waits for its verdict: offer it again first"
        return failed(order, "not_eligible", text)
    return None


def _model(order: Order, kept: KeptModel) -> F32 | None:
    """The model that the order is about, by the shortest way."""
    model = kept.load(order.target)
    if model is None and order.model is not None:
        return kept.replace(Path(order.model), order.target)
    if model is None and order.chain is not None:
        return kept.advance(Path(order.chain), order.target)
    return model


def score_locally(order: EvaluateOrder, task: Task, model: F32) -> Score:
    """How `model` does on this device's own test part; raises `DataError` where there is none."""
    x, y = task.split.test_x, task.split.test_y
    if not len(x):
        raise DataError("there is nothing to test on: add longer recordings, or more examples")
    return task.runtime.evaluate(model, x, y)


def _scored(order: EvaluateOrder, score: Score) -> Answer:
    if not order.rules.report_examples:
        score = score.in_thousandths()
    return Scored(
        run=order.run,
        server_round=order.server_round,
        loss=score.loss,
        correct=score.correct,
        examples=score.examples,
        model=order.target,
    )


def _trained(update: PendingUpdate) -> Trained:
    return Trained(
        run=update.run,
        server_round=update.server_round,
        object_bytes=len(update.object),
        steps=update.steps,
        model=update.base,
    )


def _explain(order: Order, error: Exception) -> Failed:
    code = next(code for kind, code in TROUBLES.items() if isinstance(error, kind))
    reason = DeclineReason(error.reason) if isinstance(error, Declined) else None
    return failed(order, code, str(error), reason)
