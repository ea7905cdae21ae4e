"""The geometry of a convolution."""

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.export.operand import Operand


@dataclass(frozen=True, slots=True)
class Window:
    """Kernel, stride, padding and dilation in each spatial dimension, and the number of channel groups."""

    kernel: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    @classmethod
    def of(
        cls, weight: Operand, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
    ) -> "Window":
        """The window of a weight `[out, in / groups, *kernel]`; one value given stands for every dimension."""
        kernel = weight.fixed()[2:]

        def spread(values: Sequence[int]) -> list[int]:
            return list(values) * (len(kernel) if len(values) == 1 else 1)

        return cls(kernel, spread(stride), spread(padding), spread(dilation), groups)

    @property
    def rank(self) -> int:
        """Number of spatial dimensions."""
        return len(self.kernel)

    @property
    def is_point(self) -> bool:
        """Whether each pixel is made from the channels of one pixel of an image, in the same place."""
        return self.groups == 1 and self.rank == 2 and {*self.kernel, *self.stride} == {1} and not any(self.padding)

    def attributes(self) -> dict[str, int | list[int]]:
        """The same as ONNX attributes."""
        return {
            "kernel_shape": self.kernel,
            "strides": self.stride,
            "pads": self.padding * 2,
            "dilations": self.dilation,
            "group": self.groups,
        }
