"""EDEN: a random rotation makes every value about normal; each is sent as its Lloyd-Max centroid, unbiased by a scale.

S. Vargaftik, R. Ben Basat, A. Portnoy, G. Mendelson, Y. Ben-Itzhak, M. Mitzenmacher, EDEN: Communication-Efficient and
Robust Distributed Mean Estimation for Federated Learning, ICML 2022. The rotation is a Hadamard transform after random
signs. For a fraction of a bit the paper draws which values get the bit more; below one bit the others are not sent.
"""

import math
from dataclasses import dataclass

import numpy as np

from shared.compression.bits import U8, BitReader, BitWriter
from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.draws import raw_draws, seed_of
from shared.compression.histogram import magnitude_bits
from shared.compression.plan import Plan
from shared.compression.rice import F64
from shared.errors import DecodeError
from shared.layout import F32, I64, Layout

EDEN_WIRE_ID = 11
SEED_BITS = 16
SCALE_BITS = 32
HEAD_BYTES = 1 + (SEED_BITS + SCALE_BITS) // 8
MOST_BITS = 4
LARGEST_FLOAT = float(np.finfo(np.float32).max)
EMPTY_FRAME = bytes([EDEN_WIRE_ID])

_UPPER_CENTROIDS = (
    (),
    (0.7978845608028654,),
    (0.4527800346911237, 1.5104176084990955),
    (0.2450941789442, 0.7560052512058, 1.3439092613750, 2.1519457005187),
    (0.1283950299, 0.3880482994, 0.6567591185, 0.9423404951, 1.2562312011, 1.6180464101, 2.0690172284, 2.7325898430),
)
CENTROIDS: tuple[F64, ...] = (np.zeros(1), *(np.array([-c for c in up[::-1]] + [*up]) for up in _UPPER_CENTROIDS[1:]))
"""The best 2 ** b values to stand for a standard normal variable, rising; index b from 0 to 4 bits."""


class EdenCodec:
    """Fills the budget with up to 4 bits for each value of the rotated update, which is padded to a power of two."""

    name = "eden"
    wire_id = EDEN_WIRE_ID

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """Exactly the budget or 4 bits a value; a byte if it delivers nothing. The rotation is seeded by the update.

        Raises `ValueError` on NaN, infinity or another size.
        """
        magnitude_bits(update, layout)
        seed = seed_of(update) & (1 << SEED_BITS) - 1
        frame = encode_rotated(update.reshape(-1).astype(np.float64), seed, payload_bits(layout, plan))
        return Encoded(frame, self.decode(frame, layout, plan))

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """Every value; raises `DecodeError` unless the frame is as long as this layout and plan make it."""
        if frame == EMPTY_FRAME:
            return SparseUpdate.nothing(layout.size)
        wanted = HEAD_BYTES + payload_bits(layout, plan) // 8
        if frame[:1] != EMPTY_FRAME or len(frame) != wanted or wanted == HEAD_BYTES:
            raise DecodeError(f"EDEN frame of {len(frame)} bytes, this layout and plan need {wanted}")
        reader = BitReader(frame[1:])
        rotation = Rotation.of(reader.take(SEED_BITS), layout.size)
        scale = float(np.uint32(reader.take(SCALE_BITS)).view(np.float32))
        if not 0 < scale < math.inf:
            raise DecodeError(f"scale {scale} of an EDEN frame: it must be positive and finite")
        rotated = np.zeros(rotation.size)
        for members, width in rotation.widths(8 * (wanted - HEAD_BYTES)):
            rotated[members] = CENTROIDS[width][reader.take_each(len(members), width)]
        values = np.clip(scale * rotation.undo(rotated), -LARGEST_FLOAT, LARGEST_FLOAT)
        return SparseUpdate(layout.size, np.arange(layout.size), values[: layout.size].astype(np.float32))


def encode_rotated(update: F64, seed: int, bits: int) -> bytes:
    """The frame of an update float64 `[n]` that spends `bits`, a multiple of 8, on the rotation of this 16-bit seed."""
    norm = math.sqrt(math.fsum((update * update).tolist()))
    if norm == 0 or bits == 0:
        return EMPTY_FRAME
    rotation = Rotation.of(seed, len(update))
    rotated = rotation.apply(update / norm)
    codes, product = [], 0.0
    for members, width in rotation.widths(bits):
        code = nearest(rotated[members], width)
        product += math.fsum((rotated[members] * CENTROIDS[width][code]).tolist())
        codes.append((code[:, np.newaxis] >> np.arange(width)[::-1] & 1).astype(np.uint8).reshape(-1))
    scale = np.float32(min(norm / product, LARGEST_FLOAT)) if product > 0 else np.float32(0)
    return _pack(seed, scale, np.concatenate(codes)) if scale > 0 else EMPTY_FRAME


def nearest(values: F64, width: int) -> I64:
    """The number of the nearest centroid of `width` bits: int64 `[n]`."""
    centroids = CENTROIDS[width]
    return np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values)


def payload_bits(layout: Layout, plan: Plan) -> int:
    """Bits of centroids in a frame: what the budget leaves, at most 4 for each value of the padded update."""
    return 8 * min(max(plan.budget_bytes - HEAD_BYTES, 0), MOST_BITS * padded_size(layout.size) // 8)


def padded_size(size: int) -> int:
    """The next power of two, at least 2."""
    return 1 << max(size - 1, 1).bit_length()


@dataclass(frozen=True, slots=True)
class Rotation:
    """Random signs float64 `[size]`, then a Hadamard transform; and the random order in which values get bits."""

    signs: F64
    order: I64

    @classmethod
    def of(cls, seed: int, size: int) -> "Rotation":
        """The rotation of a seed, for `size` values padded with zeros to a power of two."""
        raw = raw_draws(seed, padded_size(size))
        return cls(1.0 - 2.0 * (raw & np.uint64(1)).astype(np.float64), np.argsort(raw, kind="stable"))

    @property
    def size(self) -> int:
        """A power of two."""
        return len(self.signs)

    def apply(self, vector: F64) -> F64:
        """The rotated vector float64 `[size]`, √size times as long."""
        padded = np.zeros(self.size)
        padded[: len(vector)] = vector
        return hadamard(padded * self.signs)

    def undo(self, rotated: F64) -> F64:
        """The transpose of `apply`, again √size times as long."""
        return hadamard(rotated) * self.signs

    def widths(self, bits: int) -> list[tuple[I64, int]]:
        """Which values get how many of `bits`: as even as can be; those that get none are left out."""
        width, more = divmod(bits, self.size)
        return [(m, w) for m, w in ((self.order[:more], width + 1), (self.order[more:], width)) if w and len(m)]


def hadamard(vector: F64) -> F64:
    """The Hadamard transform of float64 `[2 ** m]`, not normalised; sums of two, so the same on every CPU."""
    half = 1
    while half < len(vector):
        pairs = vector.reshape(-1, 2, half)
        vector = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
        half *= 2
    return vector


def _pack(seed: int, scale: np.float32, codes: U8) -> bytes:
    writer = BitWriter()
    writer.put(EDEN_WIRE_ID, 8)
    writer.put(seed, SEED_BITS)
    writer.put(int(scale.view(np.uint32)), SCALE_BITS)
    writer.put_bits(codes)
    return writer.to_bytes()
