"""The one list of answers that a coordinator gives to an upload."""

from dataclasses import dataclass
from enum import IntEnum


class Verdict(IntEnum):
    """What became of an uploaded object; a device treats an unknown number as RETRY_AFTER."""

    PENDING = 0
    """Not complete yet: the status carries bitmap and credit."""
    DONE = 1
    """Committed to the journal: the device drops its copy."""
    DUPLICATE = 2
    """Another update of this device already counts for the round: nothing of this one is owed."""
    STALE_ROUND = 3
    """The round is closed."""
    WRONG_BASE = 4
    """Trained from a model that is not the round's."""
    TOO_LARGE = 5
    """Above what the run allows."""
    BAD_DIGEST = 6
    """The assembled bytes do not have the digest they were announced with: upload anew."""
    REFUSED = 7
    """Not admitted: the status carries the reason."""
    RETRY_AFTER = 8
    """No room now: ask again after the seconds in the status."""
    UNSUPPORTED = 9
    """Codec or version not spoken here."""

    @property
    def is_final(self) -> bool:
        """True when the device must not send these bytes again."""
        return self not in (Verdict.PENDING, Verdict.BAD_DIGEST, Verdict.RETRY_AFTER)


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict with its reason, as admission gives it and the journal keeps it."""

    verdict: Verdict
    reason: str = ""
    retry_seconds: int = 2
    """When to offer again; of RETRY_AFTER alone."""
