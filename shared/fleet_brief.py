"""What an emulated fleet is told before it begins."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.device_profile import DeviceProfile
from shared.settings import BrokerSettings
from shared.topics import DEFAULT_ROOT


class Sizes(BaseModel):
    """The most bytes that a device keeps between rounds, part by part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    object_bytes: int = Field(ge=0)
    plan_bytes: int = Field(ge=0)
    history_bytes: int = Field(ge=0)
    residual_bytes: int = Field(ge=0)


class TorchModule(BaseModel):
    """Where a process that has torch finds a model: `module:name` of a factory, and of a loss over `(logits, y)`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factory: str
    loss: str


class Cluster(BaseModel):
    """A site whose `boards` are devices of its `head`, which is a device of the coordinator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: str
    boards: tuple[str, ...] = Field(min_length=1)


class FleetBrief(BaseModel):
    """An emulated fleet: device `names`, their data and profiles, and which of them are boards behind heads.

    `data` is a folder: of kind `folders`, with the recordings of each device in a folder of its name; of kind `arrays`,
    with `x.npy`, `y.npy`, and which of their rows are whose, see `edge_client.fleet.examples`. `example_flops` is what
    training on one example takes; `began_seconds` the unix time at which the emulation is said to begin.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...] = Field(min_length=1, max_length=100_000)
    state: Path
    data: Path
    data_kind: Literal["folders", "arrays"]
    trusted_signer: str
    topic_root: str = DEFAULT_ROOT
    profiles: tuple[DeviceProfile, ...] = (DeviceProfile(),)
    seed: int = 1
    sizes: Sizes
    example_flops: float = Field(0.0, ge=0)
    torch_module: TorchModule | None = Field(None, description="train with torch by this module, not by the bundle")
    began_seconds: float = 0.0
    clusters: tuple[Cluster, ...] = ()
    broker: BrokerSettings | None = Field(None, description="a real broker, and real time; none: emulated ones")

    @property
    def slots(self) -> tuple[str, ...]:
        """Who keeps something between rounds, in order of slots: the devices with data, then the heads."""
        return self.names + tuple(cluster.head for cluster in self.clusters)

    @property
    def members(self) -> tuple[str, ...]:
        """The coordinator's own devices: all but the boards of heads."""
        boards = {board for cluster in self.clusters for board in cluster.boards}
        return tuple(name for name in self.slots if name not in boards)
