"""The samples that a sensor's feed keeps, as recordings."""

from dataclasses import dataclass
from pathlib import Path

from edge_client.data import Recordings
from edge_client.data_settings import DataSourceSettings
from edge_client.sample_ring import read_samples, written_so_far
from edge_client.table import Table


@dataclass(frozen=True, slots=True)
class RingSource:
    """Gives what is in the ring now: another recording begins at every gap and every change of label."""

    ring: Path
    settings: DataSourceSettings

    def load(self) -> Recordings:
        """The recordings, oldest first; raises `DataError` where the sensor has sent nothing that could be kept."""
        table = Table(self.settings.columns)
        for sample in read_samples(self.ring, len(self.settings.columns)):
            table.add(self.ring.name, sample.number, sample.values, sample.label, str(sample.recording))
        return table.recordings()

    def revision(self) -> int:
        """Another number once other samples are in the ring."""
        return written_so_far(self.ring)
