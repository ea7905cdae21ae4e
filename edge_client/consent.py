"""A device's policy at work: it judges commands and counts what is uploaded. Pure: it has no files and no clock."""

from collections.abc import Callable

from edge_client.orders import LocalRules
from edge_client.policy import Objection, Policy
from edge_client.upload_days import UploadDays, day_of
from shared.messages import DeclineReason, LocalWork


class Consent:
    """What the owner of the device agrees to, at this time.

    `days` are the bytes of updates sent by day, as they were kept; `wall_clock`, in unix seconds, says which day it
    is; no deadline rests on it. Above `hottest_celsius` the trainer is to stop.
    """

    def __init__(
        self,
        policy: Policy,
        days: dict[str, int],
        wall_clock: Callable[[], float],
        hottest_celsius: float | None = None,
    ) -> None:
        self.rules: LocalRules = policy.rules.model_copy(update={"hottest_celsius": hottest_celsius})
        self._policy, self._clock = policy, wall_clock
        self._uploads = UploadDays(policy.upload_bytes_a_day, days)
        self._last_packets: dict[str, int] = {}

    @property
    def is_private(self) -> bool:
        """Must updates be noised, and may nothing else be told that depends on the data."""
        return self.rules.privacy is not None

    def objection(self, run: str, signer: str, work: LocalWork | None) -> Objection | None:
        """Why a command of `run` is declined, or None; `work` is None for an evaluation."""
        found = self._policy.objection(run, signer, work)
        if found is not None or work is None:
            return found
        return None if self.left >= max(1, self._last_packets.get(run, 1)) else self.used_up("nothing more is trained")

    def fits(self, run: str, packet_bytes: int) -> Objection | None:
        """Why an update that takes so many bytes on the wire has to wait for another day, or None."""
        self._last_packets[run] = packet_bytes
        return None if packet_bytes <= self.left else self.used_up(f"an update of {packet_bytes} bytes waits")

    @property
    def left(self) -> float:
        """Bytes of updates that may still be sent today."""
        return self._uploads.left(day_of(self._clock()))

    def take(self, packet_bytes: int) -> bool:
        """Count a packet that is about to be sent; False where it may not be."""
        return self._uploads.take(day_of(self._clock()), packet_bytes)

    @property
    def counts(self) -> dict[str, int] | None:
        """The bytes by day to keep on disk; None where nothing needs counting."""
        return None if self._uploads.limit_bytes is None else dict(self._uploads.days)

    def used_up(self, what: str) -> Objection:
        """That today's bytes are used up, so that `what` follows."""
        limit = self._uploads.limit_bytes
        text = f"{self.left:.0f} bytes are left of upload_bytes_a_day = {limit}, until midnight UTC: {what}"
        return Objection(DeclineReason.UPLOAD_BYTES, text)
