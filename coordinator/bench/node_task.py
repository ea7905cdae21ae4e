"""What every node of the device benchmark does: a LeNet on the same made-up images, in the same batches."""

from dataclasses import dataclass

from coordinator.tasks.drill import clients
from coordinator.tasks.task import ClientData


@dataclass(frozen=True)
class NodeTask:
    """`rounds` rounds of `steps` steps, then as many of one step; a node may take `seconds` for either."""

    rounds: int
    steps: int = 20
    batch_size: int = 32
    learning_rate: float = 0.001
    warm_up: int = 2
    seconds: float = 300.0

    def client(self) -> ClientData:
        """The node's own images."""
        return clients(1)[0]
