"""The task `spoken-digits`: which digit was spoken, six speakers as six natural clients.

Data: Jackson et al., *Free spoken digit dataset*, 2016-2020, CC BY-SA 4.0; its own split, recordings 0 to 4 of each
digit and speaker being for tests.
"""

import io
import wave
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from coordinator.tasks.archive import members
from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.convolution import ChannelsLastConv2d
from coordinator.tasks.examples import Examples
from coordinator.tasks.he_start import start_at_full_scale
from coordinator.tasks.log_mel import LogMel
from coordinator.tasks.shelf import find, kept
from shared.errors import DataError

# 32 windows of 32 ms, one each 20 ms: the first 0.65 s, more than nine in ten recordings last.
PICTURE = LogMel(rate_hz=8000, window=256, hop=160, bands=32, frames=32, lowest_hz=60, floor=1e-5)
TEST_RECORDINGS = 5
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
SOURCE = "github.com/Jakobovski/free-spoken-digit-dataset, its folder recordings packed as .tar.xz"


class SpeechNet(nn.Module):
    """Three convolutions, each to half the size, and a linear layer; 34,026 weights.

    Float32 `[n, 1, 32, 32]` (bands, frames) to logits `[n, 10]`, by 64 x 4 x 4 values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.near = ChannelsLastConv2d(1, 16, 5, stride=2, padding=2)
        self.middle = ChannelsLastConv2d(16, 32, 3, padding=1)
        self.far = ChannelsLastConv2d(32, 64, 3, padding=1)
        self.near_norm, self.middle_norm, self.far_norm = (nn.GroupNorm(size // 8, size) for size in (16, 32, 64))
        self.head = nn.Linear(64 * 4 * 4, 10)
        start_at_full_scale(self, self.head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[n, 10]`."""
        x = functional.relu(self.near_norm(self.near(x)))
        x = functional.relu(self.middle_norm(functional.max_pool2d(self.middle(x), 2)))
        x = functional.relu(self.far_norm(functional.max_pool2d(self.far(x), 2)))
        logits: torch.Tensor = self.head(x.flatten(1))
        return logits


def load() -> tuple[Examples, Examples]:
    """2,700 pictures of recordings to train on and 300 to test, float32 `[n, 1, 32, 32]`, owned by their speaker.

    Standardised as a whole by the training part; made once, then kept in the cache. Raises `DataError` where the
    archive is missing or not of that form.
    """
    path = find("fsdd", "recordings.tar.xz", SOURCE)
    made_by = "-".join(str(value) for value in astuple(PICTURE))
    arrays = kept(f"spoken-digits-{made_by}", path, lambda: pictures(path))
    test = arrays["recording"] < TEST_RECORDINGS
    x = arrays["x"][:, None]
    mean, std = x[~test].mean(dtype=np.float64), x[~test].std(dtype=np.float64)
    everything = Examples((x - np.float32(mean)) / np.float32(std), arrays["digit"], arrays["speaker"])
    return everything.take(np.flatnonzero(~test)), everything.take(np.flatnonzero(test))


def pictures(path: Path) -> dict[str, np.ndarray]:
    """Of an archive of `<digit>_<speaker>_<recording>.wav`: `x` float32 `[n, 32, 32]`, the rest int64 `[n]`."""
    rows, x = [], []
    for name, content in members(path, ".wav"):
        try:
            digit, speaker, recording = name.stem.split("_")
            rows.append((int(digit), SPEAKERS.index(speaker), int(recording)))
            x.append(PICTURE.of(_samples(content)))
        except (ValueError, EOFError, wave.Error) as error:
            raise DataError(f"{name} in {path} is not a recording of a spoken digit ({error}): get it anew") from error
    if not rows:
        raise DataError(f"{path} holds no recordings: get it anew")
    return {"x": np.stack(x), **dict(zip(("digit", "speaker", "recording"), np.array(rows, np.int64).T, strict=True))}


def _samples(content: bytes) -> np.ndarray:
    """Int16 samples of a WAV file; raises `ValueError` unless it is mono, 16 bits, at the expected rate."""
    with wave.open(io.BytesIO(content)) as clip:
        form = (clip.getnchannels(), clip.getsampwidth(), clip.getframerate())
        if form != (1, 2, PICTURE.rate_hz):
            raise ValueError(f"channels, bytes a sample and Hz are {form}")
        return np.frombuffer(clip.readframes(clip.getnframes()), "<i2")


SPOKEN_DIGITS = ArrayTask("spoken-digits", SpeechNet, load, learning_rate=0.05)
