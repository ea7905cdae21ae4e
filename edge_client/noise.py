"""The Gaussian mechanism on a whole update: its norm is bounded, then every value gets noise.

What is sent afterwards follows from noised updates alone, and so costs no more privacy: the sieve chooses by noised
values, and the residual holds noised values only. A residual from before is dropped, see `local_round.carried_over`.

C. Dwork, A. Roth, The Algorithmic Foundations of Differential Privacy, 2014, appendix A. The samples are floating-point
numbers, for which the guarantee is not exact: I. Mironov, On Significance of the Least Significant Bits for
Differential Privacy, CCS 2012.
"""

import math
from collections.abc import Sequence

import numpy as np

from edge_client.orders import PrivacyTerms
from shared.layout import F32

PIECE_VALUES = 1 << 15
ROUNDING_MARGIN = 2.0**-20
"""Scaled values are rounded to float32; so much below the bound they stay within it."""


def privatize(
    update: F32, terms: PrivacyTerms, draw: np.random.Generator, moving: Sequence[slice] = (slice(None),)
) -> None:
    """Clip `update`, float32 `[n]`, to `terms.clip_norm` and add noise of `terms.sigma`, in place, piece by piece.

    Outside of `moving` values are nothing whatever the data, and get no noise.
    """
    clip(update, terms.clip_norm)
    for part in moving:
        values = update[part]
        for start in range(0, values.size, PIECE_VALUES):
            piece = values[start : start + PIECE_VALUES]
            piece += (terms.sigma * draw.standard_normal(piece.size)).astype(np.float32)


def clip(update: F32, clip_norm: float) -> None:
    """Scale `update`, float32 `[n]`, in place so that its Euclidean norm is at most `clip_norm`."""
    norm = math.sqrt(sum(_squares(update)))
    if norm > clip_norm:
        update *= np.float32(clip_norm / norm * (1 - ROUNDING_MARGIN))


def _squares(update: F32) -> list[float]:
    """Sums of squares in float64, a piece each."""
    pieces = (update[start : start + PIECE_VALUES] for start in range(0, update.size, PIECE_VALUES))
    return [float(np.dot(wide, wide)) for wide in (piece.astype(np.float64) for piece in pieces)]
