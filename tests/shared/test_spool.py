from pathlib import Path

import pytest

from shared.errors import MessageError
from shared.frame import unpack_frame
from shared.receiver import Completed, Receiver, Reply
from shared.spool import HEADER_BYTES, FileSpool, MemorySpool
from shared.transfer import LARGEST_OBJECT_BYTES, Chunk, Open, Status, id_of

CONTENT = bytes(range(205))
OFFER = Open.of(CONTENT, 10)
PEER = "watch-03"


def part(index: int) -> bytes:
    return CONTENT[10 * index : 10 * index + 10]


def test_partial_object_survives_a_restart(tmp_path: Path) -> None:
    before = FileSpool(tmp_path).begin(PEER, OFFER)
    for index in (20, 3, 7, 8):
        before.write(index, part(index))
    ((peer, after),) = FileSpool(tmp_path).recover()
    assert (peer, after.offer, after.held) == (PEER, OFFER, {3, 7, 8, 20})
    for index in set(range(21)) - after.held:
        after.write(index, part(index))
    assert after.content() == CONTENT


def test_receiver_goes_on_where_the_earlier_process_stopped(tmp_path: Path) -> None:
    def chunk(index: int) -> bytes:
        return Chunk(id_of(CONTENT), index, part(index)).pack()

    before = Receiver(1000, 1000, FileSpool(tmp_path))
    before.on_frame(PEER, unpack_frame(OFFER.pack()), 0.0)
    for index in range(20):
        before.on_frame(PEER, unpack_frame(chunk(index)), 0.0)
    after = Receiver(1000, 1000, FileSpool(tmp_path))
    (reply,) = after.on_frame(PEER, unpack_frame(OFFER.pack()), 0.0)
    assert isinstance(reply, Reply)
    assert Status.unpack(unpack_frame(reply.payload).body).held == set(range(20))
    assert after.on_frame(PEER, unpack_frame(chunk(20)), 0.0) == [Completed(PEER, id_of(CONTENT), CONTENT)]


def test_object_left_behind_counts_and_expires(tmp_path: Path) -> None:
    FileSpool(tmp_path).begin(PEER, OFFER)
    receiver = Receiver(1000, 1000, FileSpool(tmp_path), keep_seconds=60.0)
    receiver.expire(1000.0)
    receiver.expire(1059.0)
    assert len(list(tmp_path.iterdir())) == 1
    receiver.expire(1060.0)
    assert not list(tmp_path.iterdir())


def test_recovery_deletes_unfinished_files_and_nothing_else(tmp_path: Path) -> None:
    FileSpool(tmp_path).begin(PEER, OFFER).write(0, part(0))
    (tmp_path / "watch-04.00.tmp").write_bytes(b"half a header")
    (tmp_path / "watch-05.00.partial").write_bytes(b"not ours")
    (tmp_path / "notes.txt").write_bytes(b"keep me")
    recovered = FileSpool(tmp_path).recover()
    assert [(peer, partial.held) for peer, partial in recovered] == [(PEER, {0})]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{PEER}.{id_of(CONTENT).hex()}.partial",
        "watch-05.00.partial",
        "notes.txt",
    }


def test_header_truncated_at_any_offset_is_left_alone(tmp_path: Path) -> None:
    FileSpool(tmp_path).begin(PEER, OFFER)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for length in range(len(OFFER.pack())):
        path.write_bytes(whole[:length])
        assert FileSpool(tmp_path).recover() == []
    path.write_bytes(whole[:HEADER_BYTES])
    assert len(FileSpool(tmp_path).recover()) == 1


@pytest.mark.parametrize("peer", ["../escape", "a/b", "", "A"])
def test_peer_that_cannot_be_a_file_name_is_refused(tmp_path: Path, peer: str) -> None:
    with pytest.raises(MessageError):
        FileSpool(tmp_path / "spool").begin(peer, OFFER)
    assert not list((tmp_path / "spool").iterdir())


def test_dropped_object_leaves_no_file(tmp_path: Path) -> None:
    partial = FileSpool(tmp_path).begin(PEER, OFFER)
    partial.drop()
    partial.drop()
    assert not list(tmp_path.iterdir())


def test_memory_grows_with_what_arrives_only() -> None:
    partial = MemorySpool().begin(PEER, Open(LARGEST_OBJECT_BYTES, 1 << 16, bytes(32)))
    partial.write(0, b"x")
    assert partial.held == {0}
