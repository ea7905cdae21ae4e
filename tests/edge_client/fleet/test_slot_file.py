from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_client.fleet.keeper import MemberKeeper, SharedObjects
from edge_client.fleet.slot_file import SlotFile, SlotHeader
from edge_client.fleet.slot_room import SlotUpdates
from edge_client.pending import PendingUpdate
from shared.errors import TrainerError
from shared.fleet_brief import Sizes

SIZES = Sizes(object_bytes=60, plan_bytes=20, history_bytes=40, residual_bytes=80)
DIGEST = "ab" * 32

updates = st.builds(
    PendingUpdate,
    run=st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True),
    server_round=st.integers(1, 1 << 40),
    base=st.binary(min_size=32, max_size=32).filter(any).map(bytes.hex),
    steps=st.integers(0, 1 << 20),
    object=st.binary(max_size=60),
    plan=st.binary(max_size=20),
    history=st.binary(max_size=40),
    noised=st.booleans(),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 4), updates, st.binary(max_size=80), st.binary(max_size=40)), max_size=12))
def test_each_slot_gives_back_what_was_last_committed_to_it(
    tmp_path: Path, commits: list[tuple[int, PendingUpdate, bytes, bytes]]
) -> None:
    path = tmp_path / "slots.bin"
    path.unlink(missing_ok=True)
    writer, reader = SlotFile(path, 5, SIZES), SlotFile(path, 5, SIZES)
    last: dict[int, tuple[PendingUpdate, bytes, bytes]] = {}
    for slot, update, residual, after in commits:
        writer.commit(slot, update, residual)
        writer.keep_history(slot, after)
        last[slot] = update, residual, after
    for slot in range(5):
        expected = last.get(slot, (None, b"", b""))
        assert (reader.update(slot), reader.residual(slot), reader.history(slot)) == expected
    writer.close()
    reader.close()


digests = st.just(b"") | st.binary(min_size=32, max_size=32).filter(any)
numbers = st.integers(0, (1 << 32) - 1)
headers = st.builds(
    SlotHeader,
    run=st.binary(max_size=32).filter(lambda b: not b.endswith(b"\0")),
    held=digests,
    base=digests,
    server_round=st.integers(0, 1 << 60),
    steps=numbers,
    object_bytes=numbers,
    plan_bytes=numbers,
    history_bytes=numbers,
    residual_bytes=numbers,
    after_bytes=numbers,
    verdict=st.integers(0, 2),
    noised=st.integers(0, 1),
)


@given(headers)
def test_a_header_survives_its_bytes(header: SlotHeader) -> None:
    assert SlotHeader.unpack(header.pack()) == header


def update_of(server_round: int, content: bytes = b"frame") -> PendingUpdate:
    return PendingUpdate("run-1", server_round, DIGEST, 3, content)


def test_a_part_that_is_too_large_is_refused_and_the_neighbour_is_untouched(tmp_path: Path) -> None:
    file = SlotFile(tmp_path / "slots.bin", 2, SIZES)
    file.commit(1, update_of(1), b"next")
    with pytest.raises(TrainerError, match="room for 60"):
        file.commit(0, update_of(1, bytes(61)), b"")
    assert file.residual(1) == b"next"


def test_a_verdict_counts_for_its_round_alone(tmp_path: Path) -> None:
    file = SlotFile(tmp_path / "slots.bin", 1, SIZES)
    keeper, store = MemberKeeper(file, 0, SharedObjects(tmp_path)), SlotUpdates(file, 0)
    store.commit(update_of(4), b"")
    assert keeper.pending("run-1") == update_of(4)
    keeper.settle("run-1", 3, accepted=True)
    assert store.verdict_on(update_of(4)) is None
    keeper.settle("run-1", 4, accepted=False)
    assert store.verdict_on(update_of(4)) is False
    assert keeper.pending("run-1") is None
    store.commit(update_of(5), b"")
    assert store.verdict_on(update_of(5)) is None
    assert keeper.recover().unsettled == (update_of(5),)


def test_a_new_update_makes_the_history_of_the_one_before_void(tmp_path: Path) -> None:
    store = SlotUpdates(SlotFile(tmp_path / "slots.bin", 1, SIZES), 0)
    store.commit(update_of(1), b"")
    store.keep_history(b"after one")
    store.commit(update_of(2), b"")
    assert store.history() == b""
