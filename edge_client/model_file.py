"""The public model of a run on the device: raw little-endian float32, found again by its SHA-256."""

import hashlib
import logging
import os
from pathlib import Path

import numpy as np

from shared.bundle import Growth
from shared.compression.plan import Plan
from shared.compression.registry import decode_frame
from shared.delta_chain import since, unpack_chain
from shared.errors import DecodeError, DigestMismatch, FrameError
from shared.growth import grow
from shared.layout import F32, Layout

log = logging.getLogger(__name__)


class ModelFile:
    """`model.bin` in the folder of a run; written without fsync, since a torn one fails its digest and is refetched."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._path, self._layout = folder / "model.bin", layout

    def begin(self, growth: Growth | None) -> None:
        """Keep the first model of a run that devices grow themselves, where none is kept yet."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if growth is not None and size != 4 * self._layout.size:
            self._write(grow(growth, self._layout))

    def load(self, digest: str) -> F32 | None:
        """The kept model, a float32 `[layout.size]` vector, if it is the one with this digest."""
        model = self._read()
        return model if model is not None and digest_of(model) == digest else None

    def digest(self) -> str | None:
        """The digest of the kept model, whichever it is; None where none is kept."""
        model = self._read()
        return None if model is None else digest_of(model)

    def replace(self, source: Path, digest: str) -> F32:
        """Keep the whole model in `source`; raises `DigestMismatch` when it is not the one with this digest."""
        model = np.fromfile(source, "<f4")
        if model.size != self._layout.size or digest_of(model) != digest:
            raise DigestMismatch(
                f"model of {source.stat().st_size} bytes, {self._layout.size * 4} expected, does not have digest "
                f"{digest[:16]}…: publish it again"
            )
        self._write(model)
        return model

    def advance(self, chain: Path, target: str) -> F32 | None:
        """Add the deltas in the file `chain` since the kept model to it, in their order, and keep the result.

        None, and nothing changes, when the kept model is no base of the chain or the sum is not `target`.
        """
        model = self._read()
        if model is None:
            return None
        held = digest_of(model)
        try:
            links = since(unpack_chain(chain.read_bytes()), held)
            for link in links:
                decode_frame(link.frame, self._layout, Plan(budget_bytes=max(len(link.frame), 1))).add_to(model)
        except (FrameError, DecodeError) as error:
            log.warning("the deltas to model %s cannot be decoded: %s", target[:16], error)
            return None
        if not links:
            return None
        if digest_of(model) != target:
            log.warning("%d deltas since model %s do not lead to %s", len(links), held[:16], target[:16])
            return None
        self._write(model)
        return model

    def _read(self) -> F32 | None:
        model = np.fromfile(self._path, "<f4") if self._path.exists() else np.empty(0, np.float32)
        return model if model.size == self._layout.size else None

    def _write(self, model: F32) -> None:
        temporary = self._path.with_name(self._path.name + ".tmp")
        model.tofile(temporary)
        os.replace(temporary, self._path)


def digest_of(model: F32) -> str:
    """The hex SHA-256 that names a model."""
    return hashlib.sha256(np.ascontiguousarray(model, "<f4").data).hexdigest()
