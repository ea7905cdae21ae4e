"""Where a device's data comes from and how it is laid out: the table `[data_source]` of its settings."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.settings import BrokerLogin

DataKind = Literal["recordings", "arrays", "csv", "parquet", "images", "sensor"]

NEEDED: dict[str, tuple[str, ...]] = {
    "csv": ("columns",),
    "parquet": ("columns",),
    "images": ("classes", "image_size"),
    "sensor": ("columns", "sensor"),
}
"""What a kind cannot do without."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
TABLES = ("csv", "parquet")


class SensorSettings(BrokerLogin):
    """A local MQTT 5 broker that a sensor publishes to; it has nothing to do with the coordinator's."""

    topic: str = Field(min_length=1, max_length=200, description="topic of samples")
    label_topic: str = Field(min_length=1, max_length=200, description="topic that says what is going on")
    samples: int = Field(100_000, ge=16, le=10_000_000, description="newest samples that are kept")


class DataSourceSettings(BaseModel):
    """Kind of the files in `data`, and what to take of them."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    kind: DataKind = Field("recordings", description="what lies in the data folder")
    columns: tuple[str, ...] = Field((), description="columns of a table, or fields of a sample, in the model's order")
    label: str | None = Field(None, description="column with the label")
    targets: tuple[str, ...] = Field((), description="instead of label: columns with the numbers to predict")
    recording: str | None = Field(None, description="column whose change begins another recording")
    classes: tuple[str, ...] = Field((), description="names of labels by their number; empty: they are numbers")
    image_size: tuple[int, int] | None = Field(None, description="height and width that images are brought to")
    grey: bool = Field(False, description="images have one channel instead of three")
    sensor: SensorSettings | None = Field(None, description="where samples come from, with kind sensor")

    @model_validator(mode="after")
    def _kind_has_what_it_needs(self) -> Self:
        missing = [name for name in NEEDED.get(self.kind, ()) if not getattr(self, name)]
        missing += ["label"] if self.kind in TABLES and not (self.label or self.targets) else []
        if missing:
            raise ValueError(f"kind {self.kind} needs {', '.join(missing)}")
        if self.targets and (self.label or self.kind not in TABLES):
            raise ValueError("targets are columns of a table, for numbers to predict: they take the place of label")
        if self.image_size is not None and not all(1 <= side <= 4096 for side in self.image_size):
            raise ValueError("image_size is a height and a width of 1 to 4096")
        if any(len(set(names)) != len(names) for names in (self.columns, self.targets, self.classes)):
            raise ValueError("columns, targets and classes are named once each")
        return self

    @property
    def wanted_columns(self) -> tuple[str, ...]:
        """All columns that are read of a table: values, then label or targets, then what tells recordings apart."""
        return tuple(name for name in (*self.columns, self.label, *self.targets, self.recording) if name)
