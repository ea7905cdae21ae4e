"""How many bytes of updates a device sent on each day, so that a policy's daily limit holds over restarts.

A clock without a battery may begin in the past and jump: counts are kept by day, so that a day that comes again has its
count again.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from shared.durable_file import write_durably
from shared.errors import RemoteError
from shared.messages import Count, Message, dump, parse

MOST_DAYS = 8


class _Counts(Message):
    days: dict[Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")], Count]


COUNTS = TypeAdapter(_Counts)


def day_of(unix_seconds: float) -> str:
    """The day in UTC, such as `2026-03-01`."""
    return datetime.fromtimestamp(unix_seconds, UTC).date().isoformat()


class UploadDays:
    """Counts of the days that were used last, and what a limit leaves of one; None: no limit."""

    def __init__(self, limit_bytes: int | None, days: dict[str, int] | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.days = dict(days or {})

    def left(self, day: str) -> float:
        """Bytes that may still be sent on `day`; infinity without a limit."""
        return float("inf") if self.limit_bytes is None else max(0, self.limit_bytes - self.days.get(day, 0))

    def take(self, day: str, size_bytes: int) -> bool:
        """Count bytes that are about to be sent; False, counting nothing, where they are more than what is left."""
        if size_bytes > self.left(day):
            return False
        self.days[day] = self.days.pop(day, 0) + size_bytes  # the day that was used last is last
        while len(self.days) > MOST_DAYS:
            self.days.pop(next(iter(self.days)))
        return True


def read_days(file: Path) -> dict[str, int]:
    """The counts in a file, none where there is none; raises `ValueError` where it is damaged."""
    try:
        return dict(parse(COUNTS, file.read_bytes()).days)
    except FileNotFoundError:
        return {}
    except RemoteError as error:
        raise ValueError(str(error)) from None


def write_days(file: Path, days: dict[str, int]) -> None:
    """Keep the counts, on disk once this returns; raises `OSError`."""
    write_durably(file, dump(_Counts(days=days)))
