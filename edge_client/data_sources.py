"""From a device's settings to its data source; each kind is loaded only where it is used."""

from pathlib import Path

from edge_client.data import DataSource, FolderSource
from edge_client.data_settings import DataSourceSettings
from edge_client.sample_ring import RING_FILE


def source_for(folder: Path, settings: DataSourceSettings) -> DataSource:
    """The source that reads the data folder as `settings` say."""
    match settings.kind:
        case "arrays":
            from edge_client.array_source import ArraySource  # noqa: PLC0415

            return ArraySource(folder)
        case "csv":
            from edge_client.csv_source import CsvSource  # noqa: PLC0415

            return CsvSource(folder, settings)
        case "parquet":
            from edge_client.parquet_source import ParquetSource  # noqa: PLC0415

            return ParquetSource(folder, settings)
        case "images":
            from edge_client.image_source import ImageSource  # noqa: PLC0415

            return ImageSource(folder, settings)
        case "sensor":
            from edge_client.ring_source import RingSource  # noqa: PLC0415

            return RingSource(folder / RING_FILE, settings)
        case _:
            return FolderSource(folder)
