"""The same steps with torch, in a process of its own: the other side of the runtime benchmark."""

import json
import resource
import sys
import time

import torch
from torch import nn

from coordinator.bench.families import FAMILIES, loss_of, plain_convolutions

PROGRAM = "import sys; from coordinator.bench.torch_steps import main; main(*sys.argv[1:])"
"""For `python -c`."""


class TorchSteps:
    """A model in eager mode with torch's SGD, trained on one batch of random examples again and again."""

    def __init__(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, learning_rate: float = 0.001) -> None:
        self._model, self._x, self._y = model.train(), x, y
        self._optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)

    def measure(self, steps: int) -> list[float]:
        """Processor time of each of `steps` steps, optimiser included, in milliseconds."""
        return [self._step() for _ in range(steps)]

    def _step(self) -> float:
        started = time.process_time_ns()
        self._optimizer.zero_grad()
        loss = loss_of(self._model(self._x), self._y)
        torch.autograd.backward(loss)
        self._optimizer.step()
        loss.item()
        return (time.process_time_ns() - started) / 1e6


def main(family_name: str, batch_size: str, convolutions: str) -> None:
    """Answer requests, lines with a number of steps, until standard input ends; `convolutions`: plain or last."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    family = FAMILIES[family_name]
    model = family.make() if convolutions == "last" else plain_convolutions(family.make())
    x, y = torch.randn(int(batch_size), *family.input_shape), torch.randint(0, family.classes, (int(batch_size),))
    steps = TorchSteps(model, x, y)
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        answer = {"step_ms": steps.measure(int(line)), "peak_rss_bytes": _peak_rss_bytes()}
        print(json.dumps(answer), flush=True)


def _peak_rss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
