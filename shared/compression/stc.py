"""Sparse ternary compression: the largest values, each as the sign of one common magnitude, with Golomb-coded gaps.

F. Sattler, S. Wiedemann, K.-R. Müller, W. Samek, Robust and Communication-Efficient Federated Learning from Non-IID
Data, IEEE Transactions on Neural Networks and Learning Systems, 2019. Golomb parameters are powers of two, as in the
partition codec, so that the two differ in what they know and not in how they count.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from shared.compression.bits import BitReader, BitWriter
from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.histogram import U32, magnitudes, signs
from shared.compression.magnitudes import BASE_BITS, amplified, mean_bits, read_base, signed_values, write_base
from shared.compression.plan import Plan
from shared.compression.rice import Gaps, covering_parameter, decode_gaps
from shared.compression.sieve import Candidates, fill_budget, likely_count, sieve
from shared.errors import DecodeError
from shared.layout import F32, I64, Layout

STC_WIRE_ID = 2
PARAMETER_BITS = 5
HEAD_BYTES = 8
EMPTY_FRAME = bytes([STC_WIRE_ID])


class StcCodec:
    """Top-k of all values, as many as the budget holds; wire id, 5 bits of Golomb parameter, 15 bits of magnitude."""

    name = "stc"
    wire_id = STC_WIRE_ID

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """At most `plan.budget_bytes`, with the plan's gain, which the paper has not; nothing else of the plan is used.

        Raises `ValueError` on NaN or infinity.
        """
        bounds = np.array([0, layout.size])

        def fill(candidates: Candidates) -> _Draft | None:
            guess = likely_count(layout.size, plan.budget_bytes)
            drafting = partial(_Draft.of, candidates, bounds)
            return fill_budget(drafting, guess, len(candidates.indices), 8 * plan.budget_bytes)

        draft = sieve(update, layout, plan.budget_bytes, fill)
        return (
            Encoded(EMPTY_FRAME, SparseUpdate.nothing(layout.size))
            if draft is None
            else draft.finish(update, layout, plan.gain_eighths)
        )

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """What `encode` delivered; raises `DecodeError` on anything else. The plan is not used."""
        if frame == EMPTY_FRAME:
            return SparseUpdate.nothing(layout.size)
        if frame[:1] != EMPTY_FRAME or len(frame) > HEAD_BYTES + layout.size:
            raise DecodeError(f"{len(frame)} bytes are no ternary frame of a layout of {layout.size} values")
        reader = BitReader(frame[1:])
        parameter = np.array([reader.take(PARAMETER_BITS)])
        pattern = read_base(reader)
        indices = decode_gaps(reader, np.array([0, layout.size]), parameter)
        negative = reader.take_bits(len(indices))
        reader.finish()
        return SparseUpdate(layout.size, indices, signed_values(np.full(len(indices), pattern, np.uint32), negative))


@dataclass(frozen=True, slots=True)
class _Draft:
    indices: I64
    bits: U32
    gaps: Gaps
    parameter: I64

    @classmethod
    def of(cls, candidates: Candidates, bounds: I64, count: int) -> "_Draft":
        chosen = candidates.first(count)
        gaps = Gaps.of(candidates.indices[chosen], bounds)
        parameter = int(gaps.lengths(covering_parameter(int(bounds[-1]))).argmin())
        return cls(candidates.indices[chosen], candidates.bits[chosen], gaps, np.array([parameter]))

    @property
    def count(self) -> int:
        return len(self.indices)

    @property
    def length(self) -> int:
        return 8 + PARAMETER_BITS + BASE_BITS + self.gaps.length(self.parameter) + len(self.indices)

    def finish(self, update: F32, layout: Layout, gain_eighths: int) -> Encoded:
        writer = BitWriter()
        writer.put(STC_WIRE_ID, 8)
        writer.put(int(self.parameter[0]), PARAMETER_BITS)
        pattern = write_base(writer, amplified([mean_bits(self.bits)], gain_eighths)[0])
        writer.put_bits(self.gaps.encode(self.parameter))
        negative = signs(update, self.indices)
        writer.put_bits(negative)
        values = signed_values(np.full(len(self.indices), pattern, np.uint32), negative)
        delivered = SparseUpdate(layout.size, self.indices, values)
        return Encoded(writer.to_bytes(), delivered, float(magnitudes(self.bits).min()))
