from pathlib import Path

import numpy as np
import pytest

from edge_client.data_settings import DataSourceSettings
from edge_client.image_source import ImageSource
from shared.errors import DataError

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

COLOUR = DataSourceSettings(kind="images", classes=("cat", "dog"), image_size=(4, 6))
GREY = COLOUR.model_copy(update={"grey": True})


def picture(path: Path, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (12, 8), colour).save(path)


def test_images_are_brought_to_size_and_come_by_class(tmp_path: Path) -> None:
    picture(tmp_path / "dog" / "1.png", (255, 0, 51))
    picture(tmp_path / "cat" / "2.PNG", (0, 0, 0))
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    found = ImageSource(tmp_path, COLOUR).load()
    assert (list(found.labels), list(found.names)) == ([0, 1], ["cat/2.PNG", "dog/1.png"])
    assert found.series[1].shape == (3, 4, 6)
    assert found.series[1].dtype == np.float32
    np.testing.assert_allclose(found.series[1][:, 0, 0], [1, 0, 0.2])


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    picture(tmp_path / "dog" / "1.png", (255, 255, 255))
    [grey] = ImageSource(tmp_path, GREY).load().series
    assert grey.shape == (1, 4, 6)
    assert (grey == 1).all()


def test_empty_class_unknown_class_and_broken_image_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder in it: make one for each class"):
        ImageSource(tmp_path, COLOUR).load()
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="cat: no image in this class's folder"):
        ImageSource(tmp_path, COLOUR).load()
    (tmp_path / "cat" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(DataError, match=r"cat/1\.png: not a readable image"):
        ImageSource(tmp_path, COLOUR).load()
    (tmp_path / "bird").mkdir()
    with pytest.raises(DataError, match=r"label 'bird' is none of data_source\.classes: cat, dog"):
        ImageSource(tmp_path, COLOUR).load()
