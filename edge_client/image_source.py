"""A folder with a folder of images for each class; needs Pillow, which only boards with such data need to install."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_client.data import UNREADABLE, Recordings
from edge_client.data_file import label_number, steady
from edge_client.data_settings import IMAGE_SUFFIXES, DataSourceSettings
from shared.errors import DataError
from shared.labels import Label
from shared.layout import F32


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Gives each image as float32 `[channels, height, width]` from 0 to 1, brought to `image_size`."""

    folder: Path
    settings: DataSourceSettings

    def load(self) -> Recordings:
        """The images in order of class and name; raises `DataError` naming the folder or file at fault."""
        try:
            folders = sorted(path for path in self.folder.iterdir() if path.is_dir())
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be read ({error.strerror}): check the data folder") from error
        if not folders:
            raise DataError(f"{self.folder}: no folder in it: make one for each class, with its images")
        series: list[F32] = []
        labels: list[Label] = []
        names: list[str] = []
        for folder in folders:
            label = label_number(folder.name, self.settings.classes, str(self.folder))
            for path in _images(folder):
                series.append(self._read(path))
                labels.append(label)
                names.append(f"{folder.name}/{path.name}")
        return Recordings(series, labels, names, channel_order=None if self.settings.grey else "rgb")

    def _read(self, path: Path) -> F32:
        try:
            from PIL import Image, ImageOps  # noqa: PLC0415 - an extra that few boards have
        except ImportError:
            raise DataError("images need Pillow: pip install pillow") from None
        height, width = self.settings.image_size or (0, 0)
        with steady(path) as file:
            try:
                with Image.open(file) as image:
                    upright = ImageOps.exif_transpose(image).convert("L" if self.settings.grey else "RGB")
                    pixels = np.asarray(upright.resize((width, height)), np.float32)
            except (*UNREADABLE, Image.DecompressionBombError) as error:
                raise DataError(f"{path.parent.name}/{path.name}: not a readable image ({error})") from error
        planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
        return np.ascontiguousarray(planes / np.float32(255))


def _images(folder: Path) -> list[Path]:
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise DataError(f"{folder.name}: no image in this class's folder: put some there, or remove the folder")
    return images
