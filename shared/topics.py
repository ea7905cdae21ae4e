"""Topic names: the only place that builds or parses one. Direction is the third level: three lines rule a broker."""

import re
from dataclasses import dataclass

from shared.errors import MessageError

DEFAULT_ROOT = "gs"
CHUNK_LEVELS = re.compile(r"([0-9a-f]{16})/([0-9]{1,6})")
DEVICE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
"""A device's name is also its topic level and the common name of its certificate."""


@dataclass(frozen=True, slots=True)
class DeviceTopic:
    """A parsed topic of one device: its name and the channel, such as `x` or `cmd`."""

    device: str
    channel: str


@dataclass(frozen=True, slots=True)
class Topics:
    """Every topic below one root; the protocol's major version is the second level."""

    root: str = DEFAULT_ROOT

    @property
    def _top(self) -> str:
        return f"{self.root}/v1"

    def coordinator_state(self) -> str:
        """Retained: is a coordinator online, and since which epoch."""
        return f"{self._top}/pub/coord/state"

    def round_manifest(self, run: str) -> str:
        """Retained: the open round of a run, signed, with plan and model delta."""
        return f"{self._top}/pub/run/{run}/round"

    def all_round_manifests(self) -> str:
        """Filter for the manifests of all runs."""
        return f"{self._top}/pub/run/+/round"

    def blob(self, digest: str) -> str:
        """Filter for all chunks of one published object."""
        return f"{self._top}/pub/blob/{digest[:16]}/+"

    def blob_chunk(self, digest: str, index: int) -> str:
        """Retained: one chunk of a published object, cleared when the object is superseded."""
        return f"{self._top}/pub/blob/{digest[:16]}/{index}"

    def device_state(self, device: str) -> str:
        """Retained, with will: birth or death of a device."""
        return f"{self._top}/up/{device}/state"

    def device_event(self, device: str) -> str:
        """What a device reports, as JSON."""
        return f"{self._top}/up/{device}/evt"

    def heartbeat(self, device: str) -> str:
        """QoS 0: a device is alive, with its counters."""
        return f"{self._top}/up/{device}/hb"

    def upload(self, device: str) -> str:
        """Binary transfer frames from a device."""
        return f"{self._top}/up/{device}/x"

    def all_uplinks(self) -> str:
        """Filter for everything devices send."""
        return f"{self._top}/up/+/+"

    def command(self, device: str) -> str:
        """Signed commands to one device; never retained."""
        return f"{self._top}/down/{device}/cmd"

    def download(self, device: str) -> str:
        """Binary transfer frames to a device: status and verdicts, and objects meant for it alone."""
        return f"{self._top}/down/{device}/x"

    def parse_uplink(self, topic: str) -> DeviceTopic:
        """Device and channel of an uplink topic; raises `MessageError` for any other topic."""
        head, _, channel = topic.rpartition("/")
        top, _, device = head.rpartition("/")
        if top != f"{self._top}/up" or not DEVICE_NAME.fullmatch(device) or not channel:
            raise MessageError(f"not an uplink topic of root {self.root!r}: {topic[:120]!r}")
        return DeviceTopic(device, channel)

    def parse_blob(self, topic: str) -> tuple[str, int]:
        """The 16 digest digits and chunk index of a blob topic; raises `MessageError` for any other topic."""
        chunk = self.chunk_of(topic)
        if chunk is None:
            raise MessageError(f"not a blob topic of root {self.root!r}: {topic[:120]!r}")
        return chunk

    def chunk_of(self, topic: str) -> tuple[str, int] | None:
        """The same, and None for any other topic: what a device asks of all that it receives."""
        above = f"{self._top}/pub/blob/"
        match = CHUNK_LEVELS.fullmatch(topic, len(above)) if topic.startswith(above) else None
        return None if match is None else (match[1], int(match[2]))


def check_device_name(name: str) -> str:
    """`name` itself if it can be a topic level; raises `MessageError` otherwise."""
    if not DEVICE_NAME.fullmatch(name):
        raise MessageError(f"device name {name[:60]!r}: use 1 to 48 of a-z, 0-9, '-', '_', not starting with a sign")
    return name
