"""The gate between the wire and the aggregation: what one device sent is decoded in bounds and judged by itself."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from coordinator.aggregation import norm
from coordinator.records import UpdateFacts
from shared.compression.codec import SparseUpdate
from shared.compression.frame import PARTITION_WIRE_ID
from shared.compression.history import SendHistory
from shared.compression.partition import decode_regions
from shared.compression.plan import Plan
from shared.compression.registry import codec_by_wire_id
from shared.compression.stc import STC_WIRE_ID
from shared.errors import DecodeError, FrameError
from shared.layout import Layout
from shared.update import UpdateHeader, UpdateObject, base_tag
from shared.verdicts import Ruling, Verdict

OBJECT_OVERHEAD_BYTES = 256


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What one update may claim: examples, bytes (None: a dense update's), and its norm against the typical one."""

    largest_examples: int = 1_000_000
    largest_object_bytes: int | None = None
    largest_norm_ratio: float = 10.0


@dataclass(frozen=True, slots=True)
class Admitted:
    """An update that may count, decoded, with the facts to keep."""

    facts: UpdateFacts
    update: SparseUpdate


class Admission:
    """Judges update objects made for one round of this run; a verdict depends on the object alone, not on earlier ones.

    `base` is the model digest in hex that the round starts from; `typical_norm` the median norm of recent updates,
    None while it is not known, which leaves the norm unjudged. `history_of` gives a device's sends before the round.
    `on_admitted` is told of each device's frame that may count, and what it delivers.
    """

    def __init__(
        self,
        layout: Layout,
        plan: Plan,
        server_round: int,
        base: str,
        limits: AdmissionLimits,
        typical_norm: float | None = None,
        history_of: Callable[[str], SendHistory | None] = lambda device: None,
        on_admitted: Callable[[str, bytes, SparseUpdate], None] = lambda device, frame, update: None,
    ) -> None:
        self._layout, self._plan, self._limits, self._history_of = layout, plan, limits, history_of
        self._server_round, self._on_admitted = server_round, on_admitted
        self._base_tag = base_tag(base)
        self._largest_bytes = limits.largest_object_bytes or dense_object_bytes(layout)
        self._largest_frame_bytes = {PARTITION_WIRE_ID: plan.budget_bytes, STC_WIRE_ID: plan.budget_bytes}
        self._largest_norm = limits.largest_norm_ratio * typical_norm if typical_norm else sys.float_info.max

    def judge(self, device: str, content: bytes) -> Admitted | Ruling:
        """A device's decoded update and its facts, or the ruling that refuses it in one line; raises nothing."""
        if len(content) > self._largest_bytes:
            return Ruling(Verdict.TOO_LARGE, f"{len(content)} bytes, this run takes at most {self._largest_bytes}")
        try:
            unpacked = UpdateObject.unpack(content)
        except FrameError as error:
            return _refused(f"malformed: {error}")
        found = self._misdirected(unpacked.header) or self._decode(
            unpacked, len(content), self._plan.knowing(self._history_of(device))
        )
        if isinstance(found, Admitted):
            self._on_admitted(device, unpacked.frame, found.update)
        return found

    def _misdirected(self, header: UpdateHeader) -> Ruling | None:
        if header.server_round != self._server_round:
            return Ruling(Verdict.STALE_ROUND, f"made for round {header.server_round}, not {self._server_round}")
        if header.base_tag != self._base_tag:
            found, wanted = header.base_tag.hex(), self._base_tag.hex()
            return Ruling(Verdict.WRONG_BASE, f"trained from model {found}, this round's is {wanted}")
        return None

    def _decode(self, unpacked: UpdateObject, object_bytes: int, plan: Plan) -> Admitted | Ruling:
        examples, most = unpacked.header.examples, self._limits.largest_examples
        if not 1 <= examples <= most:
            return _refused(f"{examples} examples are not within 1 to {most}")
        frame = unpacked.frame
        if not frame:
            return _refused("malformed: it has no codec frame")
        try:
            codec_by_wire_id(frame[0])
        except DecodeError as error:
            return Ruling(Verdict.UNSUPPORTED, str(error))
        if len(frame) > (most_bytes := self._largest_frame_bytes.get(frame[0], len(frame))):
            return Ruling(Verdict.TOO_LARGE, f"a frame of {len(frame)} bytes, this round's budget is {most_bytes}")
        try:
            update, key_values = self._values(frame, plan)
        except DecodeError as error:
            return _refused(f"malformed: {error}")
        length = norm(update)
        if not length <= self._largest_norm:  # so put, it is true of NaN too
            return _refused(f"norm {length:.3g} is above the {self._largest_norm:.3g} that this round takes")
        return Admitted(self._facts(unpacked, object_bytes, update, key_values, length), update)

    def _values(self, frame: bytes, plan: Plan) -> tuple[SparseUpdate, int]:
        """What a frame delivers, and how many values of it are in a key region."""
        if frame[0] == PARTITION_WIRE_ID:
            return decode_regions(frame, self._layout, plan)
        return codec_by_wire_id(frame[0]).decode(frame, self._layout, plan), 0

    def _facts(
        self, unpacked: UpdateObject, object_bytes: int, update: SparseUpdate, key_values: int, length: float
    ) -> UpdateFacts:
        header, frame = unpacked.header, unpacked.frame
        return UpdateFacts(
            examples=header.examples,
            steps=header.steps,
            loss=header.loss,
            correct=header.correct,
            tested=header.tested,
            frame_bytes=len(frame),
            object_bytes=object_bytes,
            key_values=key_values,
            sparse_values=len(update.indices) - key_values,
            threshold=header.threshold,
            values_by_tensor=tuple(np.diff(np.searchsorted(update.indices, self._layout.offsets)).tolist()),
            norm=length,
        )


def dense_object_bytes(layout: Layout) -> int:
    """The largest object that an update can be: every value as float32."""
    return 4 * layout.size + OBJECT_OVERHEAD_BYTES


def typical_norm(norms: Sequence[float]) -> float | None:
    """The median of recent updates' norms; None when there are none, or nothing moved."""
    return (median(norms) or None) if norms else None


def _refused(reason: str) -> Ruling:
    return Ruling(Verdict.REFUSED, reason)
