"""The deltas that came with manifests of rounds this device was not asked in: paid for already, so they are kept."""

from dataclasses import dataclass

from edge_client.inbox import OpenRound
from shared.delta_chain import Link
from shared.update import base_tag

MOST_HEARD = 64
MOST_HEARD_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class _Heard:
    """One round's delta: the models that it leads from and to, its own digest and its codec frame."""

    base: str
    target: str
    digest: str
    frame: bytes


class HeardDeltas:
    """Of one run: the newest 64, and of these at most 256 KiB and less than the whole model; in memory only."""

    def __init__(self) -> None:
        self._heard: list[_Heard] = []
        self._size_bytes = 0

    def hear(self, opened: OpenRound) -> None:
        """Keep the delta that is attached to a manifest, if there is one and it is new."""
        manifest = opened.manifest
        if manifest.base is None or manifest.delta is None:
            return
        frame = opened.attached.get(manifest.delta.digest)
        if frame is None or (self._heard and self._heard[-1].target == manifest.model.digest):
            return
        self._heard.append(_Heard(manifest.base, manifest.model.digest, manifest.delta.digest, frame))
        self._size_bytes += len(frame)
        while len(self._heard) > MOST_HEARD or self._size_bytes >= min(MOST_HEARD_BYTES, manifest.model.size):
            self._forget(1)

    def reached(self, model: str) -> None:
        """The trainer holds this model now: what leads to it is not needed again."""
        targets = [heard.target for heard in self._heard]
        if model in targets:
            self._forget(targets.index(model) + 1)

    def leading_to(self, model: str) -> list[Link]:
        """The longest unbroken row of deltas whose last one gives `model`, oldest first."""
        links: list[Link] = []
        for heard in reversed(self._heard):
            if heard.target == model:
                links.insert(0, Link(base_tag(heard.base), heard.frame))
                model = heard.base
        return links

    def frame(self, digest: str) -> bytes | None:
        """The delta with this digest, if it is here."""
        return next((heard.frame for heard in self._heard if heard.digest == digest), None)

    def _forget(self, count: int) -> None:
        """Drop so many, the oldest first."""
        self._size_bytes -= sum(len(heard.frame) for heard in self._heard[:count])
        del self._heard[:count]
