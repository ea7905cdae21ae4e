"""The charge of an emulated battery: training and radio empty it, a charger fills it at its hours. Pure."""

from edge_client.gate import Reading
from shared.device_profile import HOURS_A_DAY, JOULES_A_WATT_HOUR, Battery

SLICE_SECONDS = 900.0
"""Longest time over which the charger counts as on or off throughout."""


class Charge:
    """How full a battery is; it begins full at `began_seconds` of unix time. Times given are seconds since then."""

    def __init__(self, battery: Battery, began_seconds: float) -> None:
        self._battery, self._began = battery, began_seconds
        self._most_joules = battery.capacity_watt_hours * JOULES_A_WATT_HOUR
        self._joules, self._seconds, self._bytes = self._most_joules, 0.0, 0
        self.spent_joules = 0.0
        """What was drawn so far, whatever was charged meanwhile."""

    def train(self, seconds: float, now: float) -> None:
        """Draw what so much training takes, all at once."""
        self._pass(now)
        self._draw(seconds * self._battery.training_watts)

    def reading(self, radio_bytes: int, now: float) -> Reading:
        """What the board's gauge says; `radio_bytes` is all that was sent and received so far."""
        self._pass(now)
        self._draw((radio_bytes - self._bytes) * self._battery.joules_a_megabyte / 1e6)
        self._bytes = radio_bytes
        return Reading(on_mains=self._charges(now), battery_share=self._joules / self._most_joules)

    def _pass(self, now: float) -> None:
        """Idle, and charge where it is time to, until now."""
        while self._seconds < now:
            passed = min(SLICE_SECONDS, now - self._seconds)
            gain = self._battery.charge_watts if self._charges(self._seconds) else 0.0
            self._draw(passed * self._battery.idle_watts)
            self._joules = min(self._joules + passed * gain, self._most_joules)
            self._seconds += passed

    def _charges(self, seconds: float) -> bool:
        hour = (self._began + seconds) / 3600 % HOURS_A_DAY
        return (hour - self._battery.charge_from) % HOURS_A_DAY < self._battery.charge_hours

    def _draw(self, joules: float) -> None:
        self._joules = max(self._joules - joules, 0.0)
        self.spent_joules += joules
