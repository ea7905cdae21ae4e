"""`gradsieve-edge head`: serve a site's boards, and be one device upstream."""

import argparse
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from uuid import uuid4

from coordinator.journal import Journal
from coordinator.link import Link
from coordinator.publisher import Publisher
from edge_client.agent import Agent
from edge_client.head.site_rounds import HeadSettings, SiteRounds
from edge_client.head.site_trainer import SiteTrainer
from edge_client.outbox import Outbox
from edge_client.settings import ENV_PREFIX, EdgeSettings
from shared.errors import GradsieveError
from shared.folder_lock import folder_lock
from shared.paho_transport import PahoTransport
from shared.receiver import Receiver
from shared.settings import BrokerSettings, load_settings, split_address
from shared.signing import SigningKey
from shared.spool import FileSpool
from shared.topics import Topics

SPOOL_BYTES = 64 << 20
LARGEST_UPDATE_BYTES = 64 << 20
KEY_FILE = "site.key"


class SiteOutbox(Outbox):
    """A device's outbox; what upstream ends is ended at the site too."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.rounds: SiteRounds | None = None

    def forget(self, run: str) -> None:
        """Drop every file of a run that ended, and tell the boards."""
        super().forget(run)
        if self.rounds is not None:
            self.rounds.end(run)


def main(arguments: Sequence[str]) -> int:
    """Run `gradsieve-edge head` with these arguments; returns the exit code."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        serve(_device(options), _broker(options.site_broker), HeadSettings(options.boards, options.grace_seconds))
    except GradsieveError as error:
        print(f"gradsieve-edge: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def serve(device: EdgeSettings, site_broker: BrokerSettings, settings: HeadSettings) -> None:
    """Be a head until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with folder_lock(device.state_dir), closing(Journal.open(device.state_dir / "site.sqlite")) as journal:
        key = _site_key(device.state_dir / KEY_FILE)
        print(f"boards of this site trust {key.verify_key.hex}", flush=True)
        link = _link(device, site_broker, key)
        rounds = SiteRounds(link, journal, device.state_dir, settings)
        transport = PahoTransport(device.broker, device.name, random.Random())  # noqa: S311 - spreads reconnects
        outbox = SiteOutbox(device.state_dir)
        outbox.rounds = rounds
        link.start(rounds.boards)
        try:
            trainer = SiteTrainer(device.state_dir, rounds, transport.wake)
            Agent(device, outbox, transport, trainer).run(stop)
        finally:
            link.close()


def _link(device: EdgeSettings, broker: BrokerSettings, key: SigningKey) -> Link:
    epoch, jitter = uuid4().hex[:12], random.Random()  # noqa: S311 - spreads retries
    topics = Topics(device.topic_root)
    transport = PahoTransport(broker, f"head-{device.name}-{epoch}", jitter)
    publisher = Publisher(transport, topics, key, epoch, broker.max_chunk_bytes)
    receiver = Receiver(LARGEST_UPDATE_BYTES, SPOOL_BYTES, FileSpool(device.state_dir / "site-spool"))
    return Link(transport, topics, publisher, receiver, jitter.random, time.monotonic)


def _site_key(file: Path) -> SigningKey:
    """The key that signs this site's rounds; made where there is none yet."""
    if file.exists():
        return SigningKey.load(file)
    key = SigningKey.generate()
    key.save(file)
    key.verify_key.save(file.with_suffix(".pub"))
    return key


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gradsieve-edge head", description="Serve a site's boards as one device.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file of a device, TOML")
    parser.add_argument("--name", help="name of the head, as a device upstream")
    parser.add_argument("--broker", metavar="HOST:PORT", help="the coordinator's broker")
    parser.add_argument("--site-broker", required=True, metavar="HOST:PORT", help="the broker of the site's boards")
    parser.add_argument("--state", metavar="DIR", help="folder for all that must survive")
    parser.add_argument("--trust", action="append", metavar="KEY", help="the coordinator's public key, hex or file")
    parser.add_argument("--boards", type=int, default=1, help="boards to wait for before a round")
    parser.add_argument("--grace-seconds", type=float, default=5.0, help="how long one that went away is waited for")
    return parser.parse_args(arguments)


def _device(options: argparse.Namespace) -> EdgeSettings:
    """The settings of the head as a device; it has no data of its own."""
    state = options.state or os.environ.get(f"{ENV_PREFIX}STATE_DIR", "gradsieve-head")
    Path(state).mkdir(parents=True, exist_ok=True)
    flags = {"DATA": ("--state", state), "STATE_DIR": ("--state", state)}
    if options.name:
        flags["NAME"] = ("--name", options.name)
    if options.trust:
        flags["TRUSTED_SIGNERS"] = ("--trust", json.dumps(options.trust))
    if options.broker:
        host, port = split_address(options.broker)
        flags |= {"BROKER__HOST": ("--broker", host), "BROKER__PORT": ("--broker", str(port))}
    return load_settings(EdgeSettings, options.config, ENV_PREFIX, os.environ, flags)


def _broker(address: str) -> BrokerSettings:
    host, port = split_address(address)
    return BrokerSettings(host=host, port=port)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
