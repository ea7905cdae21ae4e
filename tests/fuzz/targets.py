"""What is fuzzed: a function of bytes for each decoder, which fails where the decoder breaks its promise."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from shared.compression.codec import SparseUpdate
from shared.compression.frame import PARTITION_WIRE_ID
from shared.compression.frame_stats import describe
from shared.compression.plan import DENSEST_CLASS, MOST_BUDGET_BYTES, Classes, Plan
from shared.compression.prior import DIGEST_BYTES, PriorKind
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
PUBLIC_BITS = PriorKind.PUBLIC << 6


def read_case(data: bytes) -> tuple[Layout, Plan, bytes]:
    """A layout and a plan chosen by the first two bytes, and the frame that follows them.

    A frame that claims the plan's classes names this very plan: no mutation would meet its digest.
    """
    layout = LAYOUTS[data[0] % len(LAYOUTS)]
    frame = data[HEAD_BYTES:]
    plan = Plan(budget_of(data[1], frame), classes_of(data[1], layout))
    if frame[:1] == bytes([PARTITION_WIRE_ID]) and len(frame) > 1 + DIGEST_BYTES and frame[1] & 0xC0 == PUBLIC_BITS:
        named = (
            int.from_bytes(plan.digest[:DIGEST_BYTES], "big") << 6 | PUBLIC_BITS << 16 | frame[1 + DIGEST_BYTES] & 63
        )
        frame = frame[:1] + named.to_bytes(1 + DIGEST_BYTES, "big") + frame[2 + DIGEST_BYTES :]
    return layout, plan, frame


def budget_of(choice: int, frame: bytes) -> int:
    """The frame's own length, as EDEN needs it, or a budget."""
    return (max(len(frame), 1), 60, 300, MOST_BUDGET_BYTES)[choice % 4]


def classes_of(choice: int, layout: Layout) -> Classes | None:
    """No classes, every class in turn, nothing but dead blocks, or two classes."""
    blocks = np.arange(layout.num_blocks, dtype=np.uint8)
    made = (None, blocks % (DENSEST_CLASS + 1), blocks * 0, DENSEST_CLASS - 3 * (blocks % 2))
    return made[choice // 4 % 4]


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


def fuzz_update(data: bytes) -> None:
    """An update object is refused with `FrameError`, or has plausible numbers and packs to the same bytes."""
    try:
        update = UpdateObject.unpack(data)
    except FrameError:
        return
    assert math.isfinite(update.header.loss)
    assert 0 <= update.header.threshold < math.inf
    assert 0 <= update.header.correct <= update.header.tested
    assert update.pack() == data


TARGETS: dict[str, Callable[[bytes], None]] = {"frame": fuzz_frame, "plan": fuzz_plan, "update": fuzz_update}


def corpus(target: str) -> dict[str, bytes]:
    """The inputs kept for a target, by file name."""
    return {file.name: file.read_bytes() for file in sorted((CORPUS / target).iterdir())}
