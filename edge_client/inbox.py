"""What the coordinator says to a device, believed only when signed by a trusted key for that very topic."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.errors import DigestMismatch, MessageError
from shared.messages import (
    COMMAND,
    COORDINATOR_STATE,
    LARGEST_MESSAGE_BYTES,
    ROUND_MANIFEST,
    BlobRef,
    CancelCommand,
    CoordinatorState,
    EvaluateCommand,
    RebirthCommand,
    RoundManifest,
    TrainCommand,
    parse,
)
from shared.signing import VerifyKey, open_signed
from shared.topics import Topics
from shared.varint import Reader


@dataclass(frozen=True, slots=True)
class OpenRound:
    """A round's manifest with the objects that came attached to it, by digest; `signer` is the key in hex."""

    manifest: RoundManifest
    attached: dict[str, bytes]
    signer: str = ""


Mail = TrainCommand | EvaluateCommand | CancelCommand | RebirthCommand | CoordinatorState | OpenRound


@dataclass(frozen=True, slots=True)
class Inbox:
    """Opens what arrives on a device's signed topics."""

    device: str
    topics: Topics
    trusted: Sequence[VerifyKey]

    def open(self, topic: str, payload: bytes) -> Mail:
        """The message in a sealed payload; raises `RemoteError` for what is unsigned, altered or malformed."""
        body, signer = open_signed(self.trusted, topic, payload)
        if topic == self.topics.command(self.device):
            return parse(COMMAND, body)
        if topic == self.topics.coordinator_state():
            return parse(COORDINATOR_STATE, body)
        opened = replace(_open_round(body), signer=signer.hex)
        if topic != self.topics.round_manifest(opened.manifest.run):
            raise MessageError(f"the manifest of run {opened.manifest.run} came on topic {topic[:120]!r}")
        return opened


def _open_round(body: bytes) -> OpenRound:
    reader = Reader(body, "round manifest")
    text = reader.take(reader.varint(LARGEST_MESSAGE_BYTES, "length"), "text")
    manifest, attachment = parse(ROUND_MANIFEST, text), reader.rest()
    if (manifest.base is None) != (manifest.delta is None):
        raise MessageError("round manifest: base and delta belong together: one of them is missing")
    if manifest.history is not None and manifest.delta is None:
        raise MessageError("round manifest: a history without a delta leads nowhere: the delta is missing")
    refs = (manifest.bundle, manifest.model, manifest.delta, manifest.history, manifest.plan)
    return OpenRound(manifest, {ref.digest: _cut(attachment, ref) for ref in refs if ref and ref.offset is not None})


def _cut(attachment: bytes, ref: BlobRef) -> bytes:
    start = ref.offset or 0
    content = attachment[start : start + ref.size]
    if len(content) != ref.size or hashlib.sha256(content).hexdigest() != ref.digest:
        raise DigestMismatch(f"round manifest: the attached object {ref.digest[:16]} is not what its digest says")
    return content
