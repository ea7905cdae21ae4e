"""Options that several commands share, and the settings they lead to."""

import os
from pathlib import Path
from typing import Annotated

import typer

from coordinator.settings import ENV_PREFIX, FOREIGN_PREFIXES, CoordinatorSettings
from shared.errors import SettingsError
from shared.settings import load_settings, split_address

BrokerOption = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="MQTT 5 broker; default 127.0.0.1:1883")]
ConfigOption = Annotated[Path | None, typer.Option(help="settings file (TOML): broker, TLS, key, limits")]


def read_settings(config: Path | None, broker: str | None) -> CoordinatorSettings:
    """Settings from file and environment; `broker` on the command line wins."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith(FOREIGN_PREFIXES)}
    flags: dict[str, tuple[str, str]] = {}
    if broker is not None:
        try:
            host, port = split_address(broker)
        except ValueError as error:
            raise SettingsError(f"--broker: {error}") from None
        flags = {"BROKER__HOST": ("--broker", host), "BROKER__PORT": ("--broker", str(port))}
    return load_settings(CoordinatorSettings, config, ENV_PREFIX, environment, flags)
