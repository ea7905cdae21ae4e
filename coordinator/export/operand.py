"""What a rule reads: a named value of the ONNX graph with the shape and dtype it has in torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from onnx import TensorProto

from shared.errors import ExportError

ONNX_TYPES: dict[torch.dtype, int] = {
    torch.float32: TensorProto.FLOAT,
    torch.int64: TensorProto.INT64,
    torch.int32: TensorProto.INT32,
    torch.bool: TensorProto.BOOL,
}
NUMPY_TYPES: dict[torch.dtype, npt.DTypeLike] = {
    torch.float32: np.float32,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.bool: np.bool_,
}


@dataclass(frozen=True, slots=True)
class ValueType:
    """Shape and dtype of a value; a dimension that depends on the batch size is None."""

    shape: tuple[int | None, ...]
    dtype: torch.dtype

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)


@dataclass(frozen=True, slots=True)
class Operand:
    """A value of the graph under construction."""

    name: str
    type: ValueType

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Dimensions; None where they depend on the batch size."""
        return self.type.shape

    @property
    def dtype(self) -> torch.dtype:
        """Element type."""
        return self.type.dtype

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return self.type.rank

    def axis(self, dim: int) -> int:
        """`dim` counted from the front."""
        return dim % self.rank if self.rank else 0

    def axes(self, dims: int | Sequence[int] | None) -> list[int]:
        """`dims` counted from the front; None or an empty list means all of them, as in torch."""
        if isinstance(dims, int):
            return [self.axis(dims)]
        return [self.axis(dim) for dim in dims] if dims else list(range(self.rank))

    def fixed(self, *dims: int) -> list[int]:
        """The sizes of these dimensions (all when none is given), which must not depend on the batch size."""
        sizes = [self.shape[dim] for dim in dims or range(self.rank)]
        known = [size for size in sizes if size is not None]
        if len(known) != len(sizes):
            raise ExportError("only the first dimension may depend on the batch size")
        return known

    def fixed_size(self, *dims: int) -> int:
        """Number of values in these dimensions."""
        return prod(self.fixed(*dims))


def require(supported: bool, what: str) -> None:
    """Raise `ExportError` naming what is not supported, unless it is."""
    if not supported:
        raise ExportError(f"{what} is not supported")
