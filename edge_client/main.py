"""`gradsieve-edge`: read the settings, build the parts, serve until stopped."""

import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence

from edge_client.agent import Agent
from edge_client.cli import parse_command_line
from edge_client.outbox import Outbox
from edge_client.policy import load_policy
from edge_client.quiet_hours import minute_of_day
from edge_client.sensor_link import sensor_fed
from edge_client.sensors import Sensors
from edge_client.settings import EdgeSettings
from edge_client.supervisor import supervisor
from edge_client.trainer import Trainer
from edge_client.trainer_process import ProcessTrainer
from shared.errors import GradsieveError
from shared.folder_lock import folder_lock
from shared.paho_transport import PahoTransport

IO_ERROR = 74
"""Exit code for a file or folder that cannot be used; as in sysexits.h."""
LONGEST_ORDER_SECONDS = 7 * 24 * 3600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] == "head":
        from edge_client.head.main import main as head  # noqa: PLC0415 - a board never is one

        return head(given[1:])
    invocation = parse_command_line(given)
    try:
        if invocation.is_examination:
            from edge_client.doctor.examination import examine  # noqa: PLC0415 - a resident agent never examines

            return examine(invocation, os.environ, sys.stdout)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        serve(invocation.settings(os.environ), invocation.connect_seconds)
    except GradsieveError as error:
        print(f"gradsieve-edge: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"gradsieve-edge: {error}: check the path, its rights and the space left", file=sys.stderr)
        return IO_ERROR
    return 0


def serve(settings: EdgeSettings, connect_seconds: float | None) -> None:
    """Be on the air until SIGTERM or SIGINT."""
    with folder_lock(settings.state_dir):
        outbox = Outbox(settings.state_dir)
        transport = PahoTransport(settings.broker, settings.name, random.Random())  # noqa: S311 - spreads reconnects
        watch = supervisor(os.environ, os.getpid(), LONGEST_ORDER_SECONDS if settings.trainer == "inline" else 0.0)
        trainer, policy = build_trainer(settings, transport), load_policy(settings.policy)
        metered = settings.gate.metered_interfaces
        sensors = Sensors(settings.state_dir, metered, lambda: policy.is_quiet(minute_of_day()))
        agent = Agent(
            settings,
            outbox,
            transport,
            trainer,
            policy=policy,
            read_board=sensors.read,
            tcp_bytes=transport.tcp_bytes,
            supervisor=watch,
        )
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())  # the agent looks at it at least once a second
        with sensor_fed(settings):
            agent.run(stop, connect_seconds)


def build_trainer(settings: EdgeSettings, transport: PahoTransport) -> Trainer:
    """The trainer of the settings, in a child process or in this one."""
    if settings.trainer == "process":
        idle = settings.trainer_idle_seconds
        return ProcessTrainer(
            settings.state_dir, settings.data, transport.wake, idle_seconds=idle, data_source=settings.data_source
        )
    from edge_client.data_sources import source_for  # noqa: PLC0415 - a resident agent never loads numpy
    from edge_client.inline_trainer import InlineTrainer  # noqa: PLC0415 - nor onnxruntime

    source = source_for(settings.data, settings.data_source)
    return InlineTrainer(settings.state_dir, source, time.monotonic)


if __name__ == "__main__":
    sys.exit(main())
