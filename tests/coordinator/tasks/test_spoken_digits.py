import io
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coordinator.tasks.spoken_digits import PICTURE, load, pictures
from shared.errors import DataError

Pack = Callable[[dict[str, bytes]], Path]


def _recording(pitch: int, rate_hz: int = 8000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(2)
        clip.setframerate(rate_hz)
        clip.writeframes(_samples(pitch).astype("<i2").tobytes())
    return file.getvalue()


def _samples(pitch: int) -> np.ndarray:
    return (9000 * np.sin(np.arange(3000) * pitch / 10)).astype(np.int16)


def test_file_name_says_digit_speaker_and_recording(pack: Pack) -> None:
    packed = pack({"recordings/7_theo_12.wav": _recording(3), "recordings/0_george_4.wav": _recording(5)})
    read = pictures(packed)
    assert [read[part].tolist() for part in ("digit", "speaker", "recording")] == [[7, 0], [4, 0], [12, 4]]
    assert np.array_equal(read["x"], [PICTURE.of(_samples(3)), PICTURE.of(_samples(5))])


def test_first_five_recordings_of_each_speaker_are_for_tests(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [0, 5, 4, 49]
    packed = pack({f"r/{number % 10}_jackson_{number}.wav": _recording(number + 2) for number in numbers})
    (packed.parent / "fsdd").mkdir()
    packed.rename(packed.parent / "fsdd" / "recordings.tar.xz")
    monkeypatch.setenv("GRADSIEVE_DATA", str(packed.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(packed.parent / "cache"))
    for train, test in (load(), load()):  # made, then from the cache
        assert train.x.shape == test.x.shape == (2, 1, 32, 32)
        assert (train.y.tolist(), test.y.tolist()) == ([5, 9], [0, 4])
        assert test.owner is not None
        assert test.owner.tolist() == [1, 1]
        assert train.x.mean() == pytest.approx(0, abs=1e-5)
        assert train.x.std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("7_nobody_1.wav", _recording(3)),
        ("7_theo.wav", _recording(3)),
        ("seven_theo_1.wav", _recording(3)),
        ("7_theo_1.wav", _recording(3, rate_hz=16_000)),
        ("7_theo_1.wav", b"RIFF"),
        ("7_theo_1.wav", b"not sound"),
    ],
)
def test_what_is_no_recording_of_the_set_is_refused(pack: Pack, name: str, content: bytes) -> None:
    with pytest.raises(DataError, match=r"is not a recording of a spoken digit"):
        pictures(pack({name: content}))


def test_archive_without_recordings_is_refused(pack: Pack) -> None:
    with pytest.raises(DataError, match="holds no recordings"):
        pictures(pack({"README.md": b""}))
