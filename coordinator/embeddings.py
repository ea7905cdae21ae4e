"""Which embeddings of a model read its inputs as they are, and so bound what tokens may be."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def embeddings_of(model: nn.Module, x: Tensor) -> Iterator[set[int]]:
    """The sizes of all embeddings that are given `x`, or a part of it, while the block runs the model; filled by then.

    One that reads anything else, such as positions, does not count.
    """
    sizes: set[int] = set()

    def note(module: nn.Module, inputs: tuple[object, ...]) -> None:
        first = inputs[0] if inputs else None
        if isinstance(first, Tensor) and isinstance(module, nn.Embedding | nn.EmbeddingBag) and _shares(first, x):
            sizes.add(module.num_embeddings)

    hooks = [module.register_forward_pre_hook(note) for module in model.modules()]
    try:
        yield sizes
    finally:
        for hook in hooks:
            hook.remove()


def _shares(part: Tensor, whole: Tensor) -> bool:
    return part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
