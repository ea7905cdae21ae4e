import threading
from collections.abc import Sequence
from queue import SimpleQueue

import pytest

from edge_client.doctor.finding import Finding, Mark
from edge_client.doctor.patience import within


def test_findings_are_passed_on() -> None:
    found = [Finding.ok("disk", "fine")]
    assert within(10.0, "disk", lambda: found) == found


def test_check_that_hangs_is_left_behind_and_told() -> None:
    release = threading.Event()

    def hang() -> Sequence[Finding]:
        release.wait(60)
        return []

    (found,) = within(0.05, "disk", hang)
    release.set()
    assert (found.check, found.mark) == ("disk", Mark.FAIL)
    assert "0.05 s" in found.text


def test_check_that_breaks_is_told_and_the_examination_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    traces: SimpleQueue[type[BaseException]] = SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda arguments: traces.put(arguments.exc_type))

    def broken() -> Sequence[Finding]:
        raise ZeroDivisionError

    (found,) = within(10.0, "disk", broken)
    assert found.mark is Mark.FAIL
    assert "fault of gradsieve" in found.remedy
    assert traces.get(timeout=10.0) is ZeroDivisionError, "Python prints the trace"
