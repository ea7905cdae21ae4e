"""Options that several commands share, and the settings they lead to."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.settings import ENV_PREFIX, CoordinatorSettings
from shared.errors import SettingsError
from shared.settings import load_settings

BrokerOption = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="MQTT 5 broker; default 127.0.0.1:1883")]
ConfigOption = Annotated[Path | None, typer.Option(help="settings file (TOML): broker, TLS, key, limits")]


def read_settings(config: Path | None, broker: str | None) -> CoordinatorSettings:
    """Settings from file and environment; `broker` on the command line wins."""
    settings = load_settings(CoordinatorSettings, config, ENV_PREFIX)
    if broker is None:
        return settings
    host, colon, port = broker.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise SettingsError(f"--broker {broker!r}: write HOST:PORT, such as 127.0.0.1:1883")
    address = settings.broker.model_copy(update={"host": host, "port": int(port)})
    return settings.model_copy(update={"broker": address})
