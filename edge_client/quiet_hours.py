"""Hours of the day in which a device is left alone, in its local time."""

import re
import time
from dataclasses import dataclass
from typing import Self

SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24):([0-5]\d)")
MINUTES_A_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From minute `first` of the day up to but not including minute `end`; past midnight where `end` is not later."""

    first: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The span that `22:00-06:30` means; raises `ValueError` saying how to write one."""
        match = SPAN.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no span of hours, such as 22:00-06:30")
        hours, minutes, end_hours, end_minutes = map(int, match.groups())
        first, end = 60 * hours + minutes, 60 * end_hours + end_minutes
        if end > MINUTES_A_DAY or first == end:
            raise ValueError(f"{text!r} is no span of hours, such as 22:00-06:30; all day is 00:00-24:00")
        return cls(first, end)

    def covers(self, minute: int) -> bool:
        """Is minute `minute` of the day, 0 to 1,439, within."""
        if self.first < self.end:
            return self.first <= minute < self.end
        return minute >= self.first or minute < self.end

    def __str__(self) -> str:
        """As it is written in the file."""
        return f"{self.first // 60:02}:{self.first % 60:02}-{self.end // 60:02}:{self.end % 60:02}"


def minute_of_day() -> int:
    """The minute of the local day that it is now."""
    now = time.localtime()
    return 60 * now.tm_hour + now.tm_min
