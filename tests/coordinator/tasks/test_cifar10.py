import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coordinator.tasks.cifar10 import decode
from shared.errors import DataError

Image = pytest.importorskip("PIL.Image", reason="needs Pillow, which gradsieve[bench] installs")

Pack = Callable[[dict[str, bytes]], Path]
RED, BLUE = (254, 0, 0), (0, 0, 254)


def _picture(colour: tuple[int, int, int], side: int = 32) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "JPEG", quality=95)
    return file.getvalue()


def test_images_are_decoded_channels_first_with_the_class_of_their_folder(pack: Pack) -> None:
    decoded = decode(pack({"test/truck/1.jpg": _picture(RED), "test/cat/2.jpg": _picture(BLUE)}), 2)
    assert decoded["images"].shape == (2, 3, 32, 32)
    assert decoded["images"].dtype == np.uint8
    assert decoded["labels"].tolist() == [9, 3]
    np.testing.assert_allclose(decoded["images"].mean((2, 3)), [RED, BLUE], atol=3)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("test/lorry/1.jpg", _picture(RED)),
        ("test/truck/1.jpg", _picture(RED, side=31)),
        ("test/truck/1.jpg", b"no image"),
        ("test/truck/1.jpg", _picture(RED)[:-200]),
    ],
)
def test_what_is_no_image_of_the_set_is_refused(pack: Pack, name: str, content: bytes) -> None:
    with pytest.raises(DataError, match=r"is not one of 1 images of CIFAR-10"):
        decode(pack({name: content}), 1)


def test_another_number_of_images_is_refused(pack: Pack) -> None:
    with pytest.raises(DataError, match="holds 1 images, not 2"):
        decode(pack({"test/truck/1.jpg": _picture(RED)}), 2)
    with pytest.raises(DataError, match="is not one of 1 images"):
        decode(pack({"test/truck/1.jpg": _picture(RED), "test/truck/2.jpg": _picture(RED)}), 1)


def test_missing_pillow_names_what_to_install(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"Pillow: install gradsieve\[bench\]"):
        decode(pack({}), 0)
