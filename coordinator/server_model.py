"""The global model: what every device holds, what the server would like it to be, and the step between them."""

import hashlib
from dataclasses import dataclass, field

import numpy as np

from shared.compression.codec import Codec
from shared.compression.plan import Plan
from shared.layout import F32, Layout


def model_digest(vector: F32) -> str:
    """SHA-256, in hex, of the little-endian float32 bytes: the identity of a model on the wire."""
    return hashlib.sha256(model_bytes(vector)).hexdigest()


def model_bytes(vector: F32) -> bytes:
    """The float32 `[size]` vector as little-endian bytes, as a full model travels."""
    return np.ascontiguousarray(vector, "<f4").tobytes()


@dataclass
class ServerModel:
    """`public` is float32 `[size]` and bit for bit what devices hold; `residual` is what the downlink still owes.

    Server momentum as in FedAvgM (Hsu, Qi, Brown 2019); the downlink sieve with its own residual as in Sattler et al.
    2019. All arithmetic is float32 in a fixed order: a replay gives the same bits.
    """

    layout: Layout
    public: F32
    momentum: F32 = field(init=False)
    residual: F32 = field(init=False)
    base: str | None = None
    delta: bytes = b""

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
        self.base, self.delta = self.digest, encoded.frame
        self.public = self.public.copy()
        encoded.delivered.add_to(self.public)
        owed[encoded.delivered.indices] -= encoded.delivered.values
        self.residual = owed

    def state(self) -> dict[str, F32]:
        """The arrays that a checkpoint keeps."""
        return {"public": self.public, "momentum": self.momentum, "residual": self.residual}

    def restore(self, state: dict[str, F32], base: str | None, delta: bytes) -> None:
        """Continue from a checkpoint, bit for bit."""
        self.public, self.momentum, self.residual = state["public"], state["momentum"], state["residual"]
        self.base, self.delta = base, delta
