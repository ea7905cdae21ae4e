"""How a device checks what it is sent; devices that share a process check once what all of them are sent alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_client.data_size import recorded_bytes
from edge_client.inbox import RoundOpener, opened_round
from edge_client.memory import SHARED_WITH_AGENT_BYTES, available_bytes
from edge_client.settings import EdgeSettings
from shared.bundle import open_bundle
from shared.signing import VerifyKey

BundleCheck = Callable[[bytes, Sequence[VerifyKey], EdgeSettings, int], None]
"""Of an archive, by the keys that a device trusts, its settings, and the bytes that its trainer has resident.

Raises `BundleError` or `SignatureError` where the archive is refused.
"""


def check_on_board(archive: bytes, trusted: Sequence[VerifyKey], settings: EdgeSettings, trainer_bytes: int) -> None:
    """Refuse a bundle that nobody trusted signed, that is damaged, or that takes more memory than this board has free.

    A trainer process that runs already lets go of what it holds.
    """
    room_bytes = available_bytes() + SHARED_WITH_AGENT_BYTES + trainer_bytes
    data_bytes = recorded_bytes(settings.data, settings.data_source)
    open_bundle(archive, trusted, settings.largest_bundle_bytes, room_bytes, data_bytes)


@dataclass(frozen=True, slots=True)
class Checks:
    """What a device checks a bundle with, and opens the manifest of a round."""

    bundle: BundleCheck = check_on_board
    open_round: RoundOpener = opened_round
