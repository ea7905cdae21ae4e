"""A job on a Grid of Flower's: the real ClientApp behind a grid that runs it at once, and loses what it is told to."""

import hashlib
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from coordinator.emulation.emulation import Setup, emulated_run
from coordinator.flower_compat import FlowerRun, adopt_identity, empty_run, set_message_id
from coordinator.flower_engine.engine_grid import LINGER_SECONDS
from coordinator.flower_engine.job_server import engine_run, train
from coordinator.job import Fleet, Job, Sieve, Work
from coordinator.journal import Journal
from coordinator.replies import ERROR_LATE, ERROR_TROUBLE
from coordinator.run_folder import RunFolder
from coordinator.tasks.drill import DRILL
from edge_client.data import DataSource, MemorySource, Recordings
from edge_client.flower_job import job_client_app
from shared.errors import DeadlineExceeded, RunError
from shared.flower_records import CLIENT, UPDATE
from shared.messages import Evaluated, dump
from shared.verdicts import Ruling, Verdict

JOB = Job(
    name="drill",
    task="drill",
    rounds=4,
    work=Work(steps=2, batch_size=8, learning_rate=0.05),
    sieve=Sieve(ratio=50.0),
    fleet=Fleet(minimum_devices=3, minimum_updates=2, round_seconds=30, gather_seconds=3),
)
DRILLED = {client.name: MemorySource(Recordings(client.series, client.labels)) for client in DRILL.clients()}

Answer = Callable[[Message], Message | None]


def name(context: Context) -> str:
    return str(context.node_config["device"])


def source(context: Context) -> DataSource:
    return DRILLED[name(context)]


class ImmediateGrid(Grid):
    """Runs the app for each message as it is pushed, with a Context for each node; `answer` may change or lose one."""

    def __init__(self, names: list[str], app: ClientApp, answer: dict[str, Answer] | None = None) -> None:
        adopt_identity(1)
        self.contexts = {
            number: Context(1, number, {"device": name}, RecordDict(), {}) for number, name in enumerate(names, 5)
        }
        self.pushed: list[Message] = []
        self._app: Callable[[Message, Context], Message] = app
        self._answer, self._ids = answer or {}, itertools.count()
        self._replies: dict[str, Message] = {}

    @property
    def run(self) -> FlowerRun:
        return empty_run(1)

    def set_run(self, run: FlowerRun) -> None:
        raise NotImplementedError

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._push(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(key) for key in message_ids if key in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError

    def _push(self, message: Message) -> str:
        message_id = f"message-{next(self._ids)}"
        set_message_id(message, message_id)
        self.pushed.append(message)
        context = self.contexts[message.metadata.dst_node_id]
        reply = self._app(message, context)
        change = self._answer.get(name(context))
        if (kept := change(reply) if change else reply) is not None:
            self._replies[message_id] = kept
        return message_id


def grid(names: Iterable[str], answer: dict[str, Answer] | None = None, app: ClientApp | None = None) -> ImmediateGrid:
    return ImmediateGrid(list(names), app or job_client_app(name, source), answer)


def in_round(server_round: int, then: Answer) -> Answer:
    """What `then` makes of the replies to the messages of one round, which carry updates."""
    seen = itertools.count(1)

    def change(reply: Message) -> Message | None:
        is_update = not reply.has_error() and UPDATE in reply.content.config_records
        return then(reply) if is_update and next(seen) == server_round else reply

    return change


@pytest.fixture(scope="module")
def emulated_digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the model that the emulator makes of the same job."""
    folder = RunFolder(tmp_path_factory.mktemp("emulated"))
    folder.begin(resume=False)
    with emulated_run(Setup(JOB, 4, workers=1), folder) as found:
        found.run.execute()
        return found.run.strategy.model.digest


def devices_by_round(folder: Path) -> dict[int, list[str]]:
    journal = Journal.open(RunFolder(folder).journal)
    try:
        found: dict[int, list[str]] = {}
        for update in journal.updates(journal.runs()[-1].run):
            found.setdefault(update.server_round, []).append(update.device)
        return {server_round: sorted(names) for server_round, names in found.items()}
    finally:
        journal.close()


def test_a_job_makes_the_model_of_the_emulator_bit_for_bit(tmp_path: Path, emulated_digest: str) -> None:
    figures = train(JOB, RunFolder(tmp_path / "flower"), grid(DRILLED))
    assert figures["updates"] == 16
    assert figures["model_digest"] == emulated_digest
    for written in ("model.safetensors", "summary.json", "report.html"):
        assert (tmp_path / "flower" / written).stat().st_size > 0


def test_a_lost_update_is_owed_and_delivered_later(tmp_path: Path) -> None:
    """The client learns from the next message that its last update never came, and takes it up again."""
    told: list[int] = []

    def lose(reply: Message) -> None:
        told.append(len(reply.content.config_records[UPDATE]["content"]))  # type: ignore[arg-type]  # it is bytes

    lossy = grid(DRILLED, {"drill-1": in_round(2, lose)})
    job = JOB.model_copy(update={"fleet": JOB.fleet.model_copy(update={"round_seconds": 4.0})})
    train(job, RunFolder(tmp_path / "lossy"), lossy)
    assert len(told) == 1
    assert devices_by_round(tmp_path / "lossy") == {
        1: sorted(DRILLED), 2: ["drill-0", "drill-2", "drill-3"], 3: sorted(DRILLED), 4: sorted(DRILLED),
    }  # fmt: skip
    commands = [
        message.content.config_records[CLIENT]
        for message in lossy.pushed
        if message.metadata.message_type == "train" and message.metadata.dst_node_id == 6
    ]
    assert [record["accepted"] for record in commands] == [0, 1, 1, 3]


def test_a_server_that_fails_in_mid_round_goes_on_with_the_updates_it_has(tmp_path: Path, emulated_digest: str) -> None:
    class Ended(Exception):
        pass

    def end(reply: Message) -> Message:
        raise Ended

    folder, first = RunFolder(tmp_path / "broken"), grid(DRILLED, {"drill-3": in_round(2, end)})
    with pytest.raises(Ended):
        train(JOB, folder, first)
    second = grid(DRILLED)
    second.contexts = first.contexts  # a second `flwr run` has empty ones: see the next test
    figures = train(JOB, folder, second)
    assert figures["updates"] == 16
    assert figures["model_digest"] == emulated_digest


def test_a_run_that_goes_on_with_clients_that_forgot_keeps_every_accepted_update(tmp_path: Path) -> None:
    class Ended(Exception):
        pass

    def end(reply: Message) -> Message:
        raise Ended

    folder = RunFolder(tmp_path)
    with pytest.raises(Ended):
        train(JOB, folder, grid(DRILLED, {"drill-3": in_round(2, end)}))
    figures = train(JOB, folder, grid(DRILLED))
    assert (figures["updates"], figures["refused_updates"]) == (16, 0)
    assert devices_by_round(tmp_path) == {server_round: sorted(DRILLED) for server_round in range(1, 5)}


def test_clients_with_the_same_name_or_none_are_asked_nothing(tmp_path: Path) -> None:
    nodes = grid([*DRILLED, "drill-0", "No Name", ""])
    folder = RunFolder(tmp_path)
    folder.begin(resume=False)
    with engine_run(JOB, folder, nodes) as run:
        run.play_round(1)
    asked = {m.metadata.dst_node_id for m in nodes.pushed if m.metadata.message_type == "train"}
    assert asked == {5, 6, 7, 8}


def test_what_is_no_update_is_refused_and_the_round_goes_on(tmp_path: Path) -> None:
    def with_content(record: ConfigRecord) -> Answer:
        def change(reply: Message) -> Message:
            reply.content[UPDATE] = record
            return reply

        return change

    answer = {
        "drill-0": in_round(1, with_content(ConfigRecord({"content": b"\x00" * 40}))),
        "drill-1": in_round(1, _emptied),
    }
    folder = RunFolder(tmp_path)
    folder.begin(resume=False)
    with engine_run(JOB, folder, grid(DRILLED, answer)) as run:
        run.play_round(1)
        failures = sorted(run.strategy.tally.failures)
    assert failures[0].startswith("drill-0: ")
    assert failures[1] == "drill-1: the reply has neither an update nor a score"
    assert devices_by_round(tmp_path) == {1: ["drill-2", "drill-3"]}


def _emptied(reply: Message) -> Message:
    del reply.content[UPDATE]
    return reply


def test_a_client_that_fails_is_left_out_with_its_reason(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(resume=False)
    with engine_run(JOB, folder, grid(DRILLED, {"drill-2": in_round(1, _failed)})) as run:
        run.play_round(1)
        assert run.strategy.tally.failures == ["drill-2: out of memory"]


def _failed(reply: Message) -> Message:
    return _error_in_place_of(reply, 7, "out of memory")


def _error_in_place_of(reply: Message, code: int, reason: str) -> Message:
    failed = Message(Error(code, reason), reply_to=reply)
    failed.metadata.__dict__.update(
        _src_node_id=reply.metadata.src_node_id, _reply_to_message_id=reply.metadata.reply_to_message_id
    )
    return failed


@pytest.mark.parametrize(
    "score",
    [dump(Evaluated(run="drill-x", server_round=5, loss=1.0, correct=1, examples=2)), b"{}"],
    ids=["of another run", "no score at all"],
)
def test_a_score_that_is_not_of_this_model_does_not_count(tmp_path: Path, score: bytes) -> None:
    def lie(reply: Message) -> Message:
        if not reply.has_error() and "event" in reply.content.config_records.get(UPDATE, {}):
            reply.content[UPDATE] = ConfigRecord({"event": score})
        return reply

    job = JOB.model_copy(update={"rounds": 1})
    figures = train(job, RunFolder(tmp_path), grid(DRILLED, dict.fromkeys(list(DRILLED)[1:], lie)))
    honest = train(job, RunFolder(tmp_path / "one"), grid(DRILLED))
    assert figures["accuracy"] is not None
    assert figures["model_digest"] == honest["model_digest"]
    assert figures["loss"] != honest["loss"], "one honest device's loss is not the mean of four"


@pytest.mark.parametrize(("code", "meant"), [(3, ERROR_LATE), (4, ERROR_LATE), (5, ERROR_TROUBLE), (7, ERROR_TROUBLE)])
def test_flowers_own_errors_are_told_apart(tmp_path: Path, code: int, meant: int) -> None:
    codes: list[int] = []

    def fail(reply: Message) -> Message:
        return _error_in_place_of(reply, code, "")

    folder = RunFolder(tmp_path)
    folder.begin(resume=False)
    with engine_run(JOB, folder, grid(DRILLED, {"drill-2": in_round(1, fail)})) as run:
        aggregate = run.strategy.aggregate_train

        def noted(server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
            kept = list(replies)
            codes.extend(reply.error.code for reply in kept if reply.has_error())
            return aggregate(server_round, kept)

        run.strategy.aggregate_train = noted  # type: ignore[method-assign]  # to look at what it is given
        run.play_round(1)
    assert codes == [meant]


def test_an_update_that_cannot_be_taken_now_is_told_to_the_operator(tmp_path: Path) -> None:
    folder, reason = RunFolder(tmp_path), "the coordinator cannot store updates now"
    folder.begin(resume=False)
    with engine_run(JOB, folder, grid(DRILLED)) as run:
        take = run._intake.take

        def full(device: str, content: bytes) -> Ruling:
            return Ruling(Verdict.RETRY_AFTER, reason) if device == "drill-2" else take(device, content)

        run._intake.take = full  # type: ignore[method-assign]  # the disk of this test
        run.play_round(1)
        assert [event.text for event in run.journal.events(run.id) if event.kind == "trouble"] == [f"drill-2: {reason}"]
    assert devices_by_round(tmp_path) == {1: ["drill-0", "drill-1", "drill-3"]}


def test_a_message_outlives_its_round_so_that_a_late_client_can_say_so(tmp_path: Path) -> None:
    folder, nodes = RunFolder(tmp_path), grid(DRILLED)
    folder.begin(resume=False)
    with engine_run(JOB, folder, nodes) as run:
        run.play_round(1)
    ttls = [message.metadata.ttl for message in nodes.pushed if message.metadata.message_type == "train"]
    assert len(ttls) == 4
    assert all(ttl == pytest.approx(30 + LINGER_SECONDS, abs=1.0) for ttl in ttls)


def test_a_finished_run_says_how_to_begin_another(tmp_path: Path) -> None:
    job = JOB.model_copy(update={"rounds": 1})
    train(job, RunFolder(tmp_path), grid(DRILLED))
    with pytest.raises(RunError, match=f"{tmp_path} cannot go on: .* is finished.*flwr run --run-config 'out="):
        train(job, RunFolder(tmp_path), grid(DRILLED))


def test_a_message_to_a_node_that_is_none_of_the_grids_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(resume=False)
    with (
        engine_run(JOB, folder, grid(DRILLED)) as run,
        pytest.raises(RunError, match="a message to node 99, which get_node_ids"),
    ):
        run._grid.send_and_receive([Message(RecordDict(), 99, "train")], timeout=1.0)


def test_too_few_clients_end_the_run_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(DeadlineExceeded, match="waited 3 s for 3 devices, 2 are online: drill-0, drill-1; start more"):
        train(JOB, RunFolder(tmp_path), grid(["drill-0", "drill-1"]))


def test_a_client_runs_bundles_of_the_signer_it_was_given_alone(tmp_path: Path) -> None:
    stranger = hashlib.sha256(b"another key").hexdigest()
    folder = RunFolder(tmp_path)
    folder.begin(resume=False)
    careful = grid(DRILLED, app=job_client_app(name, source, signer=stranger))
    with engine_run(JOB, folder, careful) as run:
        with pytest.raises(DeadlineExceeded, match="0 updates after two deadlines"):
            run.play_round(1)
        troubles = [event.text for event in run.journal.events(run.id) if event.kind == "trouble"]
    assert len(troubles) == 8
    assert all("not among the trusted keys" in text for text in troubles), troubles
