import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.quiet_hours import MINUTES_A_DAY, QuietHours


@pytest.mark.parametrize(
    ("span", "within", "without"),
    [
        ("22:00-06:30", ["22:00", "23:59", "00:00", "06:29"], ["21:59", "06:30", "12:00"]),
        ("09:15-17:00", ["09:15", "16:59"], ["09:14", "17:00", "00:00"]),
        ("20:00-24:00", ["20:00", "23:59"], ["00:00", "19:59"]),
        ("00:00-24:00", ["00:00", "23:59"], []),
    ],
)
def test_span_covers_its_hours_and_no_others(span: str, within: list[str], without: list[str]) -> None:
    hours = QuietHours.parse(span)
    assert all(hours.covers(minute(text)) for text in within)
    assert not any(hours.covers(minute(text)) for text in without)
    assert str(hours) == span


@pytest.mark.parametrize("text", ["", "22-6", "25:00-06:00", "22:00-22:00", "22:60-06:00", "20:00-24:30", "2 - 6"])
def test_what_is_no_span_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="no span of hours, such as 22:00-06:30"):
        QuietHours.parse(text)


@given(first=st.integers(0, MINUTES_A_DAY - 1), end=st.integers(0, MINUTES_A_DAY - 1), now=st.integers(0, 1439))
def test_span_and_the_rest_of_the_day_cover_every_minute_once(first: int, end: int, now: int) -> None:
    if first != end:
        assert QuietHours(first, end).covers(now) != QuietHours(end, first).covers(now)


def minute(text: str) -> int:
    hours, minutes = text.split(":")
    return 60 * int(hours) + int(minutes)
