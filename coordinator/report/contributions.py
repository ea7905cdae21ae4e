"""Who contributed what: per device, the rounds it was asked, took part, was refused or stayed silent. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from coordinator.records import RoundRecord, RoundState, UpdateRecord


class Presence(IntEnum):
    """What became of one device in one round."""

    NOT_ASKED = 0
    ACCEPTED = 1
    REFUSED = 2
    MISSED = 3
    PENDING = 4


@dataclass(slots=True)
class Device:
    """One device's sums over the rounds whose update counted; accuracies are of received models on its own tests.

    `presence` holds one `Presence` a round, in order of rounds.
    """

    name: str
    presence: bytearray
    examples: int = 0
    values: int = 0
    object_bytes: int = 0
    losses: float = 0.0
    losses_told: int = 0
    first_accuracy: float | None = None
    last_accuracy: float | None = None
    last_round: int | None = None

    @property
    def rounds(self) -> int:
        """Rounds in which its update counted."""
        return self.presence.count(Presence.ACCEPTED)

    @property
    def missed(self) -> int:
        """Rounds that closed without a word of it."""
        return self.presence.count(Presence.MISSED)

    @property
    def refused(self) -> int:
        """Rounds in which all it sent was refused."""
        return self.presence.count(Presence.REFUSED)

    @property
    def asked(self) -> int:
        """Rounds that it was asked to take part in, or tried to."""
        return len(self.presence) - self.presence.count(Presence.NOT_ASKED)

    @property
    def loss(self) -> float | None:
        """Mean training loss over the rounds in which it was told."""
        return self.losses / self.losses_told if self.losses_told else None

    def add(self, update: UpdateRecord) -> None:
        """Count an accepted update."""
        facts = update.facts
        self.examples = max(self.examples, facts.examples)
        self.values += facts.key_values + facts.sparse_values
        self.object_bytes += facts.object_bytes
        if facts.loss is not None:
            self.losses += facts.loss
            self.losses_told += 1
        self.last_round = update.server_round
        if facts.tested:
            self.last_accuracy = facts.correct / facts.tested
            self.first_accuracy = self.last_accuracy if self.first_accuracy is None else self.first_accuracy


@dataclass
class Contributions:
    """Adds up a run's rounds, given in order; `refused` names, by round, the devices that had an update refused."""

    refused: Mapping[int, frozenset[str]]
    devices: dict[str, Device] = field(default_factory=dict)
    rounds: list[int] = field(default_factory=list)

    def add(self, record: RoundRecord, updates: Sequence[UpdateRecord]) -> None:
        """Count one more round."""
        refused = self.refused.get(record.server_round, frozenset())
        silent = Presence.MISSED if record.state is RoundState.CLOSED else Presence.PENDING
        said = dict.fromkeys(record.cohort, silent) | dict.fromkeys(refused, Presence.REFUSED)
        said |= {update.device: Presence.ACCEPTED for update in updates}
        for name in said.keys() - self.devices.keys():
            self.devices[name] = Device(name, bytearray(len(self.rounds)))
        for name, device in self.devices.items():
            device.presence.append(said.get(name, Presence.NOT_ASKED))
        for update in updates:
            self.devices[update.device].add(update)
        self.rounds.append(record.server_round)

    def by_name(self) -> list[Device]:
        """All devices heard of or asked, by name."""
        return [self.devices[name] for name in sorted(self.devices)]

    def most_irregular(self, most: int) -> list[Device]:
        """At most `most` devices by name: those with the most refused and missed rounds."""
        troubled = sorted(self.by_name(), key=lambda device: -(device.refused + device.missed))
        return sorted(troubled[:most], key=lambda device: device.name)
