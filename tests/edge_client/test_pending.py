import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_client.pending import PendingStore, PendingUpdate

GOLDEN = Path(__file__).parents[1] / "golden" / "pending.bin"
UPDATE = PendingUpdate("r", 3, "ab" * 32, 20, b"update object", b"plan")
NEWER = PendingUpdate("r", 4, "cd" * 32, 10, b"newer")
RESIDUAL = bytes(range(16))


@pytest.fixture
def store(tmp_path: Path) -> PendingStore:
    return PendingStore(tmp_path)


def test_nothing_is_pending_at_first(store: PendingStore) -> None:
    assert store.read() is None
    assert store.unsettled() is None
    assert store.read_residual() == b""


def test_commit_is_read_back_and_unsettled(store: PendingStore) -> None:
    store.commit(UPDATE, RESIDUAL)
    assert store.read() == UPDATE
    assert store.unsettled() == UPDATE
    assert store.read_residual() == RESIDUAL


def test_whether_an_update_was_noised_is_kept_with_it(store: PendingStore) -> None:
    store.commit(replace(UPDATE, noised=True), RESIDUAL)
    assert store.read() == replace(UPDATE, noised=True)


@pytest.mark.parametrize("accepted", [True, False])
def test_verdict_settles_the_update_and_keeps_its_residual(store: PendingStore, accepted: bool) -> None:
    store.commit(UPDATE, RESIDUAL)
    store.settle(UPDATE.server_round, accepted)
    assert store.unsettled() is None
    assert store.verdict_on(UPDATE) is accepted
    assert store.read_residual() == RESIDUAL


def test_verdict_on_another_round_settles_nothing(store: PendingStore) -> None:
    store.commit(UPDATE, RESIDUAL)
    store.settle(UPDATE.server_round - 1, True)
    assert store.unsettled() == UPDATE


def test_new_update_of_a_settled_round_is_unsettled(store: PendingStore) -> None:
    store.commit(UPDATE, RESIDUAL)
    store.settle(UPDATE.server_round, False)
    store.commit(UPDATE, RESIDUAL)
    assert store.unsettled() == UPDATE


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_crash_before_the_rename_leaves_the_old_state(
    store: PendingStore, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    store.commit(UPDATE, RESIDUAL)
    store.settle(UPDATE.server_round, True)

    def crash(*_: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, crash)
        with pytest.raises(OSError, match="power cut"):
            store.commit(NEWER, b"")
    assert store.read() == UPDATE
    assert store.verdict_on(UPDATE) is True
    assert store.read_residual() == RESIDUAL


def test_crash_right_after_the_rename_leaves_the_new_state(
    store: PendingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit(UPDATE, RESIDUAL)
    store.settle(UPDATE.server_round, True)

    def crash(*_: object, **__: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", crash)
        with pytest.raises(OSError, match="power cut"):
            store.commit(NEWER, b"")
    assert store.unsettled() == NEWER


def flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c[:-1],
        lambda c: c[:40],
        lambda c: b"",
        lambda c: c + b"x",
        *(lambda c, p=p: flip(c, p) for p in (0, 64, 70, -2)),
    ],
)
def test_damaged_update_is_set_aside_with_a_warning(
    store: PendingStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    store.commit(UPDATE, RESIDUAL)
    content = (tmp_path / "pending.bin").read_bytes()
    (tmp_path / "pending.bin").write_bytes(damage(content))
    with caplog.at_level(logging.WARNING):
        assert store.read() is None
    assert "pending.bin is damaged and was set aside as pending.bin.damaged" in caplog.text
    assert (tmp_path / "pending.bin.damaged").exists()
    assert store.read_residual() == b""
    store.commit(NEWER, b"")
    assert store.read() == NEWER


def test_damaged_verdict_means_to_offer_the_update_again(store: PendingStore, tmp_path: Path) -> None:
    store.commit(UPDATE, RESIDUAL)
    (tmp_path / "settled.json").write_bytes(b'{"server_round":3,"acc')
    assert store.unsettled() == UPDATE


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(object=st.binary(max_size=300), plan=st.binary(max_size=30), residual=st.binary(max_size=300))
def test_any_update_comes_back(store: PendingStore, object: bytes, plan: bytes, residual: bytes) -> None:
    update = PendingUpdate("r", 1, "0" * 64, 5, object, plan)
    store.commit(update, residual)
    assert (store.read(), bytes(store.read_residual())) == (update, residual)


def test_format_is_the_agreed_one(store: PendingStore, tmp_path: Path) -> None:
    store.commit(UPDATE, RESIDUAL)
    assert (tmp_path / "pending.bin").read_bytes() == GOLDEN.read_bytes()
