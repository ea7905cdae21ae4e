"""Who is on which node, as the roll and the muster find out, on a clock of the test's own."""

from collections.abc import Iterable

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid

from coordinator.flower_compat import FlowerRun, adopt_identity, set_message_id
from coordinator.flower_engine.engine_muster import EngineMuster
from coordinator.flower_engine.exchange import Exchange
from coordinator.flower_engine.roll import SETTLE_SECONDS, Roll
from shared.errors import DeadlineExceeded, RunError
from shared.flower_records import CLIENT


class SilentGrid(Grid):
    """Keeps what it is given; replies are what the test makes of it."""

    def __init__(self, *nodes: int) -> None:
        adopt_identity(1)
        self.present = list(nodes)
        self.asked: dict[str, Message] = {}
        self.replies: list[Message] = []

    def answer(self, node: int, reply: RecordDict | Error) -> None:
        message = next(m for m in reversed(self.asked.values()) if m.metadata.dst_node_id == node)
        self.replies.append(Message(reply, reply_to=message))

    def name(self, node: int, name: str) -> None:
        self.answer(node, RecordDict({CLIENT: ConfigRecord({"device": name})}))

    @property
    def run(self) -> FlowerRun:
        raise NotImplementedError

    def set_run(self, run: FlowerRun) -> None:
        raise NotImplementedError

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return self.present

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            ids.append(f"message-{len(self.asked)}")
            set_message_id(message, ids[-1])
            self.asked[ids[-1]] = message
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        wanted = set(message_ids)
        found = [reply for reply in self.replies if reply.metadata.reply_to_message_id in wanted]
        self.replies = [reply for reply in self.replies if reply not in found]
        return found

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_each_node_is_asked_once_and_a_late_answer_counts(clock: Clock) -> None:
    grid = SilentGrid(5, 6)
    roll = Roll(grid, clock)
    roll.look()
    grid.name(5, "a")
    roll.look()
    assert roll.nodes == {"a": 5}
    assert not roll.settled
    clock.now += SETTLE_SECONDS
    assert roll.settled
    grid.name(6, "b")
    roll.look()
    assert roll.nodes == {"a": 5, "b": 6}
    assert len(grid.asked) == 2


def test_a_name_stays_with_its_node_until_that_is_gone(clock: Clock) -> None:
    grid = SilentGrid(5)
    roll = Roll(grid, clock)
    roll.look()
    grid.name(5, "a")
    grid.present.append(9)  # the client started again, and Flower does not know yet that its old node is gone
    roll.look()
    grid.name(9, "a")
    roll.look()
    assert roll.nodes == {"a": 5}
    grid.present.remove(5)
    roll.look()
    assert roll.nodes == {"a": 9}


@pytest.mark.parametrize(
    "answer",
    [
        RecordDict(),
        RecordDict({CLIENT: ConfigRecord({})}),
        RecordDict({CLIENT: ConfigRecord({"device": "Not A Name"})}),
        RecordDict({CLIENT: ConfigRecord({"device": 7})}),
        RecordDict({CLIENT: ConfigRecord({"device": b"\xff" * 3})}),
        Error(2002, "it has no name"),
    ],
    ids=["no record", "no name", "no usable name", "a number", "bytes", "an error"],
)
def test_a_node_without_a_usable_name_is_asked_nothing_more(clock: Clock, answer: RecordDict | Error) -> None:
    grid = SilentGrid(5)
    roll = Roll(grid, clock)
    roll.look()
    grid.answer(5, answer)
    roll.look()
    roll.look()
    assert roll.nodes == {}
    assert len(grid.asked) == 1


def test_a_node_that_flower_could_not_reach_is_asked_again_after_a_while(clock: Clock) -> None:
    grid = SilentGrid(5)
    roll = Roll(grid, clock)
    roll.look()
    grid.answer(5, Error(5, "node unavailable"))
    roll.look()
    roll.look()
    assert len(grid.asked) == 1
    clock.now += SETTLE_SECONDS
    roll.look()
    grid.name(5, "a")
    roll.look()
    assert roll.nodes == {"a": 5}


def test_a_cohort_is_waited_for_though_the_round_is_asked_of_it_alone(clock: Clock) -> None:
    grid = SilentGrid(5)
    muster = muster_of(grid, clock, restricted=["a"])
    began = clock.now
    muster.regather(["a"], 3.0)
    assert clock.now - began == pytest.approx(3.0, abs=0.3)


class Roster:
    """What a muster needs of a grid."""

    def __init__(self, roll: Roll, restricted: list[str] | None) -> None:
        self.roll, self.restricted = roll, restricted
        self.received_bytes: dict[str, int] = {}

    def devices(self) -> list[str]:
        return self.restricted or sorted(self.roll.nodes)


def muster_of(grid: SilentGrid, clock: Clock, restricted: list[str] | None = None) -> EngineMuster:
    return EngineMuster(Roster(Roll(grid, clock), restricted), clock, clock.pause)  # type: ignore[arg-type]  # all that is used


def test_a_dead_node_holds_up_a_round_once_and_not_for_long(clock: Clock) -> None:
    grid, told = SilentGrid(5, 6), list[int]()
    muster = muster_of(grid, clock)
    with pytest.raises(DeadlineExceeded, match="waited 4 s for 1 devices, 0 are online"):
        muster.gather(1, 4.0, told.append)
    grid.name(5, "a")
    began = clock.now
    assert muster.gather(1, 60.0, told.append) == ["a"]
    assert clock.now - began == pytest.approx(SETTLE_SECONDS - 4.0, abs=0.5)
    began = clock.now
    assert muster.gather(1, 60.0, told.append) == ["a"]
    assert clock.now == began
    assert told == [0]


def test_replies_end_at_the_deadline_and_belong_to_whom_the_message_was_for(clock: Clock) -> None:
    grid = SilentGrid(5, 6)
    exchange = Exchange(grid, clock, clock.pause)
    messages = {name: Message(RecordDict(), node, "train") for name, node in (("a", 5), ("b", 6))}
    replies = exchange.replies(messages, lambda clients, left: messages, 3.0)
    began = clock.now

    def answer_then_wait(seconds: float) -> None:
        if clock.now == began:
            grid.answer(6, RecordDict())
            grid.replies[-1].metadata.__dict__["_src_node_id"] = 5  # it claims to be another's
            grid.replies.append(grid.replies[-1])
        clock.now += seconds

    exchange._pause = answer_then_wait
    assert [device for device, _ in replies] == ["b"]
    assert clock.now - began == pytest.approx(3.0, abs=0.2)


def test_a_client_that_comes_in_mid_round_is_asked_for_the_time_that_is_left(clock: Clock) -> None:
    grid, here, lefts = SilentGrid(5), list[str](), list[float]()
    exchange = Exchange(grid, clock, clock.pause)

    def find(clients: list[str], left: float) -> dict[str, Message]:
        lefts.append(left)
        if clock.now >= 103.0:
            here.append("a")
        return {name: Message(RecordDict(), 5, "train") for name in here}

    def pause(seconds: float) -> None:
        if grid.asked and not grid.replies:
            grid.answer(5, RecordDict())
        clock.now += seconds

    exchange._pause = pause
    assert [client for client, _ in exchange.replies(["a"], find, 10.0)] == ["a"]
    assert lefts[0] == 10.0
    assert lefts[-1] == pytest.approx(7.0, abs=1.1)


@pytest.mark.parametrize("untaken", [None, ""], ids=["left out", "an empty id"])
def test_messages_that_flower_does_not_take_at_once_are_sent_again(clock: Clock, untaken: str | None) -> None:
    class Choosy(SilentGrid):
        """Takes the last of what it is given, as Flower's grids may."""

        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            *refused, taken = messages
            return [*([] if untaken is None else [untaken] * len(refused)), *super().push_messages([taken])]

    grid = Choosy(5, 6)
    nodes = {"a": 5, "b": 6}

    def find(clients: list[str], left: float) -> dict[str, Message]:
        return {name: Message(RecordDict(), nodes[name], "train") for name in clients}

    def pause(seconds: float) -> None:
        clock.now += seconds
        for message in list(grid.asked.values()):
            grid.answer(message.metadata.dst_node_id, RecordDict())

    exchange = Exchange(grid, clock, pause)
    assert sorted(client for client, _ in exchange.replies(nodes, find, 10.0)) == ["a", "b"]
    assert len(grid.asked) == 2


def test_messages_of_which_flower_takes_none_are_an_error_with_a_remedy(clock: Clock) -> None:
    class Full(SilentGrid):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            return []

    exchange = Exchange(Full(5), clock, clock.pause)
    message = Message(RecordDict(), 5, "train")
    with pytest.raises(RunError, match="Flower took none of 1 messages: see its log"):
        list(exchange.replies(["a"], lambda clients, left: {"a": message}, 10.0))


def test_a_node_whose_question_flower_did_not_take_is_asked_at_the_next_look(clock: Clock) -> None:
    class Dull(SilentGrid):
        deaf = True

        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            return [] if self.deaf else super().push_messages(messages)

    grid = Dull(5)
    roll = Roll(grid, clock)
    roll.look()
    assert roll.settled
    grid.deaf = False
    roll.look()
    grid.name(5, "a")
    roll.look()
    assert roll.nodes == {"a": 5}


def test_a_client_that_left_is_still_counted_with_its_bytes(clock: Clock) -> None:
    grid = SilentGrid(5)
    muster = muster_of(grid, clock)
    muster._grid.received_bytes = {"gone": 70}
    muster._grid.roll.look()
    grid.name(5, "a")
    muster._grid.roll.look()
    assert [(device.name, device.online, device.received_bytes) for device in muster.devices()] == [
        ("a", True, 0), ("gone", False, 70),
    ]  # fmt: skip
