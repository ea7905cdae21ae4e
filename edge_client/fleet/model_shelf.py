"""The models of a run that emulated devices share: each is worked out once, and kept once for all that hold it."""

import hashlib
import os
from collections import OrderedDict
from pathlib import Path

import numpy as np

from edge_client.model_file import digest_of
from shared.bundle import Growth
from shared.compression.plan import Plan
from shared.compression.registry import decode_frame
from shared.delta_chain import since, unpack_chain
from shared.errors import DecodeError, FrameError
from shared.growth import grow
from shared.layout import F32, Layout

MOST_MODELS = 40
"""Models that a process keeps at hand; the others lie on disk, named by their digest."""


class ModelShelf:
    """The models of a run by digest, each worked out once and kept for all devices that hold it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._models: OrderedDict[str, F32] = OrderedDict()
        self._led: dict[tuple[str, str], str | None] = {}
        self._steps: dict[tuple[str, str], str] = {}
        self._grown: dict[int, str] = {}

    def get(self, digest: str) -> F32 | None:
        """The model with this digest, read-only float32, if anybody here ever had it."""
        if digest in self._models:
            self._models.move_to_end(digest)
            return self._models[digest]
        path = self._folder / digest
        return self._hold(digest, np.fromfile(path, "<f4")) if path.exists() else None

    def put(self, model: F32) -> str:
        """Keep a model; returns its digest."""
        digest = digest_of(model)
        path = self._folder / digest
        if not path.exists():
            temporary = path.with_name(f"{digest}.{os.getpid()}")
            model.tofile(temporary)
            os.replace(temporary, path)
        self._hold(digest, model)
        return digest

    def grown(self, growth: Growth, layout: Layout) -> str:
        """The digest of the first model that devices grow by this seed."""
        if growth.seed not in self._grown:
            self._grown[growth.seed] = self.put(grow(growth, layout))
        return self._grown[growth.seed]

    def led(self, held: str, chain: Path, layout: Layout) -> str | None:
        """The digest of what the deltas in a file named by its content lead to from `held`; None where to nothing."""
        key = held, chain.name
        if key not in self._led:
            self._led[key] = self._lead(held, chain, layout)
        return self._led[key]

    def _lead(self, held: str, chain: Path, layout: Layout) -> str | None:
        try:
            links = since(unpack_chain(chain.read_bytes()), held)
            reached = held if links and self.get(held) is not None else None
            for link in links:
                reached = reached and self._after(reached, link.frame, layout)
        except (FrameError, DecodeError):
            return None
        return reached

    def _after(self, held: str, frame: bytes, layout: Layout) -> str | None:
        """The digest of a model with one delta added.

        However long ago devices were last asked, their chains go by the same models, so each delta is decoded once.
        """
        key = held, hashlib.sha256(frame).hexdigest()
        if key not in self._steps and (base := self.get(held)) is not None:
            model = base.copy()
            decode_frame(frame, layout, Plan(budget_bytes=max(len(frame), 1))).add_to(model)
            self._steps[key] = self.put(model)
        return self._steps.get(key)

    def _hold(self, digest: str, model: F32) -> F32:
        model.flags.writeable = False
        self._models[digest] = model
        if len(self._models) > MOST_MODELS:
            self._models.popitem(last=False)
        return model
