"""What an examination found of one thing, with the remedy."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Mark(StrEnum):
    """How much a finding matters: `skip` stands for what could not be examined, because of another finding."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination: what was looked at, how it is, and what to do about it."""

    check: str
    mark: Mark
    text: str
    remedy: str = ""

    @classmethod
    def ok(cls, check: str, text: str) -> Self:
        """All is well."""
        return cls(check, Mark.OK, text)

    @classmethod
    def warn(cls, check: str, text: str, remedy: str) -> Self:
        """It works, but not for long, or not well."""
        return cls(check, Mark.WARN, text, remedy)

    @classmethod
    def fail(cls, check: str, text: str, remedy: str) -> Self:
        """The client cannot do its work."""
        return cls(check, Mark.FAIL, text, remedy)

    @classmethod
    def skip(cls, check: str, text: str) -> Self:
        """Not examined."""
        return cls(check, Mark.SKIP, text)

    @classmethod
    def of_error(cls, check: str, error: Exception | str) -> Self:
        """A failure in the words of one of our errors, whose remedy stands behind the last colon."""
        text, _, remedy = str(error).rpartition(": ")
        return cls(check, Mark.FAIL, text or remedy, remedy if text else "")
