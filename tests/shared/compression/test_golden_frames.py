"""Frames that every version and every CPU must make and read alike; run this file to write them anew."""

from pathlib import Path

import numpy as np
import pytest

from shared.compression.history import SendHistory
from shared.compression.plan import Plan
from shared.compression.registry import codec_by_name, decode_frame
from shared.layout import F32, Layout

GOLDEN = Path(__file__).parents[2] / "golden"
LAYOUT = Layout.of(
    [("conv.weight", (16, 6, 5), "weight"), ("conv.bias", (16,), "bias"), ("out.weight", (7, 80), "weight")]
)
CLASSES = np.arange(LAYOUT.num_blocks, dtype=np.uint8) % 9
STEPS = (np.arange(LAYOUT.num_columns) % 7 - 3).astype(np.int8)
COLUMNS = Plan(60, CLASSES, STEPS, 12)
HISTORY = SendHistory.empty(LAYOUT).after(np.arange(3, LAYOUT.size, 29), LAYOUT).after(np.arange(0, 600, 13), LAYOUT)
CASES = {
    "compression_partition_columns.bin": ("partition", COLUMNS),
    "compression_partition_client.bin": ("partition", COLUMNS.knowing(HISTORY)),
    "compression_partition_public.bin": ("partition", Plan(60, CLASSES)),
    "compression_partition_none.bin": ("partition", Plan(60)),
    "compression_stc.bin": ("stc", Plan(60)),
    "compression_dense.bin": ("dense", Plan(60)),
    "compression_fp16.bin": ("fp16", Plan(60)),
    "compression_topk.bin": ("topk", Plan(60)),
    "compression_dgc.bin": ("dgc", Plan(60)),
    "compression_sidco.bin": ("sidco", Plan(60)),
    "compression_adacomp.bin": ("adacomp", Plan(60)),
    "compression_qsgd.bin": ("qsgd", Plan(60)),
    "compression_terngrad.bin": ("terngrad", Plan(60)),
    "compression_eden.bin": ("eden", Plan(60)),
}
PLANS = {
    "compression_plan.bin": CASES["compression_partition_public.bin"][1],
    "compression_plan_columns.bin": COLUMNS,
}


def golden_update() -> F32:
    """Heavy-tailed values made of integers alone; block b is scaled by 2 ** (b mod 9)."""
    mixed = np.arange(LAYOUT.size, dtype=np.int64) * 2_654_435_761 % (1 << 32) >> 8
    centred = mixed % 4_093 - 2_046
    scale = np.repeat(1 << np.arange(LAYOUT.num_blocks) % 9, np.diff(LAYOUT.block_starts))
    return (centred**3 * scale).astype(np.float32) / np.float32(1 << 40)


@pytest.mark.parametrize("file", CASES)
def test_encoding_makes_the_golden_frame(file: str) -> None:
    name, plan = CASES[file]
    assert codec_by_name(name).encode(golden_update(), LAYOUT, plan).frame == (GOLDEN / file).read_bytes()


@pytest.mark.parametrize("file", CASES)
def test_the_golden_frame_decodes_to_what_encoding_delivers(file: str) -> None:
    name, plan = CASES[file]
    decoded = decode_frame((GOLDEN / file).read_bytes(), LAYOUT, plan)
    delivered = codec_by_name(name).encode(golden_update(), LAYOUT, plan).delivered
    np.testing.assert_array_equal(decoded.indices, delivered.indices)
    np.testing.assert_array_equal(decoded.values.view(np.uint32), delivered.values.view(np.uint32))


@pytest.mark.parametrize("file", PLANS)
def test_the_golden_plan_is_made_and_read(file: str) -> None:
    plan, data = PLANS[file], (GOLDEN / file).read_bytes()
    assert plan.to_bytes() == data
    assert Plan.from_bytes(data, LAYOUT) == plan


if __name__ == "__main__":
    for written, (codec, used) in CASES.items():
        (GOLDEN / written).write_bytes(codec_by_name(codec).encode(golden_update(), LAYOUT, used).frame)
    for written, plan in PLANS.items():
        (GOLDEN / written).write_bytes(plan.to_bytes())
