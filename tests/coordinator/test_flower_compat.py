"""Contract with the installed Flower: fails when a release moves what `flower_compat` relies on."""

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from coordinator import flower_compat
from shared.errors import MessageError


def request() -> Message:
    flower_compat.adopt_identity(7)
    return Message(RecordDict({"config": ConfigRecord({"a": 1})}), flower_compat.node_id_of("watch-01"), "train")


def test_message_survives_its_bytes_with_id_and_addresses() -> None:
    message = request()
    flower_compat.set_message_id(message, "abc")
    copy = flower_compat.message_from_bytes(flower_compat.message_to_bytes(message))
    assert copy.metadata.message_id == "abc"
    assert copy.metadata.dst_node_id == message.metadata.dst_node_id
    assert copy.metadata.src_node_id == flower_compat.SERVER_NODE_ID
    assert copy.content["config"] == message.content["config"]


def test_reply_copies_the_id_of_its_request() -> None:
    message = request()
    flower_compat.set_message_id(message, "abc")
    assert Message(RecordDict(), reply_to=message).metadata.reply_to_message_id == "abc"


@given(st.text(min_size=1))
def test_node_ids_keep_clear_of_reserved_numbers_and_of_the_sign_bit(device: str) -> None:
    assert 1 << 61 <= flower_compat.node_id_of(device) < 1 << 63


@pytest.mark.parametrize("content", [b"\xff\xff", b"not protobuf at all"])
def test_bytes_that_are_no_message_are_refused(content: bytes) -> None:
    with pytest.raises(MessageError):
        flower_compat.message_from_bytes(content)


def test_run_record_keeps_its_id() -> None:
    assert flower_compat.empty_run(5).run_id == 5
