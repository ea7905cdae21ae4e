"""The only place that touches private parts of Flower; a contract test fails when a new release moves them."""

import hashlib
from typing import cast

from flwr.app import Message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.supercore.run import Run as FlowerRun
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import DecodeError as ProtobufError

from shared.errors import MessageError

__all__ = [
    "FlowerRun",
    "adopt_identity",
    "empty_run",
    "message_from_bytes",
    "message_to_bytes",
    "node_id_of",
    "set_message_id",
]

SERVER_NODE_ID = 1
"""Flower's own number for the server side of a message."""


def node_id_of(device: str) -> int:
    """A device's Flower node id: 62 bits of its name's digest, never one of Flower's reserved small numbers."""
    return int.from_bytes(hashlib.sha256(device.encode()).digest()[:8], "little") >> 2 | 1 << 61


def adopt_identity(run_id: int) -> None:
    """Let this process build Messages: Flower reads who is sending from a process-wide place, so one run a process."""
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = SERVER_NODE_ID
    TaskIdentity.task_id = run_id


def empty_run(run_id: int) -> FlowerRun:
    """A Run record with nothing but its id, as Grid asks for."""
    return FlowerRun.create_empty(run_id)


def set_message_id(message: Message, message_id: str) -> None:
    """Give an outgoing message its id: Message has no setter, and replies copy the id from the request."""
    message.metadata.__dict__["_message_id"] = message_id


def message_to_bytes(message: Message) -> bytes:
    """Flower's own protobuf form of a message."""
    return cast(bytes, message_to_proto(message).SerializeToString())


def message_from_bytes(content: bytes) -> Message:
    """The message in `content`; raises `MessageError` when it is not one."""
    try:
        return message_from_proto(MessageProto.FromString(content))
    except (ProtobufError, ValueError, TypeError, KeyError) as error:
        raise MessageError(f"not a Flower message: {error}") from None
