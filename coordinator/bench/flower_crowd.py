"""The same work on Flower's own Simulation Engine: Ray actors, one core each, stock FedAvg."""

import sys
from collections.abc import Iterable

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from coordinator.bench.bare_loop import train
from coordinator.bench.round_marks import RoundMarks
from coordinator.tasks.crowd import IMAGES, CrowdNet, crowd

app = ClientApp()
_examples: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}


@app.train()
def _train(message: Message, context: Context) -> Message:
    torch.set_num_threads(1)
    clients, own = int(context.node_config["num-partitions"]), int(context.node_config["partition-id"])
    if not _examples:  # an actor keeps what it has loaded, as a loop would
        examples = crowd(clients)
        x, y = torch.from_numpy(examples.x), torch.from_numpy(examples.y)
        for number in range(clients):
            part = slice(number * IMAGES, (number + 1) * IMAGES)
            _examples[number] = x[part], y[part]
    model = CrowdNet()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())  # type: ignore[union-attr]  # an ArrayRecord
    loss = train(model, *_examples[own])
    metrics = MetricRecord({"train_loss": loss, "num-examples": IMAGES})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


class Marked(FedAvg):
    """FedAvg that marks the beginning of the first round and the end of each."""

    def __init__(self, marks: RoundMarks, share: float) -> None:
        super().__init__(fraction_train=share, fraction_evaluate=0.0)
        self.marks, self.loss = marks, 0.0

    def configure_train(self, server_round: int, *arguments: object, **named: object) -> Iterable[Message]:
        """As in FedAvg."""
        if server_round == 1:
            self.marks.ready()
        return super().configure_train(server_round, *arguments, **named)  # type: ignore[arg-type]  # passed on as they came

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """As in FedAvg."""
        result = super().aggregate_train(server_round, replies)
        self.loss = float(str(result[1]["train_loss"])) if result[1] else 0.0
        self.marks.mark()
        return result


def main(clients: str, asked: str, rounds: str) -> None:
    """Rounds of `asked` clients out of `clients`."""
    marks, server = RoundMarks(), ServerApp()
    strategy = Marked(marks, int(asked) / int(clients))

    @server.main()
    def _serve(grid: Grid, context: Context) -> None:
        strategy.start(grid=grid, initial_arrays=ArrayRecord(CrowdNet().state_dict()), num_rounds=int(rounds))
        marks.report(int(asked), strategy.loss)

    run_simulation(
        server,
        app,
        num_supernodes=int(clients),
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
