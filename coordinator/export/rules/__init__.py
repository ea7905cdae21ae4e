"""One module of rules per family of operators; importing the package registers them all."""

from coordinator.export.rules import (
    activation,
    batch_norm,
    convolution,
    creation,
    elementwise,
    lookup,
    loss,
    matmul,
    norm,
    pool,
    rectifier,
    recurrent,
    reduction,
    view,
)
from coordinator.export.rules.registry import RULES

FAMILIES = (
    activation,
    batch_norm,
    convolution,
    creation,
    elementwise,
    lookup,
    loss,
    matmul,
    norm,
    pool,
    rectifier,
    recurrent,
    reduction,
    view,
)

__all__ = ["FAMILIES", "RULES"]
