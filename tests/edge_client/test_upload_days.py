from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.upload_days import MOST_DAYS, UploadDays, day_of, read_days, write_days

NOON = 1_800_000_000.0
DAY_SECONDS = 86_400


def test_days_are_those_of_utc() -> None:
    assert day_of(0.0) == "1970-01-01"
    assert day_of(DAY_SECONDS - 1) == "1970-01-01"
    assert day_of(DAY_SECONDS) == "1970-01-02"


def test_what_does_not_fit_is_not_counted() -> None:
    days = UploadDays(100)
    assert days.take("a", 60)
    assert not days.take("a", 41)
    assert days.take("a", 40)
    assert days.left("a") == 0
    assert days.left("b") == 100


def test_day_that_comes_again_after_the_clock_jumped_has_its_count() -> None:
    days = UploadDays(100)
    days.take("2026-03-02", 90)
    days.take("1970-01-01", 90)
    assert days.left("2026-03-02") == 10
    assert days.left("1970-01-01") == 10


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 60)), max_size=60), st.integers(1, 100))
def test_no_day_goes_over_the_limit_and_the_file_stays_small(taken: list[tuple[int, int]], limit: int) -> None:
    days = UploadDays(limit)
    for day, size in taken:
        left = days.left(str(day))
        assert days.take(str(day), size) == (size <= left)
        assert days.left(str(day)) == (left - size if size <= left else left)
    assert all(count <= limit for count in days.days.values())
    assert len(days.days) <= MOST_DAYS


def test_counts_come_back_from_their_file(tmp_path: Path) -> None:
    assert read_days(tmp_path / "days.json") == {}
    write_days(tmp_path / "days.json", {day_of(NOON): 5})
    assert read_days(tmp_path / "days.json") == {day_of(NOON): 5}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"days":{"x":1}}', b'{"days":{"2026-01-01":-1}}'])
def test_damaged_counts_are_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "days.json").write_bytes(content)
    with pytest.raises(ValueError, match="control message"):
        read_days(tmp_path / "days.json")
