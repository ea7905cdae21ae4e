"""The local optimisers on the flat vector, which start anew every round and allocate nothing a step.

Weight decay comes after clipping, as in torch: coupled (L2, added to the gradient) or decoupled (the weights shrink by
learning rate times decay, apart from the gradient: I. Loshchilov, F. Hutter, Decoupled Weight Decay Regularization,
ICLR 2019). No optimiser keeps state from round to round: momentum of an earlier model would push from the wrong place,
and it would double what a device stores.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from edge_client.gradient_terms import PIECE_VALUES, GradientTerms, pieces_of
from shared.layout import F32
from shared.messages import LocalWork


class Optimizer(Protocol):
    """Moves the trainable slices of a flat float32 `[size]` vector of weights."""

    def step(self, weights: F32, gradient: F32) -> None:
        """Move `weights` in place; `gradient` is used up. Both are float32 `[size]`."""


def optimizer_for(work: LocalWork, trainable: Sequence[slice], start: F32) -> Optimizer:
    """The optimiser that `work` names, for a round that begins with the weights `start`, float32 `[size]`."""
    return Adam(trainable, work, start) if work.optimizer == "adam" else Sgd(trainable, work, start)


class Sgd:
    """What torch's SGD does without dampening; momentum may be Nesterov's."""

    def __init__(self, trainable: Sequence[slice], work: LocalWork, start: F32) -> None:
        self._pieces = pieces_of(trainable)
        self._terms, self._decay = GradientTerms(trainable, work, start), _Decay(work)
        self._rate, self._momentum = np.float32(work.learning_rate), np.float32(work.momentum or 0.0)
        self._nesterov = work.nesterov
        self._scratch = np.empty(PIECE_VALUES, np.float32)
        self._velocity = np.zeros(start.size, np.float32) if work.momentum else None

    def step(self, weights: F32, gradient: F32) -> None:
        """Move `weights` in place."""
        self._terms.apply(weights, gradient, self._scratch)
        for piece in self._pieces:
            velocity = None if self._velocity is None else self._velocity[piece]
            self._step(weights[piece], gradient[piece], velocity, self._scratch[: piece.stop - piece.start])

    def _step(self, weights: F32, gradient: F32, velocity: F32 | None, scratch: F32) -> None:
        self._decay.apply(weights, gradient, scratch)
        direction = gradient
        if velocity is not None:
            velocity *= self._momentum
            velocity += gradient
            direction = velocity
        if velocity is not None and self._nesterov:
            np.multiply(velocity, self._momentum, out=scratch)
            gradient += scratch
            direction = gradient
        np.multiply(direction, self._rate, out=scratch)
        weights -= scratch


class Adam:
    """What torch's Adam does, and with decoupled decay its AdamW: D. P. Kingma, J. Ba, Adam, ICLR 2015."""

    def __init__(self, trainable: Sequence[slice], work: LocalWork, start: F32) -> None:
        self._pieces = pieces_of(trainable)
        self._terms, self._decay = GradientTerms(trainable, work, start), _Decay(work)
        self._rate, self._epsilon = work.learning_rate, np.float32(work.epsilon)
        self._beta1, self._beta2 = work.beta1, work.beta2
        self._mean, self._square = np.zeros(start.size, np.float32), np.zeros(start.size, np.float32)
        self._scratch = np.empty(PIECE_VALUES, np.float32)
        self._steps = 0

    def step(self, weights: F32, gradient: F32) -> None:
        """Move `weights` in place."""
        self._steps += 1
        self._terms.apply(weights, gradient, self._scratch)
        for piece in self._pieces:
            moved, slope, scratch = weights[piece], gradient[piece], self._scratch[: piece.stop - piece.start]
            mean, square = self._mean[piece], self._square[piece]
            self._decay.apply(moved, slope, scratch)
            self._average(slope, mean, square, scratch)
            self._move(moved, mean, square, scratch)

    def _average(self, gradient: F32, mean: F32, square: F32, scratch: F32) -> None:
        """Take a gradient into both running means."""
        mean *= np.float32(self._beta1)
        np.multiply(gradient, np.float32(1 - self._beta1), out=scratch)
        mean += scratch
        square *= np.float32(self._beta2)
        np.multiply(gradient, gradient, out=scratch)
        scratch *= np.float32(1 - self._beta2)
        square += scratch

    def _move(self, weights: F32, mean: F32, square: F32, scratch: F32) -> None:
        """Step along the mean over the root of the square, both corrected for having begun at zero."""
        np.sqrt(square, out=scratch)
        scratch *= np.float32(1 / math.sqrt(1 - self._beta2**self._steps))
        scratch += self._epsilon
        np.divide(mean, scratch, out=scratch)
        scratch *= np.float32(self._rate / (1 - self._beta1**self._steps))
        weights -= scratch


class _Decay:
    """Weight decay on one slice, in place: into the gradient, or apart from it."""

    def __init__(self, work: LocalWork) -> None:
        self._coupled = np.float32(0 if work.decoupled_decay else work.weight_decay)
        self._kept = np.float32(1 - work.learning_rate * work.weight_decay) if work.decoupled_decay else np.float32(1)

    def apply(self, weights: F32, gradient: F32, scratch: F32) -> None:
        if self._coupled:
            np.multiply(weights, self._coupled, out=scratch)
            gradient += scratch
        if self._kept != 1:
            weights *= self._kept
