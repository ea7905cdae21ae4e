"""Steps of many clients at once by torch's vmap, in a process of its own: the other side of the vmap benchmark."""

import json
import resource
import sys
import time

import torch
from torch.func import functional_call, grad, stack_module_state, vmap

from coordinator.bench.families import FAMILIES, Family, loss_of, plain_convolutions
from coordinator.tasks.crowd import CrowdNet

PROGRAM = "import sys; from coordinator.bench.vmap_steps import main; main(*sys.argv[1:])"
"""For `python -c`."""

KINDS = FAMILIES | {"crowd": Family(CrowdNet, (1, 28, 28), 10, is_small=True)}
"""The runtime benchmark's families, and the network of the emulation benchmark."""

RATE, MOMENTUM = 0.001, 0.9


class VmapSteps:
    """Models of one family, one a client, stacked and trained together with SGD, each on a batch of its own."""

    def __init__(self, family: Family, clients: int, batch_size: int) -> None:
        models = [plain_convolutions(family.make()).train() for _ in range(clients)]
        parameters, buffers = stack_module_state(models)
        self._parameters = {name: tensor.detach() for name, tensor in parameters.items()}
        self._velocity = {name: torch.zeros_like(tensor) for name, tensor in self._parameters.items()}
        self._x = torch.randn(clients, batch_size, *family.input_shape)
        self._y = torch.randint(0, family.classes, (clients, batch_size))
        self._clients, own, model = clients, {name: tensor[0] for name, tensor in buffers.items()}, models[0]

        def loss(parameters: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = functional_call(model, parameters | own, (x,))
            return loss_of(logits, y)

        self._gradients = vmap(grad(loss), randomness="different")

    def measure(self, steps: int) -> list[float]:
        """Processor time of each of `steps` steps, in milliseconds a client."""
        return [self._step() / self._clients for _ in range(steps)]

    def _step(self) -> float:
        started = time.process_time_ns()
        with torch.no_grad():
            for name, gradient in self._gradients(self._parameters, self._x, self._y).items():
                self._velocity[name].mul_(MOMENTUM).add_(gradient)
                self._parameters[name] -= RATE * self._velocity[name]
        return (time.process_time_ns() - started) / 1e6


def main(family_name: str, batch_size: str, clients: str) -> None:
    """Answer requests, lines with a number of steps, until standard input ends."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    steps = VmapSteps(KINDS[family_name], int(clients), int(batch_size))
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        step_ms = steps.measure(int(line))
        peak_rss_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"step_ms": step_ms, "peak_rss_bytes": peak_rss_bytes}), flush=True)
