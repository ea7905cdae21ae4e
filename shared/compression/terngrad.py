"""TernGrad: every value becomes plus or minus its tensor's largest magnitude or zero, at random and without bias.

W. Wen, C. Xu, F. Yan, C. Wu, Y. Wang, Y. Chen, H. Li, TernGrad: Ternary Gradients to Reduce Communication in
Distributed Deep Learning, NeurIPS 2017. Values are first clipped to 2.5 standard deviations, these about zero.
"""

import math
from itertools import pairwise

import numpy as np

from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.draws import seed_of, uniform_draws
from shared.compression.histogram import magnitude_bits, magnitudes, signs
from shared.compression.magnitudes import BASE_SHIFT, LARGEST_BASE
from shared.compression.plan import Plan
from shared.compression.rice import F64
from shared.compression.ternary_frame import TernaryDraft, read_ternary
from shared.layout import F32, Layout

TERNGRAD_WIRE_ID = 10
CLIP_DEVIATIONS = 2.5


class TernGradCodec:
    """Sends |g| with probability |g| / s, s the largest magnitude of its tensor; no budget changes that."""

    name = "terngrad"
    wire_id = TERNGRAD_WIRE_ID

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """The whole update at random, seeded by itself. Raises `ValueError` on NaN, infinity or another size."""
        values = magnitudes(magnitude_bits(update, layout))
        draws = uniform_draws(seed_of(update), layout.size)
        patterns, sent = [], []
        for start, end in pairwise(layout.offsets):
            clipped = clip_deviations(values[start:end])
            patterns.append(scale_bits(float(clipped.max())))
            scale = float(np.uint32(patterns[-1]).view(np.float32))
            sent.append(np.flatnonzero(ternary_draw(clipped, scale, draws[start:end])) + start)
        indices = np.concatenate(sent)
        draft = TernaryDraft.of(indices, np.array(patterns, np.uint32), signs(update, indices), layout)
        return draft.finish(TERNGRAD_WIRE_ID, layout)

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """What `encode` delivered; raises `DecodeError` on anything else. The plan is not used."""
        return read_ternary(frame, TERNGRAD_WIRE_ID, layout)


def clip_deviations(values: F64) -> F64:
    """Magnitudes float64 `[n]` cut down to 2.5 standard deviations of a distribution about zero."""
    deviation = math.sqrt(math.fsum((values * values).tolist()) / len(values))
    return np.minimum(values, CLIP_DEVIATIONS * deviation)


def ternary_draw(values: F64, scale: float, draws: F64) -> np.typing.NDArray[np.bool_]:
    """Which magnitudes are sent as `scale`: each with probability magnitude / scale, by uniform `draws` `[n]`."""
    return draws * scale < values


def scale_bits(largest: float) -> int:
    """The pattern of the next magnitude of 15 bits: rounded up, so that no probability exceeds 1."""
    nearest = np.float32(largest)
    pattern = int(nearest.view(np.uint32)) + (float(nearest) < largest)
    return min(max(-(-pattern >> BASE_SHIFT), 1), LARGEST_BASE) << BASE_SHIFT
