"""What is done to a gradient before the optimiser sees it: the proximal term, then clipping."""

import math
from collections.abc import Sequence

import numpy as np

from shared.layout import F32
from shared.messages import LocalWork

PIECE_VALUES = 1 << 15
"""All passes over so many values are made before the next ones: weights, gradient and state stay in a small cache."""


def pieces_of(parts: Sequence[slice]) -> list[slice]:
    """Slices of at most `PIECE_VALUES` values that make up `parts`, in order."""
    return [
        slice(start, min(start + PIECE_VALUES, part.stop))
        for part in parts
        for start in range(part.start, part.stop, PIECE_VALUES)
    ]


class GradientTerms:
    """Adds FedProx's term and bounds the norm, on the trainable slices of flat float32 `[size]` vectors, in place.

    The proximal term is mu (w - w0), the gradient of mu/2 |w - w0|^2, with w0 the weights as the round began: T. Li et
    al., Federated Optimization in Heterogeneous Networks, MLSys 2020. It is part of the gradient that is clipped.
    `start` is copied where there is such a term.
    """

    def __init__(self, trainable: Sequence[slice], work: LocalWork, start: F32) -> None:
        self._trainable, self._pieces = tuple(trainable), pieces_of(trainable)
        self._clip_norm = work.clip_norm
        self._mu = np.float32(work.proximal_mu)
        self._start = start.copy() if work.proximal_mu else None

    def apply(self, weights: F32, gradient: F32, scratch: F32) -> None:
        """Change `gradient` by the `weights`, both float32 `[size]`; `scratch`, `[PIECE_VALUES]`, is overwritten."""
        if self._start is not None:
            for piece in self._pieces:
                pull = scratch[: piece.stop - piece.start]
                np.subtract(weights[piece], self._start[piece], out=pull)
                pull *= self._mu
                gradient[piece] += pull
        self._clip(gradient)

    def _clip(self, gradient: F32) -> None:
        """Scale the trainable gradient down to the greatest norm allowed, as torch's clip_grad_norm_ does."""
        if self._clip_norm is None:
            return
        norm = math.sqrt(sum(float(np.dot(gradient[part], gradient[part])) for part in self._trainable))
        if norm > self._clip_norm:
            for part in self._trainable:
                gradient[part] *= np.float32(self._clip_norm / norm)
