"""A round as it is offered to devices."""

from dataclasses import dataclass, field

from shared.messages import RoundManifest


@dataclass(frozen=True)
class RoundOffer:
    """Manifest, inline attachment, and by digest the objects to ask for: bundle, full model, earlier deltas.

    `at_once` names those that every device will want.
    """

    manifest: RoundManifest
    attachment: bytes
    blobs: dict[str, bytes] = field(default_factory=dict)
    at_once: tuple[str, ...] = ()
