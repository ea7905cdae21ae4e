"""The figures of a finished run, all byte counts read off the transport."""

import json
from dataclasses import dataclass
from pathlib import Path

from coordinator.fleet import Device
from coordinator.run import Run


@dataclass(frozen=True)
class FleetTraffic:
    """Bytes of whole MQTT packets between devices and broker, totals since the agents started.

    Up is counted on the coordinator's transport as it arrives (a dead device's bytes too), down on each device's own.
    """

    uplink_bytes: int
    downlink_bytes: int
    tcp_uplink_bytes: int
    tcp_downlink_bytes: int

    @classmethod
    def of(cls, devices: list[Device]) -> "FleetTraffic":
        """Add up the devices' latest counters."""
        beats = [device.heartbeat for device in devices if device.heartbeat]
        return cls(
            uplink_bytes=sum(device.received_bytes for device in devices),
            downlink_bytes=sum(beat.received_bytes for beat in beats),
            tcp_uplink_bytes=sum(beat.tcp_sent_bytes or 0 for beat in beats),
            tcp_downlink_bytes=sum(beat.tcp_received_bytes or 0 for beat in beats),
        )


def peak_rss_mb(devices: list[Device]) -> float:
    """The largest device's peak resident memory in MB (10⁶ bytes): agent and trainer process added."""
    peaks = [d.heartbeat.peak_rss_bytes + d.heartbeat.trainer_peak_rss_bytes for d in devices if d.heartbeat]
    return max(peaks, default=0) / 1e6


def score_text(final: dict[str, float]) -> str:
    """How the final model does, in words: its accuracy, its loss where labels are numbers, or that nobody judged it."""
    if "accuracy" in final:
        return f"accuracy {final['accuracy']:.3f}"
    return f"loss {final['loss']:.4g}" if "loss" in final else "not judged on test data"


def run_figures(run: Run, final: dict[str, float]) -> dict[str, object]:
    """What the journal knows of a finished run; accuracy and loss are None where no device has test data."""
    updates = run.journal.updates(run.id)
    return {
        "run": run.id,
        "rounds": len(run.journal.rounds(run.id)),
        "updates": len(updates),
        "refused_updates": sum(refusal.times for refusal in run.journal.refusals(run.id)),
        "accuracy": final.get("accuracy"),
        "loss": final.get("loss"),
        "codec_bytes": sum(update.facts.frame_bytes for update in updates),
        "model_digest": run.strategy.model.digest,
        "model_values": run.strategy.layout.size,
    }


def write_json(path: Path, figures: dict[str, object]) -> None:
    """Write figures for a script to read."""
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
