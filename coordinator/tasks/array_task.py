"""A learning task whose examples are arrays: any client may be given any of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from coordinator.tasks.examples import Examples
from shared.layout import I64

TEST_BATCH = 500


@dataclass(frozen=True, slots=True)
class ArrayTask:
    """A module factory, training and test examples, and the step size that suits them.

    `load` returns (training, test), and raises `DataError` naming where to get a set that is not at hand. The model
    takes `x` float32 `[n, ...]` and returns logits `[n, classes]`; `learning_rate` is that of plain SGD on `batch_size`
    examples. `mean_over_owners` weighs every owner of test examples alike instead of every example.
    """

    name: str
    model: Callable[[], torch.nn.Module]
    load: Callable[[], tuple[Examples, Examples]]
    learning_rate: float
    batch_size: int = 32
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = functional.cross_entropy
    mean_over_owners: bool = False

    def accuracy(self, model: torch.nn.Module, test: Examples) -> float:
        """The share of right answers, from 0 to 1; puts the model into evaluation mode for the while."""
        right = answers(model, test) == test.y
        if not self.mean_over_owners or test.owner is None:
            return float(right.mean())
        examples = np.bincount(test.owner)
        return float((np.bincount(test.owner, right)[examples > 0] / examples[examples > 0]).mean())


def answers(model: torch.nn.Module, examples: Examples) -> I64:
    """The class that the model finds likeliest for each example, int64 `[n]`."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        starts = range(0, len(examples), TEST_BATCH)
        batches = (torch.from_numpy(examples.x[start : start + TEST_BATCH]) for start in starts)
        found = torch.cat([model(batch).argmax(1) for batch in batches])
    model.train(was_training)
    return np.asarray(found.numpy(), np.int64)
