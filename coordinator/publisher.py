"""What the coordinator keeps published: its own state, the open round, and the objects devices ask for."""

from dataclasses import dataclass, field

from coordinator.round_offer import RoundOffer
from shared.blobs import chunks_of
from shared.delta_chain import unpack_history
from shared.errors import PayloadTooLarge
from shared.messages import CoordinatorState, dump
from shared.signing import SigningKey, seal
from shared.topics import Topics
from shared.transport import Publication, Transport
from shared.varint import write_varint


@dataclass
class Publisher:
    """Publishes retained state, states it all anew after every reconnect, and clears what is superseded.

    What not every device will want is published only once one does: most devices hold the previous model and need the
    delta alone. With a history go the deltas that it names, for who wants one wants them next.
    """

    transport: Transport
    topics: Topics
    key: SigningKey
    epoch: str
    chunk_bytes: int
    broker_limit_bytes: int | None = None
    """Largest payload that the broker takes; None before it said so."""
    _offers: dict[str, RoundOffer] = field(default_factory=dict)
    _published: dict[str, int] = field(default_factory=dict)

    def will(self) -> Publication:
        """What the broker says when this coordinator vanishes."""
        return self._state(online=False)

    def restate(self) -> None:
        """State everything again: the broker may have lost it all."""
        self.transport.publish(self._state(online=True))
        for offer in self._offers.values():
            self._publish_manifest(offer)
        published, self._published = list(self._published), {}
        for digest in published:
            self._publish_blob(digest)

    @property
    def piece_bytes(self) -> int:
        """Longest piece of an object in one message, within what the broker takes."""
        return min(self.chunk_bytes, self.broker_limit_bytes or self.chunk_bytes)

    def announce(self, offer: RoundOffer) -> None:
        """Publish a round, replacing the run's last one, and clear the objects that are superseded.

        Raises `PayloadTooLarge` when the broker does not take the manifest: no device would ever see it.
        """
        self._check_size(offer)
        previous = self._offers.get(offer.manifest.run)
        self._offers[offer.manifest.run] = offer
        for digest in set(previous.blobs) - set(offer.blobs) if previous else ():
            self._clear_blob(digest)
        self._publish_manifest(offer)
        for digest in offer.at_once:
            self.want(digest)

    def want(self, digest: str) -> bool:
        """Publish a current object's chunks; False when no open round has it."""
        content = self._publish_blob(digest)
        if content is None:
            return False
        if any(o.manifest.history and o.manifest.history.digest == digest for o in self._offers.values()):
            for step in unpack_history(content):
                if step.delta.digest not in self._published:
                    self._publish_blob(step.delta.digest)
        return True

    def withdraw(self, run: str) -> None:
        """A run ended: clear its manifest and objects from the broker."""
        offer = self._offers.pop(run, None)
        if offer is not None:
            self.transport.publish(Publication(self.topics.round_manifest(run), b"", retain=True))
            for digest, content in offer.blobs.items():  # even what an earlier coordinator of this run published
                self._published.setdefault(digest, len(chunks_of(content, self.piece_bytes)))
                self._clear_blob(digest)

    def leave(self) -> None:
        """Say goodbye before a clean disconnect."""
        self.transport.publish(self._state(online=False))

    def _state(self, online: bool) -> Publication:
        topic = self.topics.coordinator_state()
        body = dump(CoordinatorState(online=online, epoch=self.epoch))
        return Publication(topic, seal(self.key, topic, body), retain=True)

    def _publish_blob(self, digest: str) -> bytes | None:
        content = next((o.blobs[digest] for o in self._offers.values() if digest in o.blobs), None)
        if content is not None:
            chunks = chunks_of(content, self.piece_bytes)
            for index, chunk in enumerate(chunks):
                self.transport.publish(Publication(self.topics.blob_chunk(digest, index), chunk, retain=True))
            self._published[digest] = len(chunks)
        return content

    def _check_size(self, offer: RoundOffer) -> None:
        size_bytes, limit = len(self._sealed(offer).payload), self.broker_limit_bytes
        if limit is not None and size_bytes > limit:
            raise PayloadTooLarge(
                f"a round manifest of {size_bytes} bytes is above the {limit} that the broker takes: "
                "raise the broker's max_packet_size, or lower downlink.budget_bytes in the job"
            )

    def _publish_manifest(self, offer: RoundOffer) -> None:
        self.transport.publish(self._sealed(offer))

    def _sealed(self, offer: RoundOffer) -> Publication:
        topic, text = self.topics.round_manifest(offer.manifest.run), dump(offer.manifest)
        body = write_varint(len(text)) + text + offer.attachment
        return Publication(topic, seal(self.key, topic, body), retain=True)

    def _clear_blob(self, digest: str) -> None:
        for index in range(self._published.pop(digest, 0)):
            self.transport.publish(Publication(self.topics.blob_chunk(digest, index), b"", retain=True))
