"""What a device holds for its work: manifests of open rounds, checked bundles, fetched objects."""

from collections.abc import Callable, Iterable

from edge_client.actions import Action, CheckBundle, Note
from edge_client.assignment import Assignment, Part, Way
from edge_client.fetch import Fetched, Fetcher, FetchNews
from edge_client.heard_deltas import HeardDeltas
from edge_client.inbox import OpenRound
from edge_client.presence import Identity
from shared.delta_chain import Link, Step, pack_chain
from shared.update import base_tag

MOST_RUNS = 16
"""Runs whose manifests are held; the one that changed longest ago goes first."""


class Shelf:
    """Holds what is here, and fetches and has checked what is not. Methods return what to do."""

    def __init__(
        self, identity: Identity, bundles: Iterable[str], largest_object_bytes: int, jitter: Callable[[], float]
    ) -> None:
        self._fetcher = Fetcher(identity, jitter)
        self._largest_object_bytes = largest_object_bytes
        self._rounds: dict[str, OpenRound] = {}
        self._heard: dict[str, HeardDeltas] = {}
        self._bundles = set(bundles)
        self._checking: set[str] = set()
        self._refused: dict[str, str] = {}
        self._objects: dict[str, bytes] = {}

    def hold(self, opened: OpenRound) -> None:
        """Keep a run's manifest in place of the one before; a bundle that was refused gets another chance."""
        self._rounds.pop(opened.manifest.run, None)
        self._rounds[opened.manifest.run] = opened
        self._heard.setdefault(opened.manifest.run, HeardDeltas()).hear(opened)
        self._refused.pop(opened.manifest.bundle.digest, None)
        if len(self._rounds) > MOST_RUNS:
            self.forget(next(iter(self._rounds)))

    def forget(self, run: str) -> None:
        """Drop the manifest of a run that ended, and the deltas of its rounds."""
        self._rounds.pop(run, None)
        self._heard.pop(run, None)

    def reached(self, run: str, model: str) -> None:
        """The trainer holds this model of a run: the deltas that lead to it have done their work."""
        if run in self._heard:
            self._heard[run].reached(model)

    def opened(self, assignment: Assignment) -> OpenRound | None:
        """The open round that an assignment is for, if its manifest is here."""
        opened = self._rounds.get(assignment.run)
        return opened if opened and opened.manifest.server_round == assignment.server_round else None

    def missing(self, assignment: Assignment, opened: OpenRound) -> list[Part]:
        """What the order of an assignment still lacks."""
        history = opened.manifest.history
        if assignment.way is Way.HISTORY and history and not assignment.steps:
            content = self._content(history.digest, opened)
            if content is not None:
                assignment.choose(content, opened.manifest, self._largest_object_bytes)
        return [part for part in assignment.parts(opened.manifest) if not self._has(part, opened)]

    def refusal(self, missing: list[Part], opened: OpenRound) -> str | None:
        """Why the round cannot be served by this device, or None."""
        for part in missing:
            if part.ref.size > self._largest_object_bytes:
                limit = f"largest_bundle_bytes = {self._largest_object_bytes}"
                return f"the {part.name} of {part.ref.size} bytes is above {limit}"
        return self._refused.get(opened.manifest.bundle.digest)

    def obtain(self, missing: list[Part], opened: OpenRound, now: float) -> list[Action]:
        """Fetch what is missing; a bundle that is here unchecked goes to its check."""
        actions: list[Action] = []
        for part in missing:
            digest = part.ref.digest
            content = opened.attached.get(digest) or self._objects.pop(digest, None)
            if digest in self._checking:
                continue
            if content is None:
                actions += self._sort(self._fetcher.want(part.ref, now))
            else:
                self._checking.add(digest)
                actions.append(CheckBundle(digest, content))
        return actions

    def take(self, assignment: Assignment, opened: OpenRound) -> dict[str, bytes]:
        """The files for an order that lacks nothing; a model leaves the shelf, for it is large and goes to disk."""
        files: dict[str, bytes] = {}
        for part in assignment.parts(opened.manifest):
            content = self._content(part.ref.digest, opened)
            if part.name in ("plan", "model") and content is not None:
                files[part.name] = content
        if "model" in files:
            self._objects.pop(opened.manifest.model.digest, None)
        elif links := self._links(assignment, opened):
            files["chain"] = pack_chain(links)
        return files

    def checked(self, digest: str, refusal: str | None) -> None:
        """A bundle's check ended."""
        self._checking.discard(digest)
        if refusal is None:
            self._bundles.add(digest)
        else:
            self._refused[digest] = refusal

    def unkeep(self, digest: str) -> None:
        """A bundle turned out to be unusable."""
        self._bundles.discard(digest)

    def retain(self, assignments: Iterable[Assignment], now: float) -> list[Action]:
        """Drop and stop fetching what no assignment needs."""
        if not self._objects and not self._fetcher.fetches:  # as after most inputs
            return []
        needed = {
            part.ref.digest
            for assignment in assignments
            if (opened := self.opened(assignment))
            for part in assignment.parts(opened.manifest)
        }
        self._objects = {digest: content for digest, content in self._objects.items() if digest in needed}
        return self._sort(self._fetcher.retain(needed, now))

    def is_chunk(self, topic: str) -> bool:
        """True for the topic of any chunk of a published object."""
        return self._fetcher.is_chunk(topic)

    def receive(self, topic: str, content: bytes, now: float) -> list[Action]:
        """Keep a chunk; raises `RemoteError` when it is not what is due."""
        return self._sort(self._fetcher.receive(topic, content, now))

    def link_up(self, now: float) -> list[Action]:
        """Go on fetching over a new link."""
        return self._sort(self._fetcher.link_up(now))

    def link_down(self) -> None:
        """Wait for a new link."""
        self._fetcher.link_down()

    def tick(self, now: float) -> list[Action]:
        """Ask for what stays away."""
        return self._sort(self._fetcher.tick(now))

    def next_wake(self) -> float:
        """When `tick` has something to do; infinity for never."""
        return self._fetcher.next_wake()

    def _has(self, part: Part, opened: OpenRound) -> bool:
        if part.name == "bundle":
            return part.ref.digest in self._bundles
        return self._content(part.ref.digest, opened) is not None

    def _content(self, digest: str, opened: OpenRound) -> bytes | None:
        """An object that is here, wherever it came from."""
        content = opened.attached.get(digest) or self._objects.get(digest)
        return content or self._heard[opened.manifest.run].frame(digest)

    def _links(self, assignment: Assignment, opened: OpenRound) -> list[Link]:
        """The deltas that lead to the round's model: those chosen from its history, else those heard without a gap."""
        manifest = opened.manifest
        if manifest.base is None or manifest.delta is None:
            return []
        steps = [*assignment.steps, Step(base_tag(manifest.base), manifest.delta)]
        links = [Link(step.base, self._content(step.delta.digest, opened) or b"") for step in steps]
        heard = [] if assignment.steps else self._heard[manifest.run].leading_to(manifest.base)
        return heard + links

    def _sort(self, news: list[FetchNews]) -> list[Action]:
        """Shelve what was fetched; the rest is to do."""
        actions: list[Action] = []
        for item in news:
            if isinstance(item, Fetched):
                self._objects[item.digest] = item.content
                actions.append(Note(f"fetched object {item.digest[:16]}: {len(item.content)} bytes"))
            else:
                actions.append(item)
        return actions
