import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator import journal as journal_module
from coordinator.journal import Journal
from coordinator.journal_schema import STEPS
from coordinator.records import RoundState, RunState, UpdateFacts
from shared.errors import RunError
from shared.verdicts import Ruling, Verdict

FACTS = UpdateFacts(
    examples=120,
    steps=50,
    loss=0.5,
    correct=8,
    tested=10,
    frame_bytes=300,
    object_bytes=321,
    key_values=90,
    sparse_values=40,
    threshold=0.125,
    values_by_tensor=(100, 30),
    norm=1.5,
)
BASE = "ab" * 32
CHECKOUT = Path(__file__).parents[2]

WRITER = """
import sys
from pathlib import Path
from coordinator.journal import Journal
from coordinator.records import UpdateFacts

facts = UpdateFacts(1, 1, 0.0, 0, 0, 1, 1, 0, 1, 0.0, (1,), 1.0)
journal = Journal.open(Path(sys.argv[1]))
for number in range(100_000):
    device = f"device-{number:06d}"
    ruling = journal.accept("run-1", 1, device, device.encode() * 50, facts)
    print(device, ruling.verdict.name, flush=True)
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    opened = Journal.open(path, Clock())
    opened.create_run("run-1", "{}")
    opened.open_round("run-1", 1, BASE, ["anna", "bert"], b"plan")
    yield opened
    opened.close()


def close_round(journal: Journal, server_round: int, model: str = "cd" * 32) -> None:
    journal.freeze_round("run-1", server_round)
    journal.close_round("run-1", server_round, model, f"round-{server_round}", {"loss": 0.25})


def test_accepted_update_is_read_back_with_its_facts(journal: Journal) -> None:
    assert journal.accept("run-1", 1, "anna", b"update", FACTS) == Ruling(Verdict.DONE)
    assert list(journal.accepted("run-1", 1)) == [("anna", b"update")]
    (record,) = journal.updates("run-1")
    assert (record.device, record.facts, record.accepted_seconds) == ("anna", FACTS, 1003.0)
    assert journal.updates("run-1", 0) == []


def test_same_bytes_are_done_again_and_count_once(journal: Journal) -> None:
    verdicts = [journal.accept("run-1", 1, "anna", b"update", FACTS).verdict for _ in range(3)]
    assert verdicts == [Verdict.DONE] * 3
    assert len(journal.updates("run-1")) == 1


def test_other_bytes_of_a_device_are_a_duplicate(journal: Journal) -> None:
    journal.accept("run-1", 1, "anna", b"update", FACTS)
    assert journal.accept("run-1", 1, "anna", b"another", FACTS).verdict is Verdict.DUPLICATE
    assert list(journal.accepted("run-1", 1)) == [("anna", b"update")]


def test_frozen_round_takes_no_new_update_but_confirms_an_old_one(journal: Journal) -> None:
    journal.accept("run-1", 1, "anna", b"update", FACTS)
    journal.freeze_round("run-1", 1)
    assert journal.accept("run-1", 1, "bert", b"late", FACTS).verdict is Verdict.STALE_ROUND
    assert journal.accept("run-1", 1, "anna", b"update", FACTS).verdict is Verdict.DONE
    assert journal.accepted_devices("run-1", 1) == {"anna"}


@pytest.mark.parametrize(("run", "server_round"), [("run-1", 0), ("run-1", 2), ("run-2", 1)])
def test_update_for_a_round_that_was_never_opened_is_stale(journal: Journal, run: str, server_round: int) -> None:
    assert journal.accept(run, server_round, "anna", b"update", FACTS).verdict is Verdict.STALE_ROUND


def test_update_for_an_ended_run_is_stale_until_it_is_resumed(journal: Journal) -> None:
    journal.finish_run("run-1", "aborted", "by the operator")
    assert journal.accept("run-1", 1, "anna", b"update", FACTS).verdict is Verdict.STALE_ROUND
    journal.resume_run("run-1")
    assert journal.accept("run-1", 1, "anna", b"update", FACTS).verdict is Verdict.DONE


def test_update_is_held_for_its_device_after_its_round_closed(journal: Journal) -> None:
    journal.accept("run-1", 1, "anna", b"update", FACTS)
    close_round(journal, 1)
    digest = journal.updates("run-1")[0].digest
    assert journal.holds("run-1", "anna", digest)
    assert not journal.holds("run-1", "bert", digest)
    assert not journal.holds("run-1", "anna", "00" * 32)


def test_contents_come_in_order_of_device_name(journal: Journal) -> None:
    for device in ("b", "a-9", "c", "a-10"):
        journal.accept("run-1", 1, device, device.encode(), FACTS)
    assert [device for device, _ in journal.accepted("run-1", 1)] == ["a-10", "a-9", "b", "c"]


def test_reopened_journal_continues_the_round_with_its_first_cohort_and_plan(journal: Journal, path: Path) -> None:
    journal.accept("run-1", 1, "anna", b"update", FACTS)
    before = journal.round("run-1", 1)
    reopened = Journal.open(path)
    assert reopened.open_round("run-1", 1, "ef" * 32, ["carl"], b"other") == before
    assert before.cohort == ("anna", "bert")
    assert list(reopened.accepted("run-1", 1)) == [("anna", b"update")]
    reopened.close()


def test_next_round_waits_for_the_one_before(journal: Journal) -> None:
    with pytest.raises(RunError, match="round 1 is unfinished"):
        journal.open_round("run-1", 2, BASE, [], b"")
    close_round(journal, 1)
    assert journal.open_round("run-1", 2, BASE, [], b"").state is RoundState.OPEN
    assert [record.server_round for record in journal.rounds("run-1")] == [1, 2]


def test_closed_round_is_never_opened_again(journal: Journal) -> None:
    close_round(journal, 1)
    with pytest.raises(RunError, match="already closed"):
        journal.open_round("run-1", 1, BASE, [], b"")


def test_closing_twice_with_the_same_model_changes_nothing(journal: Journal) -> None:
    close_round(journal, 1)
    closed = journal.last_round("run-1")
    journal.close_round("run-1", 1, "cd" * 32, "round-1", {})
    assert journal.last_round("run-1") == closed
    assert closed is not None
    assert (closed.state, closed.figures, closed.checkpoint) == (RoundState.CLOSED, {"loss": 0.25}, "round-1")
    with pytest.raises(RunError, match="cannot be closed"):
        journal.close_round("run-1", 1, "ee" * 32, "round-1", {})


def test_round_that_still_takes_updates_cannot_be_closed(journal: Journal) -> None:
    with pytest.raises(RunError, match="round 1 is open"):
        journal.close_round("run-1", 1, "cd" * 32, "round-1", {})


def test_closing_drops_contents_of_earlier_rounds_and_keeps_their_facts(journal: Journal) -> None:
    journal.accept("run-1", 1, "anna", b"first", FACTS)
    close_round(journal, 1)
    assert list(journal.accepted("run-1", 1)) == [("anna", b"first")]
    journal.open_round("run-1", 2, BASE, [], b"")
    journal.accept("run-1", 2, "anna", b"second", FACTS)
    close_round(journal, 2)
    with pytest.raises(RunError, match="dropped"):
        list(journal.accepted("run-1", 1))
    assert list(journal.accepted("run-1", 2)) == [("anna", b"second")]
    assert len(journal.updates("run-1")) == 2


def test_run_ends_with_state_and_reason(journal: Journal) -> None:
    journal.finish_run("run-1", "failed", "no device came")
    (record,) = journal.runs()
    assert (record.state, record.error, record.ended_seconds) == (RunState.FAILED, "no device came", 1003.0)


def test_finished_run_cannot_be_resumed(journal: Journal) -> None:
    journal.finish_run("run-1", "finished")
    with pytest.raises(RunError, match="nothing to resume"):
        journal.resume_run("run-1")


def test_run_is_created_once_and_keeps_its_job(journal: Journal) -> None:
    assert journal.create_run("run-1", "{}") == journal.run("run-1")
    with pytest.raises(RunError, match="another job"):
        journal.create_run("run-1", '{"rounds": 9}')


def test_unknown_run_or_round_is_named(journal: Journal) -> None:
    with pytest.raises(RunError, match="no run run-9"):
        journal.run("run-9")
    with pytest.raises(RunError, match="no run run-9"):
        journal.note("run-9", "error", "text")
    with pytest.raises(RunError, match="no round 7"):
        journal.freeze_round("run-1", 7)


def test_repeated_refusal_counts_up_in_one_row(journal: Journal) -> None:
    refused = Ruling(Verdict.REFUSED, "norm 9 is above 3")
    for _ in range(3):
        journal.refuse("run-1", 1, "anna", refused, "00" * 32, 321)
    journal.refuse("run-1", 1, "anna", Ruling(Verdict.TOO_LARGE), "00" * 32, 321)
    first, second = journal.refusals("run-1")
    assert (first.verdict, first.reason, first.times, first.size_bytes) == (Verdict.REFUSED, refused.reason, 3, 321)
    assert (second.verdict, second.times) == (Verdict.TOO_LARGE, 1)


def test_events_and_refusals_are_bounded_and_numbers_never_used_twice(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MOST_EVENTS", 3)
    monkeypatch.setattr(journal_module, "MOST_REFUSALS", 2)
    for number in range(5):
        journal.note("run-1", "joined", str(number))
        journal.refuse("run-1", 1, f"device-{number}", Ruling(Verdict.REFUSED), "00" * 32, 1)
    assert [(event.sequence, event.text) for event in journal.events("run-1")] == [(3, "2"), (4, "3"), (5, "4")]
    assert [event.text for event in journal.events("run-1", after=4)] == ["4"]
    assert [refusal.device for refusal in journal.refusals("run-1")] == ["device-3", "device-4"]


def test_threads_share_one_journal(journal: Journal) -> None:
    def accept(number: int) -> Verdict:
        return journal.accept("run-1", 1, f"device-{number % 10}", b"update", FACTS).verdict

    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(accept, range(40)))
    assert verdicts == [Verdict.DONE] * 40
    assert len(journal.accepted_devices("run-1", 1)) == 10


def test_full_disk_asks_for_a_retry_and_goes_on_when_there_is_room(journal: Journal, path: Path) -> None:
    pages = journal._file.rows("PRAGMA page_count")[0][0]
    journal._file.rows(f"PRAGMA max_page_count = {pages}")
    assert journal.accept("run-1", 1, "anna", bytes(100_000), FACTS).verdict is Verdict.RETRY_AFTER
    assert journal.accepted_devices("run-1", 1) == set()
    with pytest.raises(RunError, match="full"):
        journal.note("run-1", "error", "x" * 100_000)
    journal._file.rows("PRAGMA max_page_count = 1000000")
    assert journal.accept("run-1", 1, "anna", bytes(100_000), FACTS).verdict is Verdict.DONE


def test_altered_content_is_not_served(journal: Journal, path: Path) -> None:
    journal.accept("run-1", 1, "anna", b"update", FACTS)
    with sqlite3.connect(path) as other:
        other.execute("UPDATE content SET object = ?", (b"altered",))
    other.close()
    with pytest.raises(RunError, match="anna in round 1 is damaged"):
        list(journal.accepted("run-1", 1))


def test_newer_schema_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as newer:
        newer.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    newer.close()
    with pytest.raises(RunError, match="use the newer gradsieve"):
        Journal.open(path)


@pytest.mark.parametrize("damage", ["not a database", "overwritten page"])
def test_damaged_file_is_refused(journal: Journal, path: Path, damage: str) -> None:
    journal.close()
    content = bytearray(path.read_bytes())
    content[0 if damage == "not a database" else 4096 : 8192] = b"\x5a" * 4096
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"journal\.db is (damaged|not usable)"):
        Journal.open(path)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="check the state directory"):
        Journal.open(tmp_path / "missing" / "journal.db")


@pytest.mark.parametrize("acknowledged", [1, 7, 20])
def test_kill_loses_nothing_that_was_acknowledged(journal: Journal, path: Path, acknowledged: int) -> None:
    journal.close()
    command = [sys.executable, "-c", WRITER, str(path)]
    writer = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    lines = [writer.stdout.readline().split() for _ in range(acknowledged)]
    writer.kill()
    lines += [line.split() for line in writer.stdout.read().splitlines()]
    writer.stdout.close()
    assert writer.wait() == -signal.SIGKILL
    survivors = Journal.open(path)
    stored = dict(survivors.accepted("run-1", 1))
    assert {verdict for _, verdict in lines} == {"DONE"}
    assert {device: device.encode() * 50 for device, _ in lines}.items() <= stored.items()
    assert len(stored) <= len(lines) + 1
    survivors.close()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("accept"), st.sampled_from("abc"), st.sampled_from([b"1", b"2"])),
            st.tuples(st.just("freeze"), st.just(""), st.just(b"")),
            st.tuples(st.just("close"), st.just(""), st.just(b"")),
            st.tuples(st.just("reopen"), st.just(""), st.just(b"")),
        ),
        max_size=25,
    )
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_history_counts_each_confirmed_update_in_exactly_one_round(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("history") / "journal.db"
    journal = Journal.open(path)
    journal.create_run("run-1", "{}")
    now, confirmed, frozen = 1, dict[tuple[int, str], bytes](), False
    journal.open_round("run-1", now, BASE, [], b"")
    for action, device, content in steps:
        if action == "accept":
            verdict = journal.accept("run-1", now, device, content, replace(FACTS, frame_bytes=now)).verdict
            known = confirmed.get((now, device))
            wanted = Verdict.DONE if known == content else Verdict.DUPLICATE if known else Verdict.STALE_ROUND
            assert verdict == (Verdict.DONE if known is None and not frozen else wanted)
            if verdict is Verdict.DONE:
                confirmed[now, device] = content
        elif action == "freeze":
            journal.freeze_round("run-1", now)
            frozen = True
        elif action == "close" and frozen:
            journal.close_round("run-1", now, "cd" * 32, "", {})
            now, frozen = now + 1, False
            journal.open_round("run-1", now, BASE, [], b"")
        elif action == "reopen":
            journal.close()
            journal = Journal.open(path)
        assert dict(journal.accepted("run-1", now)) == {d: c for (r, d), c in confirmed.items() if r == now}
    assert {(u.server_round, u.device) for u in journal.updates("run-1")} == set(confirmed)
    journal.close()
