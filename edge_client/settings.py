"""What a device must be told: read once in `main`, passed on as values."""

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from edge_client.data_settings import DataSourceSettings
from edge_client.gate import GateLimits
from shared.errors import MessageError, SettingsError
from shared.settings import BrokerSettings
from shared.signing import VerifyKey
from shared.topics import DEFAULT_ROOT, check_device_name

ENV_PREFIX = "GRADSIEVE_EDGE_"


class EdgeSettings(BaseModel):
    """Settings of one device, from a TOML file and variables such as `GRADSIEVE_EDGE_NAME`."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    broker: BrokerSettings = Field(BrokerSettings(), description="where the MQTT 5 broker is")
    name: str = Field(description="this device, as topic level and common name of its certificate")
    data: Path = Field(description="folder with the local training data; it never leaves the device")
    data_source: DataSourceSettings = Field(DataSourceSettings(), description="what lies in the data folder")
    state_dir: Path = Field(Path("gradsieve-state"), description="folder for bundles, models and unsettled updates")
    trusted_signers: tuple[str, ...] = Field(
        min_length=1, description="Ed25519 public keys to obey: 64 hex digits, or a key file"
    )
    policy: Path | None = Field(None, description="file with what the device's owner agrees to; absent allows all")
    gate: GateLimits = Field(GateLimits(), description="when the board is left alone")
    trainer: Literal["process", "inline"] = Field("process", description="train in a child process, or in this one")
    topic_root: str = Field(DEFAULT_ROOT, pattern=r"^[^+#/\x00]{1,64}$", description="first level of every topic")
    heartbeat_seconds: float = Field(30.0, ge=1, le=3600, description="time between two heartbeats")
    largest_bundle_bytes: int = Field(
        256 << 20, ge=1024, le=1 << 31, description="largest bundle or model that is fetched"
    )
    trainer_idle_seconds: float = Field(60.0, ge=0, le=86_400, description="idle time after which the trainer ends")

    @field_validator("name")
    @classmethod
    def _name_is_a_topic_level(cls, name: str) -> str:
        try:
            return check_device_name(name)
        except MessageError as error:
            raise ValueError(str(error)) from None

    def signer_keys(self) -> tuple[VerifyKey, ...]:
        """The trusted public keys; raises `SettingsError` for what is neither a key nor a key file."""
        return tuple(_key(entry) for entry in self.trusted_signers)


def _key(entry: str) -> VerifyKey:
    if re.fullmatch(r"[0-9a-fA-F]{64}", entry):
        return VerifyKey.from_hex(entry)
    try:
        return VerifyKey.load(Path(entry))
    except SettingsError as error:
        raise SettingsError(f"trusted_signers: neither a key of 64 hex digits nor a key file: {error}") from None
