"""What is fuzzed: a function of bytes for each decoder, which fails where the decoder breaks its promise."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from shared.compression.bits import BitWriter
from shared.compression.codec import SparseUpdate
from shared.compression.frame import PARTITION_WIRE_ID
from shared.compression.frame_stats import describe
from shared.compression.history import SendHistory
from shared.compression.plan import DENSEST_CLASS, LARGEST_STEP, MOST_BUDGET_BYTES, Classes, Plan
from shared.compression.prior import CHECK_BITS, KIND_BITS, Prior, PriorKind
from shared.compression.registry import decode_frame
from shared.errors import DecodeError, FrameError
from shared.layout import Layout
from shared.update import UpdateObject

CORPUS = Path(__file__).parent / "corpus"

LAYOUTS = (
    Layout.of([("a.weight", (8, 64), "weight"), ("a.bias", (8,), "bias"), ("b.weight", (3, 130), "weight")]),
    Layout.of([("conv.weight", (4, 3, 5), "weight"), ("bias", (4,), "bias")]),
    Layout.of([("scale", (), "norm")]),
    Layout.of([("wide", (3, 1000), "weight"), *((f"one{number}", (1,), "bias") for number in range(30))]),
)
"""Small, so that a frame of every length that a layout allows is quickly made."""

HEAD_BYTES = 2
NAME_BYTES = 1 + CHECK_BITS // 8
"""What holds the kind of a prior and the digest after it."""


def read_case(data: bytes) -> tuple[Layout, Plan, bytes]:
    """A layout and a plan chosen by the first two bytes, and the frame that follows them."""
    layout, frame = LAYOUTS[data[0] % len(LAYOUTS)], data[HEAD_BYTES:]
    plan = plan_of(data[1], layout).within(budget_of(data[1], frame))
    return layout, plan, _naming(plan, frame, layout)


def budget_of(choice: int, frame: bytes) -> int:
    """The frame's own length, as EDEN needs it, or a budget."""
    return (max(len(frame), 1), 60, 300, MOST_BUDGET_BYTES)[choice % 4]


@cache
def plan_of(choice: int, layout: Layout) -> Plan:
    """Classes of blocks, steps of columns beside them, and what is known of the client, each of them or not."""
    classes = classes_of(choice, layout)
    steps = np.arange(layout.num_columns) % 15 - LARGEST_STEP if classes is not None and choice & 16 else None
    plan = Plan(1, classes, None if steps is None else steps.astype(np.int8))
    if not choice & 32:
        return plan
    history = SendHistory.empty(layout)
    for stride in (7, 5):
        history = history.after(np.arange(0, layout.size, stride), layout)
    return plan.knowing(history)


def classes_of(choice: int, layout: Layout) -> Classes | None:
    """No classes, every class in turn, nothing but dead blocks, or two classes."""
    blocks = np.arange(layout.num_blocks, dtype=np.uint8)
    made = (None, blocks % (DENSEST_CLASS + 1), blocks * 0, DENSEST_CLASS - 3 * (blocks % 2))
    return made[choice // 4 % 4]


def _naming(plan: Plan, frame: bytes, layout: Layout) -> bytes:
    """The frame; where it claims what both ends know, it names this very plan: no mutation would meet its digest."""
    if frame[:1] != bytes([PARTITION_WIRE_ID]) or len(frame) < 1 + NAME_BYTES:
        return frame
    bits = f"{int.from_bytes(frame[1 : 1 + NAME_BYTES], 'big'):0{8 * NAME_BYTES}b}"
    prior = Prior.shared(plan if bits[KIND_BITS] == "1" else plan.knowing(None), layout)
    if int(bits[:KIND_BITS], 2) != PriorKind.PUBLIC or prior is None:
        return frame
    writer = BitWriter()
    prior.write(writer, layout, plan)
    writer.put(int(bits[writer.length :], 2), 8 * NAME_BYTES - writer.length)
    return frame[:1] + writer.to_bytes() + frame[1 + NAME_BYTES :]


def fuzz_frame(data: bytes) -> None:
    """A codec frame is refused with `DecodeError`, or decodes to a proper sparse update of the layout."""
    if len(data) < HEAD_BYTES:
        return
    layout, plan, frame = read_case(data)
    try:
        update = decode_frame(frame, layout, plan)
    except DecodeError:
        return
    check_update(update, layout)
    if frame[0] == PARTITION_WIRE_ID:
        stats = describe(frame, layout, plan)
        assert stats.key_count + stats.sparse_count == len(update.indices)
        assert math.isclose(stats.key_block_share + stats.sparse_block_share + stats.dead_block_share, 1.0)


def check_update(update: SparseUpdate, layout: Layout) -> None:
    """Rising indices within the layout and as many finite float32 values."""
    assert update.size == layout.size
    assert update.indices.dtype == np.int64
    assert update.values.dtype == np.float32
    assert update.indices.shape == update.values.shape
    assert (np.diff(update.indices, prepend=-1, append=layout.size) > 0).all()
    assert np.isfinite(update.values).all()


def fuzz_plan(data: bytes) -> None:
    """A plan is refused with `DecodeError`, or is of the layout and in its canonical form."""
    if not data:
        return
    layout = LAYOUTS[data[0] % len(LAYOUTS)]
    try:
        plan = Plan.from_bytes(data[1:], layout)
    except DecodeError:
        return
    assert plan.to_bytes() == data[1:]
    assert plan.density_classes is None or len(plan.density_classes) == layout.num_blocks
    assert plan.column_steps is None or len(plan.column_steps) == layout.num_columns
    Prior.shared(plan, layout)


def fuzz_history(data: bytes) -> None:
    """A client's history is refused with `DecodeError`, or packs to the same bytes, and both ends can sieve by it."""
    if not data:
        return
    layout = LAYOUTS[data[0] % len(LAYOUTS)]
    try:
        history = SendHistory.from_bytes(data[1:], layout)
    except DecodeError:
        return
    assert history.to_bytes() == data[1:]
    Prior.shared(plan_of(20, layout).knowing(history.after(np.arange(layout.size), layout)), layout)


def fuzz_update(data: bytes) -> None:
    """An update object is refused with `FrameError`, or has plausible numbers and packs to the same bytes."""
    try:
        update = UpdateObject.unpack(data)
    except FrameError:
        return
    assert update.header.loss is None or math.isfinite(update.header.loss)
    assert 0 <= update.header.threshold < math.inf
    assert 0 <= update.header.correct <= update.header.tested
    assert update.pack() == data


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frame": fuzz_frame,
    "plan": fuzz_plan,
    "history": fuzz_history,
    "update": fuzz_update,
}


def corpus(target: str) -> dict[str, bytes]:
    """The inputs kept for a target, by file name."""
    return {file.name: file.read_bytes() for file in sorted((CORPUS / target).iterdir())}
