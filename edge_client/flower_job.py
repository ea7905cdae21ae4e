"""A job's client as a Flower ClientApp: the board's own trainer and sieve, on messages that Flower carries.

One of the files here that may import Flower: the resident client never does.
"""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import cast

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from edge_client.assignment import Assignment, Way
from edge_client.context_room import ContextRoom
from edge_client.data import DataSource, FolderSource, MemorySource, Recordings
from edge_client.inbox import read_round
from edge_client.inline_trainer import InlineTrainer
from edge_client.orders import Answer, Failed, LocalRules, NeedModel, Scored, Trained
from edge_client.task import Task
from edge_client.task_shelf import TaskShelf
from shared.errors import GradsieveError, MessageError, SettingsError, TrainerError
from shared.flower_records import CLIENT, ROUND, UPDATE
from shared.messages import COMMAND, EvaluateCommand, Evaluated, TrainCommand, dump, parse
from shared.signing import VerifyKey

NOT_DONE = 2002
NO_DATA = MemorySource(Recordings([], []))


def name_of(context: Context) -> str:
    """The client's name: `device` in the node's config, or `client-00007` by its partition there."""
    config = context.node_config
    return str(config["device"]) if "device" in config else f"client-{int(config['partition-id']):05d}"


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
        return Message(RecordDict({CLIENT: ConfigRecord({"device": name(context)})}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return _reply(message, context)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return _reply(message, context)

    def _reply(message: Message, context: Context) -> Message:
        try:
            record = _worked(message, context, name(context), source, signer)
        except GradsieveError as error:
            return Message(Error(NOT_DONE, str(error)), reply_to=message)
        return Message(RecordDict({UPDATE: record}), reply_to=message)

    return app


def _worked(
    message: Message, context: Context, device: str, source: Callable[[Context], DataSource], signer: str | None
) -> ConfigRecord:
    """What came of a message; raises `GradsieveError` for one that is malformed, or could not be carried out."""
    offer, own = _record(message, ROUND), _record(message, CLIENT)
    opened = read_round(_named(offer, "manifest"), _named(offer, "attachment"))
    command = parse(COMMAND, _named(own, "command"))
    if not isinstance(command, TrainCommand | EvaluateCommand):
        raise MessageError(f"a {command.kind} is no command to work")
    manifest, shelf = opened.manifest, _shelf()
    bundle = shelf.bundle(manifest.bundle, _named(offer, manifest.bundle.digest), _key(signer or own.get("signer")))
    files = {"model": shelf.keep(manifest.model, _named(offer, manifest.model.digest), last="model")}
    if manifest.plan is not None and isinstance(command, TrainCommand):
        files["plan"] = shelf.keep(manifest.plan, opened.attached[manifest.plan.digest], last="plan")
    now = time.monotonic()
    assignment = Assignment(command, now + command.seconds, way=Way.MODEL)
    order = assignment.order(manifest, files, device, bundle, now, LocalRules())
    room = ContextRoom(context, command.run, cast(int, own["accepted"]))

    def load(archive: Path) -> Task:
        return shelf.task(archive, device, lambda: source(context))

    trainer = InlineTrainer(shelf.folder, NO_DATA, time.monotonic, celsius=_unknown, room=lambda run: room, load=load)
    trainer.submit(order)
    return _told(trainer.poll()[0], room)


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
            return ConfigRecord({"content": update.object if update else b""})
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
