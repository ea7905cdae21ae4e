"""How the tensors of a model lie in one flat float32 vector, and how that vector is cut into blocks."""

import hashlib
import itertools
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from shared.errors import MessageError

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

TensorRole = Literal["weight", "bias", "norm", "buffer", "frozen"]

SMALLEST_BLOCK = 64
LARGEST_BLOCK = 1024
MOST_TENSORS = 4096
MOST_VALUES = 1 << 31


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a model: its dotted name, shape, and the role that decides its blocks."""

    name: str
    shape: tuple[int, ...]
    role: TensorRole

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """The agreed order of tensors in the flat vector; both ends derive the same blocks from it.

    Raises `MessageError` when the tensors are too many, empty, or named twice.
    """

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        names = [tensor.name for tensor in self.tensors]
        if not 0 < len(names) <= MOST_TENSORS or len(set(names)) != len(names):
            raise MessageError(f"a layout needs 1 to {MOST_TENSORS} tensors of distinct names, not {len(names)}")
        if any(size <= 0 for tensor in self.tensors for size in tensor.shape) or self.size > MOST_VALUES:
            raise MessageError(f"layout of {self.size} values: every dimension must be positive, at most {MOST_VALUES}")

    @cached_property
    def size(self) -> int:
        """Number of values in the flat vector."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each tensor begins, and the end of the last: one more entry than there are tensors."""
        return (0, *itertools.accumulate(tensor.size for tensor in self.tensors))

    @cached_property
    def block_starts(self) -> I64:
        """First index of each block, and the total size as the last entry: int64 `[blocks + 1]`."""
        starts = [
            start
            for tensor, offset in zip(self.tensors, self.offsets, strict=False)
            for start in range(offset, offset + tensor.size, _block_size(tensor))
        ]
        return np.array([*starts, self.size], np.int64)

    @cached_property
    def block_sizes(self) -> I64:
        """Number of values of each block: int64 `[blocks]`."""
        return np.diff(self.block_starts)

    @cached_property
    def block_tensor(self) -> I64:
        """The index of the tensor that each block belongs to: int64 `[blocks]`."""
        return np.searchsorted(np.array(self.offsets), self.block_starts[:-1], side="right").astype(np.int64) - 1

    @cached_property
    def tensor_blocks(self) -> I64:
        """The first block of each tensor: int64 `[tensors]`."""
        return self.block_starts.searchsorted(np.array(self.offsets[:-1]))

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return len(self.block_starts) - 1

    @cached_property
    def column_starts(self) -> I64:
        """The number of each tensor's first column, and that of all columns as the last entry: int64 `[tensors + 1]`.

        A weight is a matrix of as many rows as its first dimension has; any other tensor is one column.
        """
        return np.array([0, *itertools.accumulate(_width(tensor) for tensor in self.tensors)], np.int64)

    @cached_property
    def column_tensor(self) -> I64:
        """The index of the tensor that each column belongs to: int64 `[columns]`."""
        return np.repeat(np.arange(len(self.tensors)), np.diff(self.column_starts))

    @property
    def num_columns(self) -> int:
        """Number of columns."""
        return int(self.column_starts[-1])

    def columns_of(self, indices: I64) -> I64:
        """The columns of the values at flat `indices` int64 `[k]`: int64 `[k]`."""
        starts, widths = self._starts_and_widths
        tensor = starts.searchsorted(indices, side="right") - 1
        return np.asarray(self.column_starts[tensor] + (indices - starts[tensor]) % widths[tensor])

    @cached_property
    def _starts_and_widths(self) -> tuple[I64, I64]:
        """Where each tensor begins, and how many columns it has: int64 `[tensors]` both."""
        return np.array(self.offsets[:-1]), np.diff(self.column_starts)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form, 32 bytes: equal digests mean equal layouts."""
        return hashlib.sha256(json.dumps(self.to_json(), separators=(",", ":")).encode()).digest()

    @cached_property
    def moving(self) -> tuple[slice, ...]:
        """Where in the flat vector the tensors lie that are not frozen, neighbours joined."""
        joined: list[slice] = []
        for tensor, start in zip(self.tensors, self.offsets, strict=False):
            if tensor.role != "frozen":
                first = joined.pop().start if joined and joined[-1].stop == start else start
                joined.append(slice(first, start + tensor.size))
        return tuple(joined)

    @property
    def has_frozen(self) -> bool:
        """Whether any tensor is frozen."""
        return self.moving != (slice(0, self.size),)

    def without_frozen(self, vectors: F32) -> F32:
        """Of flat vectors behind each other, `[k * size]`, the values that are not frozen; the same where none is."""
        if not self.has_frozen:
            return vectors
        rows = vectors.reshape(-1, self.size)
        return np.concatenate([rows[:, :0], *(rows[:, part] for part in self.moving)], axis=1).reshape(-1)

    def with_frozen(self, moving: F32) -> F32:
        """What `without_frozen` took apart, with zeros for frozen values; raises `ValueError` for another size."""
        if not self.has_frozen:
            return moving
        count = sum(part.stop - part.start for part in self.moving)
        rows = moving.reshape(-1, count)
        whole, start = np.zeros((len(rows), self.size), np.float32), 0
        for part in self.moving:
            stop = start + part.stop - part.start
            whole[:, part], start = rows[:, start:stop], stop
        return whole.reshape(-1)

    def are_frozen(self, indices: I64) -> npt.NDArray[np.bool_]:
        """Which of the values at flat `indices` int64 `[k]` are frozen, `[k]`."""
        frozen = np.array([tensor.role == "frozen" for tensor in self.tensors])
        return np.asarray(frozen[np.searchsorted(np.array(self.offsets), indices, side="right") - 1])

    def split(self, vector: F32) -> dict[str, F32]:
        """Views of the flat `[size]` vector by tensor name, each in its own shape."""
        return {name: vector[part].reshape(shape) for name, part, shape in self._parts}

    @cached_property
    def _parts(self) -> tuple[tuple[str, slice, tuple[int, ...]], ...]:
        """Name, place and shape of each tensor."""
        ends = itertools.pairwise(self.offsets)
        return tuple((t.name, slice(*both), t.shape) for t, both in zip(self.tensors, ends, strict=True))

    def join(self, arrays: dict[str, F32]) -> F32:
        """The flat float32 `[size]` vector of named arrays; raises `MessageError` where one does not fit."""
        for tensor in self.tensors:
            if tensor.name not in arrays or arrays[tensor.name].shape != tensor.shape:
                found = arrays[tensor.name].shape if tensor.name in arrays else "nothing"
                raise MessageError(f"tensor {tensor.name}: expected shape {tensor.shape}, got {found}")
        return np.concatenate([np.asarray(arrays[t.name], np.float32).reshape(-1) for t in self.tensors])

    def to_json(self) -> list[list[object]]:
        """The canonical form: one `[name, shape, role]` a tensor."""
        return [[tensor.name, list(tensor.shape), tensor.role] for tensor in self.tensors]

    @classmethod
    def of(cls, tensors: list[tuple[str, tuple[int, ...], TensorRole]]) -> Self:
        """A layout from `(name, shape, role)` rows."""
        return cls(tuple(TensorSpec(name, shape, role) for name, shape, role in tensors))


def _width(tensor: TensorSpec) -> int:
    """Columns of a tensor."""
    return tensor.size // tensor.shape[0] if tensor.role == "weight" and len(tensor.shape) > 1 else 1


def _block_size(tensor: TensorSpec) -> int:
    """Values a block: one output row, merged or split towards 64 to 1024; a bias, norm or buffer is one block.

    A frozen tensor is one block whatever its size, since none of it is ever sent.
    """
    if tensor.role == "frozen":
        return tensor.size
    if tensor.role != "weight" or len(tensor.shape) < 2:
        return min(tensor.size, LARGEST_BLOCK)
    row = tensor.size // tensor.shape[0]
    if row < SMALLEST_BLOCK:
        return min(tensor.size, row * -(-SMALLEST_BLOCK // row))
    return -(-row // -(-row // LARGEST_BLOCK))
