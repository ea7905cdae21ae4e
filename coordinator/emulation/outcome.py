"""What an emulation found: the run's own figures, and what it would have cost on the fleet that was emulated."""

from dataclasses import dataclass

from coordinator.emulation.emulation import EmulatedRun
from coordinator.report.quantity import bytes_text, seconds_text
from coordinator.summary import FleetTraffic, run_figures

JOULES_A_WATT_HOUR = 3600.0
OF_THE_FLEET = "virtual_seconds", "trained_seconds", "crashes", "spent_joules"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures for a script to read, and the sentence for a person."""

    figures: dict[str, object]

    @classmethod
    def of(cls, emulated: EmulatedRun, final: dict[str, float], wall_seconds: float) -> "Outcome":
        """What a finished run was; `wall_seconds` is what it took on this machine."""
        traffic, fleet = FleetTraffic.of(emulated.run.devices()), emulated.figures()
        figures = run_figures(emulated.run, final) | {
            "clients": len(emulated.run.devices()),
            "uplink_bytes": traffic.uplink_bytes,
            "downlink_bytes": fleet.get("received_bytes", traffic.downlink_bytes),
            **{key: fleet[key] for key in OF_THE_FLEET if key in fleet},
            "wall_seconds": round(wall_seconds, 2),
        }
        return cls(figures)

    def sentence(self) -> str:
        """What a fleet's owner would want to know: `this would have taken 3 h 12 min and 41 MB on your fleet`.

        With energy where batteries were emulated; empty where time was real.
        """
        if "virtual_seconds" not in self.figures:
            return ""
        took = seconds_text(_number(self.figures["virtual_seconds"]))
        moved = bytes_text(_number(self.figures["uplink_bytes"]) + _number(self.figures["downlink_bytes"]))
        joules = _number(self.figures["spent_joules"])
        energy = f", {joules / JOULES_A_WATT_HOUR:,.0f} Wh of battery," if joules else ""
        return f"this would have taken {took}{energy} and {moved} on your fleet"


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
