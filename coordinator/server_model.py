"""The global model: what every device holds, what the server would like it to be, and the step between them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shared.compression.codec import Codec
from shared.compression.plan import Plan
from shared.delta_chain import Link, pack_chain, unpack_chain
from shared.layout import F32, Layout
from shared.update import base_tag


def model_digest(vector: F32) -> str:
    """SHA-256, in hex, of the little-endian float32 bytes: the identity of a model on the wire."""
    return hashlib.sha256(model_bytes(vector)).hexdigest()


def model_bytes(vector: F32) -> bytes:
    """The float32 `[size]` vector as little-endian bytes, as a full model travels."""
    return np.ascontiguousarray(vector, "<f4").tobytes()


@dataclass
class ServerModel:
    """`public` is float32 `[size]` and bit for bit what devices hold; `residual` is what the downlink still owes.

    `delta` leads to `public` from the model `base`; `earlier` are the deltas before it, oldest first, for devices that
    missed rounds. Of these the newest `history_rounds` are kept, as far as they are together smaller than the model.

    Server momentum as in FedAvgM (Hsu, Qi, Brown 2019); the downlink sieve with its own residual, and the cache of past
    deltas, as in Sattler et al. 2019, but not summed: a sum of float32 deltas would not give the public model's bits.
    All arithmetic is float32 in a fixed order: a replay gives the same bits.
    """

    layout: Layout
    public: F32
    history_rounds: int = 0
    momentum: F32 = field(init=False)
    residual: F32 = field(init=False)
    base: str | None = None
    delta: bytes = b""
    earlier: tuple[Link, ...] = ()

    def __post_init__(self) -> None:
        self.momentum = np.zeros_like(self.public)
        self.residual = np.zeros_like(self.public)

    @property
    def digest(self) -> str:
        """The digest of the public model."""
        return model_digest(self.public)

    def norm(self) -> float:
        """The Euclidean norm of the public model."""
        return float(np.linalg.norm(self.public.astype(np.float64)))

    def step(self, mean_update: F32, momentum: float, learning_rate: float, codec: Codec, budget_bytes: int) -> None:
        """Move towards `mean_update`, publish what fits `budget_bytes`, and keep the rest for later rounds."""
        self.momentum = np.float32(momentum) * self.momentum + mean_update
        owed = self.residual + np.float32(learning_rate) * self.momentum
        encoded = codec.encode(owed, self.layout, Plan(budget_bytes))
        past = (*self.earlier, Link(base_tag(self.base), self.delta)) if self.base else ()
        self.earlier = self._remembered(past, 4 * self.layout.size - len(encoded.frame))
        self.base, self.delta = self.digest, encoded.frame
        self.public = self.public.copy()
        encoded.delivered.add_to(self.public)
        owed[encoded.delivered.indices] -= encoded.delivered.values
        self.residual = owed

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays that a checkpoint keeps; `earlier` is uint8, the others float32."""
        earlier = np.frombuffer(pack_chain(self.earlier), np.uint8)
        return {"public": self.public, "momentum": self.momentum, "residual": self.residual, "earlier": earlier}

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]], base: str | None, delta: bytes) -> None:
        """Continue from a checkpoint, bit for bit."""
        self.public, self.momentum, self.residual = (
            state[name].astype(np.float32, copy=False) for name in ("public", "momentum", "residual")
        )
        self.base, self.delta = base, delta
        kept = state.get("earlier")  # version 0.1.0 kept none
        self.earlier = () if kept is None else unpack_chain(kept.tobytes())

    def _remembered(self, links: Sequence[Link], room_bytes: int) -> tuple[Link, ...]:
        """The newest of `links`: a way that is longer than the whole model helps nobody."""
        count = 0
        for link in links[::-1][: self.history_rounds]:
            room_bytes -= len(link.frame)
            if room_bytes <= 0:
                break
            count += 1
        return tuple(links[len(links) - count :])
