"""The command line of `gradsieve-edge`: flags win over environment variables, and those over the settings file."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_client.agent import agent_version
from edge_client.settings import ENV_PREFIX, EdgeSettings
from shared.errors import DataError
from shared.settings import load_settings, split_address


@dataclass(frozen=True, slots=True)
class Invocation:
    """What the command line asks for: settings by the key they stand for, each with its flag and text, and the rest."""

    config: Path | None
    flags: Mapping[str, tuple[str, str]]
    connect_seconds: float | None
    is_examination: bool = False
    as_json: bool = False

    def read(self, environment: Mapping[str, str]) -> EdgeSettings:
        """The device's settings as they are written; raises `SettingsError`."""
        return load_settings(EdgeSettings, self.config, ENV_PREFIX, environment, self.flags)

    def settings(self, environment: Mapping[str, str]) -> EdgeSettings:
        """The device's settings; raises `SettingsError`, or `DataError` when there is no data folder."""
        settings = self.read(environment)
        if not settings.data.is_dir():
            raise DataError(f"data folder {settings.data}: is not there: create it or name another with --data")
        return settings


def parse_command_line(arguments: Sequence[str]) -> Invocation:
    """The invocation in `arguments`; argparse ends the process itself for help, version and wrong usage."""
    parser = argparse.ArgumentParser(prog="gradsieve-edge", description="Train on local data, upload what matters.")
    parser.add_argument("--version", action="version", version=agent_version())
    commands = parser.add_subparsers(required=True, metavar="run|doctor", dest="command")
    run = commands.add_parser("run", help="serve until stopped")
    doctor = commands.add_parser("doctor", help="examine board, broker and settings; exit code 1 when something fails")
    for command in (run, doctor):
        _add_settings(command)
    doctor.add_argument("--json", action="store_true", help="print all findings as JSON")
    run.add_argument(
        "--connect-seconds", type=_seconds, metavar="N", help="give up when there is no broker for so long at the start"
    )
    parsed = parser.parse_args(arguments)
    host, port = parsed.broker or (None, None)
    flags = {
        "NAME": ("--name", parsed.name),
        "BROKER__HOST": ("--broker", host),
        "BROKER__PORT": ("--broker", port and str(port)),
        "DATA": ("--data", parsed.data),
        "STATE_DIR": ("--state", parsed.state),
        "TRUSTED_SIGNERS": ("--trust", json.dumps(parsed.trust) if parsed.trust else None),
    }
    given = {key: (flag, text) for key, (flag, text) in flags.items() if text is not None}
    if parsed.command == "doctor":
        return Invocation(parsed.config, given, None, is_examination=True, as_json=parsed.json)
    return Invocation(parsed.config, given, parsed.connect_seconds)


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, metavar="FILE", help="settings file, TOML")
    command.add_argument("--name", help="name of this device")
    command.add_argument("--broker", type=_address, metavar="HOST:PORT", help="MQTT 5 broker")
    command.add_argument("--data", metavar="DIR", help="folder with local training data")
    command.add_argument("--state", metavar="DIR", help="folder for bundles, models and unsettled updates")
    command.add_argument(
        "--trust", action="append", metavar="KEY", help="public key to obey, as hex or file; repeatable"
    )


def _address(text: str) -> tuple[str, int]:
    try:
        return split_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return seconds
