"""A job's client as a Flower ClientApp: the board's own trainer and sieve, on messages that Flower carries.

One of the files here that may import Flower: the resident client never does.
"""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from edge_client.assignment import Assignment, Way
from edge_client.context_room import ContextRoom
from edge_client.data import DataSource, FolderSource
from edge_client.inbox import read_round
from edge_client.inline_trainer import InlineTrainer
from edge_client.orders import Answer, Failed, LocalRules, NeedModel, Order, Scored, Trained
from edge_client.task import Task
from edge_client.task_shelf import NO_DATA, TaskShelf
from shared.errors import GradsieveError, MessageError, SettingsError, TrainerError
from shared.flower_records import CLIENT, ROUND, UPDATE
from shared.messages import COMMAND, EvaluateCommand, Evaluated, TrainCommand, dump, parse
from shared.signing import VerifyKey

NOT_DONE = 2002


def name_of(context: Context) -> str:
    """The client's name: `device` in the node's config, or `client-00007` by its partition there."""
    config = context.node_config
    if "device" in config:
        return str(config["device"])
    if "partition-id" not in config:
        raise SettingsError(
            "the node's config has no name: start the SuperNode with --node-config 'device=\"board-7\"'"
        )
    partition = config["partition-id"]
    if not isinstance(partition, int) or partition < 0:
        raise SettingsError(f"the node's partition-id is {partition!r}: give a number, or a name in device=")
    return f"client-{partition:05d}"


def source_of(context: Context) -> DataSource:
    """The client's data: the folder of recordings that `data` in the node's config names."""
    if "data" not in context.node_config:
        raise SettingsError("the node's config has no data: start the SuperNode with --node-config 'data=\"/folder\"'")
    return FolderSource(Path(str(context.node_config["data"])))


def job_client_app(
    name: Callable[[Context], str] = name_of,
    source: Callable[[Context], DataSource] = source_of,
    signer: str | None = None,
) -> ClientApp:
    """The ClientApp of any job, on the data that `source` gives.

    `signer` is the one key, in hex, whose bundles it runs. Without it Flower's own authentication says whom to trust: a
    bundle only has to be signed by whoever sends it.
    """
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return _reply(message, CLIENT, lambda: ConfigRecord({"device": name(context)}))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return _reply(message, UPDATE, lambda: _worked(message, context, name(context), source, signer))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return _reply(message, UPDATE, lambda: _worked(message, context, name(context), source, signer))

    return app


def _reply(message: Message, record: str, answer: Callable[[], ConfigRecord]) -> Message:
    """The reply with a record of this name, or an error that says why there is none."""
    try:
        return Message(RecordDict({record: answer()}), reply_to=message)
    except GradsieveError as error:
        return Message(Error(NOT_DONE, str(error)), reply_to=message)


def _worked(
    message: Message, context: Context, device: str, source: Callable[[Context], DataSource], signer: str | None
) -> ConfigRecord:
    """What came of a message; raises `GradsieveError` for one that is malformed, or could not be carried out."""
    own, shelf, sent = _record(message, CLIENT), _shelf(), message.metadata.created_at
    order = _order(_record(message, ROUND), own, device, _key(signer or own.get("signer")), sent)
    accepted = own.get("accepted")
    if not isinstance(accepted, int):
        raise MessageError("a message that does not tell which round was accepted: its server is of another version")
    room = ContextRoom(context, order.run, accepted)

    def load(archive: Path) -> Task:
        return shelf.task(archive, device, lambda: source(context))

    trainer = InlineTrainer(shelf.folder, NO_DATA, time.monotonic, celsius=_unknown, room=lambda run: room, load=load)
    trainer.submit(order)
    return _told(trainer.poll()[0], room)


def seconds_left(command: TrainCommand | EvaluateCommand, created_at: float, now: float) -> float:
    """What is left of a command's seconds; both times are the clock's, of the server's machine and of this one.

    Raises `TrainerError` where nothing is: a node may get a message long after it was sent.
    """
    left = command.seconds - max(now - created_at, 0.0)
    if left <= 0:
        raise TrainerError(
            f"the message came {now - created_at:.0f} s after it was sent, for {command.seconds:.0f} s of work: "
            "give rounds more round_seconds, or set the node's clock"
        )
    return left


def _order(offer: ConfigRecord, own: ConfigRecord, device: str, key: VerifyKey, created_at: float) -> Order:
    """What the trainer is asked, with its files in place; raises `GradsieveError`."""
    opened, command = read_round(_named(offer, "manifest"), _named(offer, "attachment")), _command(own)
    manifest, shelf = opened.manifest, _shelf()
    if (command.run, command.server_round) != (manifest.run, manifest.server_round):
        raise MessageError(f"a command for round {command.server_round} came with the manifest of another")
    bundle = shelf.bundle(manifest.bundle, _named(offer, manifest.bundle.digest), key)
    files = {"model": shelf.keep(manifest.model, _named(offer, manifest.model.digest), last="model")}
    if manifest.plan is not None and isinstance(command, TrainCommand):
        if manifest.plan.digest not in opened.attached:
            raise MessageError("round manifest: its plan did not come with it")
        files["plan"] = shelf.keep(manifest.plan, opened.attached[manifest.plan.digest], last="plan")
    now, left = time.monotonic(), seconds_left(command, created_at, time.time())
    assignment = Assignment(command, now + left, way=Way.MODEL)
    return assignment.order(manifest, files, device, bundle, now, LocalRules())


def _command(own: ConfigRecord) -> TrainCommand | EvaluateCommand:
    command = parse(COMMAND, _named(own, "command"))
    if not isinstance(command, TrainCommand | EvaluateCommand):
        raise MessageError(f"a {command.kind} is no command to work")
    return command


def _unknown() -> None:
    """How hot it is: an engine's machine is not a board, and looks after itself."""


def _key(signer: object) -> VerifyKey:
    try:
        return VerifyKey.from_hex(str(signer))
    except ValueError as error:
        raise SettingsError(f"the signer of the job's bundle: {error}") from None


def _told(answer: Answer, room: ContextRoom) -> ConfigRecord:
    """What the server is told; raises `TrainerError` where the order was not carried out."""
    match answer:
        case Trained():
            update = room.updates.read()
            if update is None:
                raise TrainerError("the update was not kept in the node's Context: report it")
            return ConfigRecord({"content": update.object})
        case Scored():
            facts = answer.model_dump(include={"run", "server_round", "loss", "correct", "examples"})
            return ConfigRecord({"event": dump(Evaluated(**facts))})
        case Failed():
            raise TrainerError(f"{answer.code}: {answer.text}")
        case NeedModel():
            raise TrainerError("the trainer asks for a model though it was given one: report it")


def _record(message: Message, name: str) -> ConfigRecord:
    record = message.content.config_records.get(name)
    if record is None:
        raise MessageError(f"a message without the record {name}: its server does not run a gradsieve job")
    return record


def _named(record: ConfigRecord, name: str) -> bytes:
    """What a record has under a name; raises `MessageError` where that is nothing, or no bytes."""
    content = record.get(name)
    if not isinstance(content, bytes):
        raise MessageError(f"a message that lacks {name[:16]}: its server is of another version")
    return content


@cache
def _shelf() -> TaskShelf:
    return TaskShelf()
