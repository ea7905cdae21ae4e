"""What the coordinator says to a device, believed only when signed by a trusted key for that very topic."""

import hashlib
from collections.abc import Callable, Sequence
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


RoundOpener = Callable[[Sequence[VerifyKey], str, bytes], OpenRound]
"""What `opened_round` does: a function of its arguments and nothing else, so that its result may be kept."""

Mail = TrainCommand | EvaluateCommand | CancelCommand | RebirthCommand | CoordinatorState | OpenRound


@dataclass(frozen=True, slots=True)
class Inbox:
    """Opens what arrives on a device's signed topics."""

    device: str
    topics: Topics
    trusted: tuple[VerifyKey, ...]
    open_round: RoundOpener

    def open(self, topic: str, payload: bytes) -> Mail:
        """The message in a sealed payload; raises `RemoteError` for what is unsigned, altered or malformed."""
        if topic == self.topics.command(self.device):
            return parse(COMMAND, open_signed(self.trusted, topic, payload)[0])
        if topic == self.topics.coordinator_state():
            return parse(COORDINATOR_STATE, open_signed(self.trusted, topic, payload)[0])
        opened = self.open_round(self.trusted, topic, payload)
        if topic != self.topics.round_manifest(opened.manifest.run):
            raise MessageError(f"the manifest of run {opened.manifest.run} came on topic {topic[:120]!r}")
        return opened


def opened_round(trusted: Sequence[VerifyKey], topic: str, payload: bytes) -> OpenRound:
    """The manifest that one of the `trusted` keys sealed for `topic`; raises `RemoteError` for anything else."""
    body, signer = open_signed(trusted, topic, payload)
    return replace(_open_round(body), signer=signer.hex)


def _open_round(body: bytes) -> OpenRound:
    reader = Reader(body, "round manifest")
    text = reader.take(reader.varint(LARGEST_MESSAGE_BYTES, "length"), "text")
    return read_round(text, reader.rest())


def read_round(text: bytes, attachment: bytes) -> OpenRound:
    """The manifest in `text` with the objects in its attachment; raises `RemoteError` where these do not fit it."""
    manifest = parse(ROUND_MANIFEST, text)
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
