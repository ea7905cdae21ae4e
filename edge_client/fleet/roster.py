"""The devices of a brief, switched off as yet."""

from collections.abc import Callable, Sequence
from functools import lru_cache

from edge_client.checks import Checks
from edge_client.fleet.keeper import MemberKeeper, SharedObjects
from edge_client.fleet.member import Member, Port, Site
from edge_client.fleet.slot_file import SlotFile
from edge_client.gate import GateLimits
from edge_client.inbox import opened_round
from edge_client.settings import EdgeSettings
from shared.bundle import open_bundle
from shared.device_profile import DeviceProfile, dealt
from shared.fleet_brief import FleetBrief
from shared.settings import BrokerSettings
from shared.signing import VerifyKey

HEARTBEAT_SECONDS = 3600.0
"""Devices on an emulated broker die by an event and never by silence, so a sign of life is all but needless."""

MOST_KEPT = 4
"""Bundles and manifests that are not checked anew: those of the runs that are under way."""


def members_of(
    brief: FleetBrief, file: SlotFile, site: Site, port_of: Callable[[str], Port] | None = None
) -> list[Member]:
    """A member for each of the coordinator's devices; a head is of the kind of its first board.

    `port_of` gives those that do not live on the site's emulated broker their transport.
    """
    objects = SharedObjects(brief.state)
    template = EdgeSettings(
        broker=brief.broker or BrokerSettings(),
        name=brief.names[0],
        data=brief.data,
        state_dir=brief.state,
        trusted_signers=(brief.trusted_signer,),
        topic_root=brief.topic_root,
        **({} if brief.broker else {"heartbeat_seconds": HEARTBEAT_SECONDS}),
    )
    kinds = dict(zip(brief.names, dealt(list(brief.profiles), len(brief.names), brief.seed), strict=True))
    kinds |= {cluster.head: kinds[cluster.boards[0]] for cluster in brief.clusters}
    slots = {name: slot for slot, name in enumerate(brief.slots)}
    return [
        Member(
            _settings(template, name, brief.profiles[kinds[name]]),
            slots[name],
            brief.profiles[kinds[name]],
            MemberKeeper(file, slots[name], objects),
            site,
            brief.seed,
            port_of(name) if port_of else None,
        )
        for name in brief.members
    ]


def _settings(template: EdgeSettings, name: str, profile: DeviceProfile) -> EdgeSettings:
    """Those of all devices under one's own name; a battery is spared below the charge that its kind says."""
    own: dict[str, object] = {"name": name}
    if profile.battery is not None:
        own["gate"] = GateLimits(least_battery_share=profile.battery.least_share)
    return template.model_copy(update=own)


def checks_once() -> Checks:
    """A board's checks, made once for all boards that are sent the same and trust the same keys.

    They are functions of these bytes and keys, but for the room for a bundle, which is not emulated.
    """

    @lru_cache(maxsize=MOST_KEPT)
    def opened(archive: bytes, trusted: tuple[VerifyKey, ...], largest_bytes: int) -> None:
        open_bundle(archive, trusted, largest_bytes, available_memory_bytes=None)

    def check(archive: bytes, trusted: Sequence[VerifyKey], settings: EdgeSettings, trainer_bytes: int) -> None:
        opened(archive, tuple(trusted), settings.largest_bundle_bytes)

    return Checks(check, lru_cache(maxsize=MOST_KEPT)(opened_round))
