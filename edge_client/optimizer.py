"""The local optimiser on the flat vector: momentum, weight decay and clipping, with nothing allocated a step."""

import math
from collections.abc import Sequence

import numpy as np

from shared.layout import F32
from shared.messages import LocalWork


class Sgd:
    """What torch's SGD does (no dampening, no Nesterov) with the trainable slices of a flat float32 `[size]` vector."""

    def __init__(self, size: int, trainable: Sequence[slice], work: LocalWork) -> None:
        self._trainable = tuple(trainable)
        self._rate, self._momentum = np.float32(work.learning_rate), np.float32(work.momentum)
        self._decay = np.float32(work.weight_decay)
        self._clip_norm = work.clip_norm
        self._velocity = np.zeros(size, np.float32)
        self._scratch = np.empty(size, np.float32)

    def step(self, weights: F32, gradient: F32) -> None:
        """Move `weights` in place; `gradient` is used up. Both are float32 `[size]`."""
        self._clip(gradient)
        for part in self._trainable:
            self._step(weights[part], gradient[part], self._velocity[part], self._scratch[part])

    def _clip(self, gradient: F32) -> None:
        """Scale the trainable gradient down to the greatest norm allowed, as torch's clip_grad_norm_ does."""
        if self._clip_norm is None:
            return
        norm = math.sqrt(sum(float(np.dot(gradient[part], gradient[part])) for part in self._trainable))
        if norm > self._clip_norm:
            for part in self._trainable:
                gradient[part] *= np.float32(self._clip_norm / norm)

    def _step(self, weights: F32, gradient: F32, velocity: F32, scratch: F32) -> None:
        if self._decay:
            np.multiply(weights, self._decay, out=scratch)
            gradient += scratch
        velocity *= self._momentum
        velocity += gradient
        np.multiply(velocity, self._rate, out=scratch)
        weights -= scratch
