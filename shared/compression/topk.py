"""Top-k: the largest values in full precision, as many as the budget holds.

A. F. Aji, K. Heafield, Sparse Communication for Distributed Gradient Descent, EMNLP 2017. It belongs with a residual.
"""

from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.float_frame import FloatDraft, finish, likely_floats, read_floats
from shared.compression.plan import Plan
from shared.compression.sieve import Candidates, fill_budget, sieve
from shared.layout import F32, Layout

TOP_K_WIRE_ID = 5


class TopKCodec:
    """The k largest magnitudes of all values as float32; k follows from the budget."""

    name = "topk"
    wire_id = TOP_K_WIRE_ID

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """At most `plan.budget_bytes`; of the plan nothing else is used. Raises `ValueError` on NaN or infinity."""

        def fill(candidates: Candidates) -> FloatDraft | None:
            return fill_candidates(candidates, layout, plan)

        return finish(sieve(update, layout, plan.budget_bytes, fill), TOP_K_WIRE_ID, update, layout)

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """What `encode` delivered; raises `DecodeError` on anything else. The plan is not used."""
        return read_floats(frame, TOP_K_WIRE_ID, layout)


def fill_candidates(candidates: Candidates, layout: Layout, plan: Plan) -> FloatDraft | None:
    """The largest of the candidates that fit the budget, None where not even one does."""

    def draft(count: int) -> FloatDraft:
        return FloatDraft.of(candidates.indices[candidates.first(count)], layout)

    guess = likely_floats(layout.size, plan.budget_bytes)
    return fill_budget(draft, guess, len(candidates.indices), 8 * plan.budget_bytes)
