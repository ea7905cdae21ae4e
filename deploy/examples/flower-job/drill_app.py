"""A gradsieve job on Flower's engines: the server reads `job.toml`, each client trains as a board would."""

from pathlib import Path

from flwr.app import Context

from coordinator.flower_engine.job_server import job_server_app
from coordinator.tasks.drill import DRILL
from edge_client.data import DataSource, MemorySource, Recordings
from edge_client.flower_job import job_client_app
from shared.errors import SettingsError

server_app = job_server_app(Path(__file__).with_name("job.toml"))


def name(context: Context) -> str:
    """The task's clients have names of their own; there are but few of them, so that nodes beyond play the same."""
    if "partition-id" not in context.node_config:
        raise SettingsError("start the SuperNode with --node-config partition-id=0, the next with 1, and so on")
    clients = [client.name for client in DRILL.clients()]
    return clients[int(context.node_config["partition-id"]) % len(clients)]


def data(context: Context) -> DataSource:
    """The recordings of the task's own client; leave it out to read the folder `data` of the node's config."""
    client = next(client for client in DRILL.clients() if client.name == name(context))
    return MemorySource(Recordings(client.series, client.labels))


client_app = job_client_app(name, data)
