import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from coordinator.admission import Admission, AdmissionLimits
from coordinator.intake import Intake
from coordinator.journal import Journal
from shared.compression.plan import Plan
from shared.compression.registry import codec_by_name
from shared.layout import Layout
from shared.update import UpdateHeader, UpdateObject, base_tag, run_tag
from shared.verdicts import Ruling, Verdict

LAYOUT = Layout.of([("w", (40, 5), "weight")])
BASE = "5a" * 32
PLAN = Plan(100)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.open(tmp_path / "journal.sqlite")
    journal.create_run("r", "{}")
    journal.open_round("r", 1, BASE, ["a", "b"], b"")
    yield journal
    journal.close()


def opened(journal: Journal, limit: float | None = None) -> Intake:
    intake = Intake(journal, "r")
    intake.open(1, ["a", "b"], Admission(LAYOUT, PLAN, 1, BASE, AdmissionLimits(), limit))
    return intake


def test_update_of_another_run_is_left_to_that_run(journal: Journal) -> None:
    intake, content = opened(journal), update()
    foreign = run_tag("another") + content[4:]
    ruling = intake.take("a", foreign)
    assert (ruling.verdict, ruling.retry_seconds) == (Verdict.RETRY_AFTER, 60)
    intake.freeze()
    assert intake.take("a", foreign).verdict is Verdict.RETRY_AFTER
    assert intake.take("a", content).verdict is Verdict.STALE_ROUND


def update(scale: float = 1.0) -> bytes:
    values = np.linspace(-1, 1, LAYOUT.size).astype(np.float32) * np.float32(scale)
    frame = codec_by_name("dense").encode(values, LAYOUT, PLAN).frame
    return UpdateObject(UpdateHeader(run_tag("r"), base_tag(BASE), 1, 10, 5, 0.5, 1, 2, 0.1), frame).pack()


def test_update_counts_once_and_its_repeat_is_done_again(journal: Journal) -> None:
    intake = opened(journal)
    assert [intake.take("a", update()) for _ in range(2)] == [Ruling(Verdict.DONE)] * 2
    assert [device for device, _ in intake.contents()] == ["a"]


@pytest.mark.parametrize("restarted", [False, True])
def test_bytes_of_another_device_are_refused_even_after_a_restart(journal: Journal, restarted: bool) -> None:
    intake = opened(journal)
    intake.take("a", update())
    stolen = (opened(journal) if restarted else intake).take("b", update())
    assert stolen == Ruling(Verdict.REFUSED, "the very bytes that a sent: a device must send its own update")
    assert [(r.device, r.verdict) for r in journal.refusals("r")] == [("b", Verdict.REFUSED)]
    assert intake.take("b", update(0.5)).verdict is Verdict.DONE


def test_update_that_would_drown_the_model_is_refused_in_the_first_round(journal: Journal) -> None:
    intake = opened(journal, limit=1.0)
    ruling = intake.take("a", update(1e30))
    assert ruling.verdict is Verdict.REFUSED
    assert "is above the 10 that this round takes" in ruling.reason


def test_journal_that_cannot_be_written_asks_the_device_to_come_again(journal: Journal, tmp_path: Path) -> None:
    intake = opened(journal)
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as vandal:
        vandal.executescript("DROP TABLE content; DROP TABLE refused; DROP TABLE event;")
    later = Ruling(Verdict.RETRY_AFTER, "the coordinator cannot store updates now")
    assert [intake.take("a", content) for content in (update(), b"garbage")] == [later, later]
    intake.note_trouble("goes to the log")
