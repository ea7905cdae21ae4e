"""What the session asks its shell to do; publishing is a plain `Publication`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_client.orders import Order
from shared.transport import Publication


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Ask for topics."""

    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Stop asking for topics."""

    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckBundle:
    """Verify an archive and keep it; `Session.on_bundle` follows."""

    digest: str
    archive: bytes


@dataclass(frozen=True, slots=True)
class DropBundle:
    """Delete an archive that the trainer cannot use."""

    digest: str


@dataclass(frozen=True, slots=True)
class SubmitOrder:
    """Write the files that an order refers to, then give it to the trainer; `Session.on_answer` follows in any case."""

    order: Order
    files: Mapping[Path, bytes]


@dataclass(frozen=True, slots=True)
class Settle:
    """Record the final verdict on a run's pending update; `Session.on_settled` follows."""

    run: str
    server_round: int
    accepted: bool


@dataclass(frozen=True, slots=True)
class KeepUploadDays:
    """Keep the bytes of updates by day, before the packets that are counted are sent."""

    days: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ForgetRun:
    """Delete every file of a run."""

    run: str


@dataclass(frozen=True, slots=True)
class SendHeartbeat:
    """Publish a heartbeat with this phase and the counters that only the shell knows."""

    phase: str


@dataclass(frozen=True, slots=True)
class Note:
    """Write one line to the log."""

    text: str


Action = (
    Publication
    | Subscribe
    | Unsubscribe
    | CheckBundle
    | DropBundle
    | SubmitOrder
    | Settle
    | KeepUploadDays
    | ForgetRun
    | SendHeartbeat
    | Note
)
