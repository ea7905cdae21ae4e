from coordinator.complaints import MOST_SOURCES, QUIET_SECONDS, Complaints


def test_first_complaint_passes_and_the_next_waits_a_minute() -> None:
    complaints = Complaints()
    assert complaints.admit("a", 0.0) == 0
    assert [complaints.admit("a", seconds) for seconds in (0.1, 1.0, QUIET_SECONDS - 1)] == [None, None, None]
    assert complaints.admit("a", QUIET_SECONDS) == 3
    assert complaints.admit("a", 2 * QUIET_SECONDS) == 0


def test_one_source_does_not_silence_another() -> None:
    complaints = Complaints()
    assert [complaints.admit(source, 0.0) for source in ("a", "b", "a")] == [0, 0, None]


def test_invented_sources_do_not_fill_the_memory() -> None:
    complaints = Complaints()
    for number in range(MOST_SOURCES + 1):
        complaints.admit(str(number), float(number) / 1e6)
    assert len(complaints._said) == MOST_SOURCES
    assert complaints.admit("0", 1.0) == 0
