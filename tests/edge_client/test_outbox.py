import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_client.outbox import MOST_BUNDLES, MOST_SETTLED_RUNS, Outbox
from edge_client.pending import PendingStore, PendingUpdate
from shared.errors import SettingsError

DIGEST = hashlib.sha256(b"bundle").hexdigest()


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path)


def commit(outbox: Outbox, run: str, server_round: int) -> PendingUpdate:
    outbox.paths.run(run).mkdir(parents=True, exist_ok=True)
    update = PendingUpdate(run, server_round, "b" * 64, 3, b"object of " + run.encode())
    PendingStore(outbox.paths.run(run)).commit(update, b"\0" * 8)
    return update


def test_connection_number_grows_with_every_start(tmp_path: Path) -> None:
    assert [Outbox(tmp_path).next_connection() for _ in range(3)] == [1, 2, 3]


def test_damaged_connection_number_starts_over(outbox: Outbox, tmp_path: Path) -> None:
    (tmp_path / "connection").write_text("x7")
    assert outbox.next_connection() == 1


def test_unsettled_update_is_found_after_a_crash(outbox: Outbox, tmp_path: Path) -> None:
    update = commit(outbox, "a", 3)
    recovered = Outbox(tmp_path).recover()
    assert recovered.unsettled == (update,)
    assert recovered.settled_rounds == ()


@pytest.mark.parametrize("accepted", [True, False])
def test_settled_update_is_not_offered_again(outbox: Outbox, accepted: bool) -> None:
    update = commit(outbox, "a", 3)
    assert outbox.pending("a") == update
    outbox.settle("a", 3, accepted)
    assert outbox.pending("a") is None
    assert outbox.recover().unsettled == ()
    assert outbox.recover().settled_rounds == (("a", 3),)
    assert PendingStore(outbox.paths.run("a")).verdict_on(update) is accepted


def test_verdict_on_an_earlier_round_settles_nothing(outbox: Outbox) -> None:
    update = commit(outbox, "a", 3)
    outbox.settle("a", 2, accepted=True)
    assert outbox.pending("a") == update


def test_update_in_the_folder_of_another_run_is_not_offered(outbox: Outbox) -> None:
    commit(outbox, "a", 3)
    outbox.paths.run("a").rename(outbox.paths.run("b"))
    assert outbox.recover().unsettled == ()


def test_damaged_update_counts_as_absent(outbox: Outbox) -> None:
    commit(outbox, "a", 3)
    pending = outbox.paths.run("a") / "pending.bin"
    pending.write_bytes(pending.read_bytes()[:-1])
    assert outbox.recover().unsettled == ()


def test_kept_bundle_is_found_again(outbox: Outbox, tmp_path: Path) -> None:
    outbox.keep_bundle(DIGEST, b"bundle")
    assert outbox.paths.bundle(DIGEST).read_bytes() == b"bundle"
    assert Outbox(tmp_path).recover().bundles == {DIGEST}
    outbox.drop_bundle(DIGEST)
    assert outbox.recover().bundles == frozenset()


def test_oldest_bundles_make_room(outbox: Outbox) -> None:
    digests = [hashlib.sha256(bytes([index])).hexdigest() for index in range(MOST_BUNDLES + 1)]
    for age, digest in enumerate(digests):
        outbox.keep_bundle(digest, b"bundle")
        os.utime(outbox.paths.bundle(digest), (age, age))
    outbox.keep_bundle(DIGEST, b"bundle")
    assert outbox.recover().bundles == {*digests[-MOST_BUNDLES + 1 :], DIGEST}


def test_bundle_in_use_stays_while_others_make_room(outbox: Outbox) -> None:
    digests = [hashlib.sha256(bytes([index])).hexdigest() for index in range(MOST_BUNDLES)]
    for age, digest in enumerate(digests):
        outbox.keep_bundle(digest, b"bundle")
        os.utime(outbox.paths.bundle(digest), (age, age))
    outbox.use_bundle(outbox.paths.bundle(digests[0]))
    outbox.use_bundle(outbox.paths.bundle("f" * 64))
    outbox.keep_bundle(DIGEST, b"bundle")
    assert outbox.recover().bundles == {digests[0], *digests[2:], DIGEST}


def test_new_bundle_stays_where_the_clock_was_set_back(outbox: Outbox) -> None:
    tomorrow = time.time() + 86_400
    for index in range(MOST_BUNDLES):
        digest = hashlib.sha256(bytes([index])).hexdigest()
        outbox.keep_bundle(digest, b"bundle")
        os.utime(outbox.paths.bundle(digest), (tomorrow, tomorrow))
    outbox.keep_bundle(DIGEST, b"bundle")
    assert outbox.paths.bundle(DIGEST).exists()
    assert len(outbox.recover().bundles) == MOST_BUNDLES


def test_start_drops_the_oldest_runs_with_nothing_to_offer(outbox: Outbox) -> None:
    runs = [f"run-{index}" for index in range(MOST_SETTLED_RUNS + 3)]
    unsettled, without_update, *settled = runs
    for run in (unsettled, *settled):
        commit(outbox, run, 3)
    for run in settled:
        outbox.settle(run, 3, accepted=True)
    outbox.paths.run(without_update).mkdir()
    for age, run in enumerate(runs):
        os.utime(outbox.paths.run(run), (age, age))
    recovered = outbox.recover()
    kept = settled[-MOST_SETTLED_RUNS:]
    assert [update.run for update in recovered.unsettled] == [unsettled]
    assert recovered.settled_rounds == tuple((run, 3) for run in kept)
    assert sorted(path.name for path in outbox.paths.run("x").parent.iterdir()) == [unsettled, *kept]


def test_verdict_on_an_update_whose_folder_is_gone_is_no_fault(outbox: Outbox) -> None:
    outbox.settle("a", 3, accepted=True)
    assert outbox.pending("a") is None


def test_cancelled_run_leaves_nothing(outbox: Outbox) -> None:
    commit(outbox, "a", 3)
    commit(outbox, "b", 3)
    outbox.forget("a")
    outbox.forget("never-there")
    assert not outbox.paths.run("a").exists()
    assert [update.run for update in outbox.recover().unsettled] == ["b"]


def test_half_written_files_are_removed_at_the_start(outbox: Outbox, tmp_path: Path) -> None:
    commit(outbox, "a", 3)
    half = outbox.paths.run("a") / "pending.bin.tmp"
    half.write_bytes(b"half")
    Outbox(tmp_path)
    assert not half.exists()


def test_fetched_object_is_kept_whole(outbox: Outbox) -> None:
    path = outbox.paths.received("a", "delta")
    outbox.keep(path, b"delta")
    outbox.keep(path, b"delta of the next round")
    assert path.read_bytes() == b"delta of the next round"
    assert list(path.parent.iterdir()) == [path]


def test_state_directory_that_is_a_file_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(SettingsError, match="state directory"):
        Outbox(tmp_path / "state")


def test_agent_starts_without_numpy_and_onnxruntime() -> None:
    code = "import sys, edge_client.main; print(sorted({'numpy', 'onnxruntime', 'torch', 'flwr'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
