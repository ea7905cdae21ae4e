"""The one update of a run that was trained but may not be settled yet, and the residual that follows from it.

`pending.bin` is the SHA-256 of all that follows (64 hex digits, line feed), a JSON header line, then update object,
plan, history and residual. `settled.json` is the final verdict. Both are replaced whole: a power cut leaves the old
state or the new one.
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from pydantic import TypeAdapter

from shared.durable_file import write_durably
from shared.errors import DigestMismatch, RemoteError
from shared.messages import Count, Digest, Message, Round, RunId, dump, parse

log = logging.getLogger(__name__)

DIGEST_LINE_BYTES = 65
LONGEST_HEADER_BYTES = 4096
PIECE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class PendingUpdate:
    """An update object as it is to be uploaded, with its steps and the plan bytes it was sieved by (empty: none).

    `base` is the digest of the model that it was trained from; `history` the sends before it, as they are saved (empty:
    it was sieved without). `noised` says that update and residual hold nothing of the data but noised updates.
    """

    run: str
    server_round: int
    base: str
    steps: int
    object: bytes
    plan: bytes = b""
    history: bytes = b""
    noised: bool = False


class Settled(Message):
    """The final verdict on the update of `server_round`: whether the coordinator counts it, or another of its round."""

    server_round: Round
    accepted: bool


class _Header(Message):
    run: RunId
    server_round: Round
    base: Digest
    steps: Count
    object_bytes: Count
    plan_bytes: Count
    history_bytes: Count = 0
    residual_bytes: Count
    noised: bool = False


HEADER = TypeAdapter(_Header)
SETTLED = TypeAdapter(Settled)


class PendingStore:
    """The pending update in the folder of one run: the trainer commits, the agent reads and settles."""

    def __init__(self, folder: Path) -> None:
        self._pending = folder / "pending.bin"
        self._settled = folder / "settled.json"

    def commit(self, update: PendingUpdate, residual: bytes | memoryview) -> None:
        """Replace the pending update and its raw float32 residual in one step; it is unsettled from here on."""
        residual = memoryview(residual).cast("B")
        header = _Header(
            run=update.run,
            server_round=update.server_round,
            base=update.base,
            steps=update.steps,
            object_bytes=len(update.object),
            plan_bytes=len(update.plan),
            history_bytes=len(update.history),
            residual_bytes=len(residual),
            noised=update.noised,
        )
        parts = (dump(header) + b"\n", update.object, update.plan, update.history, residual)
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        write_durably(self._pending, digest.hexdigest().encode() + b"\n", *parts)
        # The old verdict goes last: in between, an update of the same round counts as refused, which loses nothing.
        self._settled.unlink(missing_ok=True)

    def read(self) -> PendingUpdate | None:
        """The last committed update, settled or not; a damaged file is set aside, logged, and counts as absent."""
        found = self._open()
        if found is None:
            return None
        header, file = found
        with file:
            sizes = header.object_bytes, header.plan_bytes, header.history_bytes
            sent, plan, history = (file.read(size) for size in sizes)
        return PendingUpdate(
            header.run, header.server_round, header.base, header.steps, sent, plan, history, header.noised
        )

    def read_residual(self) -> bytearray:
        """The raw float32 residual that goes with the last committed update; empty where there is none."""
        found = self._open()
        if found is None:
            return bytearray()
        header, file = found
        residual = bytearray(header.residual_bytes)
        with file:
            file.seek(header.object_bytes + header.plan_bytes + header.history_bytes, os.SEEK_CUR)
            file.readinto(residual)
        return residual

    def keep_history(self, after: bytes) -> None:
        """Left out: the update's frame tells it, and every byte wears the card."""

    def history(self) -> bytes:
        """Empty: see `keep_history`."""
        return b""

    def unsettled(self) -> PendingUpdate | None:
        """The update that still waits for its final verdict: it is to be offered again."""
        update = self.read()
        return update if update is not None and self.verdict_on(update) is None else None

    def verdict_on(self, update: PendingUpdate) -> bool | None:
        """Whether `update` was accepted; None while no final verdict came."""
        try:
            settled = parse(SETTLED, self._settled.read_bytes())
        except FileNotFoundError:
            return None
        except RemoteError as error:
            _set_aside(self._settled, error)
            return None
        return settled.accepted if settled.server_round == update.server_round else None

    def settle(self, server_round: int, accepted: bool) -> None:
        """Record the final verdict on the update of `server_round`."""
        write_durably(self._settled, dump(Settled(server_round=server_round, accepted=accepted)))

    def _open(self) -> tuple[_Header, BufferedReader] | None:
        try:
            return _open_verified(self._pending)
        except FileNotFoundError:
            return None
        except RemoteError as error:
            _set_aside(self._pending, error)
            return None


def _open_verified(path: Path) -> tuple[_Header, BufferedReader]:
    """The header, and the file at the first byte after it; hashed in pieces, so that large residuals stay on disk."""
    with path.open("rb") as file:
        announced, digest = file.read(DIGEST_LINE_BYTES), hashlib.sha256()
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    if announced != digest.hexdigest().encode() + b"\n":
        raise DigestMismatch(f"{path.name} of {path.stat().st_size} bytes does not have its digest")
    file = path.open("rb")
    file.seek(DIGEST_LINE_BYTES)
    return parse(HEADER, file.readline(LONGEST_HEADER_BYTES)), file


def _set_aside(path: Path, error: RemoteError) -> None:
    aside = path.with_name(path.name + ".damaged")
    os.replace(path, aside)
    log.warning("%s is damaged and was set aside as %s: %s", path, aside.name, error)
