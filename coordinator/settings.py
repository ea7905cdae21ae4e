"""What a coordinator must be told, apart from the job it runs."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from shared.settings import BrokerSettings

ENV_PREFIX = "GRADSIEVE_"
FOREIGN_PREFIXES = ("GRADSIEVE_DATA", "GRADSIEVE_EDGE_", "GRADSIEVE_JOB_")
"""Variables that begin like ours and are for data sets, devices and jobs."""


class CoordinatorSettings(BaseModel):
    """Read once at the start, from a TOML file and variables such as GRADSIEVE_BROKER__HOST."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    broker: BrokerSettings = BrokerSettings()
    topic_root: str = Field("gs", pattern=r"^[A-Za-z0-9_-]{1,32}$", description="first level of every topic")
    key_file: Path = Field(Path("coordinator.key"), description="Ed25519 key that signs rounds; made when absent")
    connect_seconds: float = Field(30.0, gt=0, description="how long to wait for the broker before giving up")
    largest_update_bytes: int = Field(64 << 20, ge=1024, description="largest object that a device may upload")
    spool_bytes: int = Field(256 << 20, ge=1 << 20, description="room for uploads that are not complete yet")
