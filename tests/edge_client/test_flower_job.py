"""A job's ClientApp and what a server may send it: every message is answered, with an error where it makes no sense."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from coordinator.bundle_builder import Title, signed_bundle
from coordinator.export.step_graphs import StepGraphs
from coordinator.flower_compat import adopt_identity
from edge_client.context_room import STATE, ContextRoom
from edge_client.flower_job import NOT_DONE, job_client_app, seconds_left
from edge_client.pending import PendingUpdate
from edge_client.task_shelf import PREFIX, TaskShelf, sweep
from shared.errors import DigestMismatch, SignatureError, TrainerError
from shared.flower_records import CLIENT, ROUND
from shared.layout import Layout
from shared.messages import BlobRef, CancelCommand, LocalWork, RoundManifest, TrainCommand, dump
from shared.preprocessing import ExamplePreprocessing
from shared.signing import SigningKey

DIGEST = "ab" * 32
REF = BlobRef(digest=DIGEST, size=3)
WORK = LocalWork(steps=1, batch_size=1, learning_rate=0.1, momentum=0.0, codec="partition", seed=1)
MANIFEST = RoundManifest(run="run-1", server_round=1, bundle=REF, model=REF, plan=REF, work=WORK)
COMMAND = TrainCommand(run="run-1", server_round=1, seconds=5.0)
LATER = COMMAND.model_copy(update={"server_round": 2})
OFFER = {"manifest": dump(MANIFEST), "attachment": b"", DIGEST: b"abc"}
OWN = {"command": dump(COMMAND), "accepted": 0, "signer": "cd" * 32}

Config = dict[str, bool | float | int | str]


@pytest.fixture(autouse=True)
def identity() -> None:
    adopt_identity(1)


def context(config: Config | None = None) -> Context:
    return Context(1, 5, {"device": "board-7"} if config is None else config, RecordDict(), {})


def error_of(
    content: RecordDict, kind: str = "train", config: dict[str, bool | float | int | str] | None = None
) -> str:
    message = Message(content, 5, kind)
    message.metadata.__dict__["_message_id"] = "message-1"
    reply = job_client_app()(message, context(config))
    assert reply.has_error()
    assert reply.error.code == NOT_DONE
    return str(reply.error.reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "without the record client"),
        ({CLIENT: OWN}, "without the record round"),
        ({CLIENT: OWN, ROUND: {**OFFER, "manifest": "text"}}, "lacks manifest"),
        ({CLIENT: OWN, ROUND: {**OFFER, "manifest": b"\xff"}}, "control message"),
        ({CLIENT: {**OWN, "command": b"{}"}, ROUND: OFFER}, "control message"),
        ({CLIENT: {**OWN, "command": dump(CancelCommand(run="run-1"))}, ROUND: OFFER}, "no command to work"),
        ({CLIENT: {**OWN, "command": dump(LATER)}, ROUND: OFFER}, "came with the manifest of another"),
        ({CLIENT: {**OWN, "signer": "nobody"}, ROUND: OFFER}, "the signer of the job's bundle"),
        ({CLIENT: OWN, ROUND: {"manifest": dump(MANIFEST), "attachment": b""}}, "lacks abababababababab"),
        ({CLIENT: OWN, ROUND: OFFER}, "do not have the digest"),
    ],
)
def test_a_message_that_makes_no_sense_is_answered_with_the_reason(
    content: dict[str, dict[str, bytes | str | int]], reason: str
) -> None:
    assert reason in error_of(RecordDict({name: ConfigRecord({**record}) for name, record in content.items()}))


def test_time_on_the_way_is_taken_from_the_work() -> None:
    assert seconds_left(COMMAND, created_at=1000.0, now=1002.0) == 3.0
    assert seconds_left(COMMAND, created_at=1000.0, now=900.0) == 5.0, "a clock that is behind gives no more time"
    with pytest.raises(TrainerError, match="came 7 s after it was sent, for 5 s of work: give rounds more round_sec"):
        seconds_left(COMMAND, created_at=1000.0, now=1007.0)


@pytest.mark.parametrize("partition", ["abc", 2.5, -1])
def test_a_partition_that_is_no_number_says_what_to_give(partition: str | float) -> None:
    assert "give a number, or a name in device=" in error_of(RecordDict(), "query", {"partition-id": partition})


def test_only_the_newest_bundle_is_kept(tmp_path: Path) -> None:
    shelf, key, kept = TaskShelf(tmp_path), SigningKey.generate(), list[Path]()
    for name in ("first", "second"):
        ref, content = packed(name, key)
        kept.append(shelf.bundle(ref, content, key.verify_key))
    assert [path.exists() for path in kept] == [False, True]
    shelf.close()
    assert not list(tmp_path.iterdir())


def test_folders_of_killed_processes_are_swept_and_no_others(tmp_path: Path) -> None:
    place, elsewhere, now = tmp_path / "place", tmp_path / "elsewhere", time.time()
    place.mkdir()
    living = TaskShelf(place)
    left, young, foreign = (place / f"{PREFIX}{name}" for name in ("left", "young", "foreign"))
    for folder, age in ((left, 100.0), (young, 0.0), (elsewhere, 100.0)):
        folder.mkdir()
        (folder / "lock").write_text("1\n")
        os.utime(folder / "lock", (now - age, now - age))
    os.utime(living.folder / "lock", (now - 100.0, now - 100.0))
    foreign.symlink_to(elsewhere)
    sweep(place, now)
    assert {path.name for path in place.iterdir()} == {living.folder.name, young.name, foreign.name}
    assert (elsewhere / "lock").read_text() == "1\n", "a link leads to what is not ours to touch"
    living.close()


def test_a_node_without_a_name_says_what_to_start_it_with() -> None:
    assert "--node-config 'device=" in error_of(RecordDict(), "query", {})


def test_a_client_is_named_by_its_partition_where_it_has_no_name() -> None:
    message = Message(RecordDict(), 5, "query")
    message.metadata.__dict__["_message_id"] = "message-1"
    reply = job_client_app()(message, context({"partition-id": 12}))
    assert reply.content.config_records[CLIENT]["device"] == "client-00012"


def update(server_round: int, run: str = "run-1") -> PendingUpdate:
    return PendingUpdate(run, server_round, DIGEST, 3, b"object", b"plan", b"history")


def test_what_a_client_keeps_is_its_runs_alone() -> None:
    kept = context()
    store = ContextRoom(kept, "run-1", 0).updates
    assert store.read() is None
    assert store.read_residual() == store.history() == b""
    store.commit(update(4), memoryview(b"\x00\x00\x80\x3f"))
    store.keep_history(b"after")
    again = ContextRoom(kept, "run-1", 0).updates
    assert again.read() == update(4)
    assert (again.read_residual(), again.history()) == (b"\x00\x00\x80\x3f", b"after")
    assert ContextRoom(kept, "run-2", 0).updates.read() is None
    again.commit(update(5), b"")
    assert again.history() == b"", "sends after an update belong to that update"
    assert STATE in kept.state.config_records


@pytest.mark.parametrize(("accepted", "counts"), [(0, False), (3, False), (4, True)])
def test_an_update_counts_only_where_the_server_says_so(accepted: int, counts: bool) -> None:
    assert ContextRoom(context(), "run-1", accepted).updates.verdict_on(update(4)) is counts


def test_a_model_that_is_not_the_rounds_is_refused(tmp_path: Path) -> None:
    layout = Layout.of([("w", (3,), "weight")])
    (tmp_path / "model").write_bytes(bytes(12))
    with pytest.raises(DigestMismatch, match="a model of 12 bytes is not the one with digest abababababababab"):
        ContextRoom(context(), "run-1", 0).model(layout).replace(tmp_path / "model", DIGEST)


@pytest.fixture
def shelf() -> Iterator[TaskShelf]:
    made = TaskShelf()
    yield made
    made.close()


def packed(name: str, key: SigningKey) -> tuple[BlobRef, bytes]:
    layout = Layout.of([("w", (2, 3), "weight")])
    graph = made_graph(name)
    graphs = StepGraphs(graph, graph, graph, layout)
    preprocessing = ExamplePreprocessing(shape=(3,), mean=(0.0,) * 3, std=(1.0,) * 3, num_classes=2)
    archive = signed_bundle(Title(name, "1", "classification", (3,), 2), graphs, preprocessing, key)
    return BlobRef(digest=hashlib.sha256(archive).hexdigest(), size=len(archive)), archive


def made_graph(name: str) -> bytes:
    made: bytes = onnx.helper.make_model(onnx.helper.make_graph([], name, [], [])).SerializeToString()
    return made


def test_a_bundle_of_a_stranger_is_refused_whatever_came_under_its_digest_before(shelf: TaskShelf) -> None:
    trusted, stranger = SigningKey(bytes([1]) * 32), SigningKey(bytes([2]) * 32)
    (evil_ref, evil), (_, good) = packed("evil", stranger), packed("good", trusted)
    with pytest.raises(SignatureError):
        shelf.bundle(evil_ref, evil, trusted.verify_key)
    with pytest.raises(DigestMismatch):
        shelf.bundle(evil_ref, good, trusted.verify_key)
    with pytest.raises(SignatureError):
        shelf.bundle(evil_ref, evil, trusted.verify_key)
    shelf.bundle(evil_ref, evil, stranger.verify_key)  # another job of the same process, which trusts it
    with pytest.raises(DigestMismatch):
        shelf.bundle(evil_ref, good, trusted.verify_key)
    with pytest.raises(SignatureError):
        shelf.bundle(evil_ref, evil, trusted.verify_key)


def test_a_file_that_could_not_be_written_is_not_taken_for_whole(
    shelf: TaskShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"a whole object"
    ref = BlobRef(digest=hashlib.sha256(content).hexdigest(), size=len(content))

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:3])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(TrainerError, match="No space left on device: make room on the node's disk"):
            shelf.keep(ref, content)
    assert shelf.keep(ref, content).read_bytes() == content
