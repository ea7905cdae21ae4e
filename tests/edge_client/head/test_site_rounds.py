"""A head's round without processes: the boards' updates lie in the journal, and nobody has to be asked."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from coordinator.journal import Journal
from coordinator.link import Link
from coordinator.publisher import Publisher
from coordinator.records import UpdateFacts
from edge_client.head.site_rounds import HeadSettings, SiteRounds
from edge_client.local_round import Carried, carried_over
from edge_client.orders import TrainOrder
from edge_client.pending import PendingStore, PendingUpdate
from edge_client.task import Task
from shared.compression.dense import DenseCodec
from shared.compression.memory import NoMemory
from shared.compression.plan import Plan
from shared.compression.registry import decode_frame
from shared.errors import DeadlineExceeded
from shared.layout import F32, Layout
from shared.memory_transport import MemoryBroker, MemoryTransport
from shared.messages import LocalWork
from shared.receiver import Receiver
from shared.signing import SigningKey
from shared.spool import MemorySpool
from shared.topics import Topics
from shared.update import UpdateHeader, UpdateObject, base_tag, run_tag

LAYOUT = Layout.of([("w", (4, 6), "weight")])
WORK = LocalWork(steps=3, batch_size=2, learning_rate=0.1, momentum=0.0, codec="dense", seed=1)
TARGET = "ab" * 32
FACTS = UpdateFacts(
    examples=1, steps=1, loss=0.5, correct=0, tested=0, frame_bytes=1, object_bytes=1, key_values=0, sparse_values=0,
    threshold=0.0, values_by_tensor=(0,), norm=1.0,
)  # fmt: skip


@dataclass
class Lab:
    """A head without boards, and a journal to put their updates into."""

    folder: Path

    def __post_init__(self) -> None:
        self.journal = Journal.open(self.folder / "site.sqlite")
        transport = MemoryTransport(MemoryBroker(), "head")
        publisher = Publisher(transport, Topics(), SigningKey(bytes(32)), "epoch", 4096)
        link = Link(transport, Topics(), publisher, Receiver(1 << 20, 1 << 20, MemorySpool()), lambda: 0.5)
        self.rounds = SiteRounds(link, self.journal, self.folder, HeadSettings(boards=0))
        (self.folder / "bundle").write_bytes(b"bundle")

    def order(self, server_round: int, seconds: float = 0.4) -> TrainOrder:
        return TrainOrder(
            run="run-1", server_round=server_round, bundle=str(self.folder / "bundle"), target=TARGET, seconds=seconds,
            device="head-1", work=WORK,
        )  # fmt: skip

    def put(self, server_round: int, updates: dict[str, tuple[F32, int]]) -> None:
        """Updates of boards with their examples, as admission would have let them into the journal."""
        self.journal.create_run("run-1", '{"head": "head-1"}')
        self.journal.open_round("run-1", server_round, TARGET, sorted(updates), b"")
        self.fill(server_round, updates)

    def fill(self, server_round: int, updates: dict[str, tuple[F32, int]]) -> None:
        for board, (values, examples) in updates.items():
            frame = DenseCodec().encode(values, LAYOUT, Plan(budget_bytes=1 << 10)).frame
            header = UpdateHeader(
                run_tag=run_tag("run-1"), base_tag=base_tag(TARGET), server_round=server_round, examples=examples,
                steps=3, loss=0.5, correct=1, tested=2, threshold=0.0,
            )  # fmt: skip
            self.journal.accept("run-1", server_round, board, UpdateObject(header, frame).pack(), FACTS)

    def work(self, server_round: int) -> UpdateObject:
        task = cast(Task, SimpleNamespace(layout=LAYOUT))
        model = np.zeros(LAYOUT.size, np.float32)
        carried = carried_over(PendingStore(self.folder / "runs" / "run-1"), LAYOUT, "dense", server_round)
        assert isinstance(carried, Carried)
        result = self.rounds.work(self.order(server_round), task, None, model, carried, lambda: True)
        return UpdateObject.unpack(result.object)

    def work_of_next(self, server_round: int, updates: dict[str, tuple[F32, int]]) -> UpdateObject:
        """The update of a round whose boards answer at once: the journal is told between its opening and its end."""
        opened = self.journal.open_round

        def open_and_answer(run: str, number: int, base: str, cohort: object, plan: bytes) -> object:
            record = opened(run, number, base, sorted(updates), plan)
            self.fill(number, updates)
            return record

        self.journal.open_round = open_and_answer  # type: ignore[method-assign,assignment]
        try:
            return self.work(server_round)
        finally:
            self.journal.open_round = opened  # type: ignore[method-assign]

    def commit(self, server_round: int, update: UpdateObject) -> None:
        store = PendingStore(self.folder / "runs" / "run-1")
        store.commit(
            PendingUpdate("run-1", server_round, TARGET, 3, update.pack()), NoMemory.zero(LAYOUT.size).state.data
        )


def values_of(update: UpdateObject) -> F32:
    vector = np.zeros(LAYOUT.size, np.float32)
    decode_frame(update.frame, LAYOUT, Plan(budget_bytes=1 << 10)).add_to(vector)
    return vector


def full(value: float) -> F32:
    return np.full(LAYOUT.size, value, np.float32)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_boards_count_by_their_examples_and_the_head_says_their_sum(lab: Lab) -> None:
    lab.put(1, {"a": (full(1.0), 30), "b": (full(5.0), 10)})
    update = lab.work(1)
    np.testing.assert_allclose(values_of(update), 2.0)
    assert (update.header.examples, update.header.steps) == (40, 3)
    assert (update.header.correct, update.header.tested) == (2, 4)
    assert update.header.loss == pytest.approx(0.5)


def test_a_round_that_is_asked_for_again_gives_the_same_bytes(lab: Lab) -> None:
    lab.put(1, {"a": (full(1.0), 30), "b": (full(5.0), 10)})
    assert lab.work(1) == lab.work(1)


def test_a_round_that_never_became_an_update_is_part_of_the_next_and_of_no_later_one(lab: Lab) -> None:
    lab.put(1, {"a": (full(1.0), 10)})
    lab.journal.freeze_round("run-1", 1)  # the head was killed here, and upstream went on
    first = lab.work_of_next(2, {"a": (full(2.0), 10)})
    np.testing.assert_allclose(values_of(first), 3.0)
    again = lab.work(2)
    np.testing.assert_allclose(values_of(again), 3.0, err_msg="killed before it was committed: still owed")
    lab.commit(2, again)
    later = lab.work_of_next(3, {"a": (full(4.0), 10)})
    np.testing.assert_allclose(values_of(later), 4.0)


def test_a_round_that_was_committed_is_not_owed(lab: Lab) -> None:
    lab.put(1, {"a": (full(1.0), 10)})
    lab.commit(1, lab.work(1))
    np.testing.assert_allclose(values_of(lab.work_of_next(2, {"a": (full(2.0), 10)})), 2.0)


def test_a_site_without_updates_declines_the_round(lab: Lab) -> None:
    with pytest.raises(DeadlineExceeded, match="none of 0 boards"):
        lab.work(1)
