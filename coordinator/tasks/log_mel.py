"""Sound as a picture: how loud it is at each time in each band of pitch."""

import math
from dataclasses import dataclass

import numpy as np

from shared.layout import F32


@dataclass(frozen=True, slots=True)
class LogMel:
    """The logarithm of a mel spectrogram of fixed size, float32 `[bands, frames]`.

    Windows of `window` samples (Hann), one each `hop` samples; their power spectra, weighed by triangles of equal width
    on the mel scale (O'Shaughnessy: 2595 lg(1 + f / 700 Hz)) from `lowest_hz` to half the `rate_hz`. A clip is cut to,
    or filled with silence up to, `frames` windows. `floor` is the power that counts as silence, full scale being 1.
    """

    rate_hz: int
    window: int
    hop: int
    bands: int
    frames: int
    lowest_hz: float
    floor: float

    def of(self, samples: np.ndarray) -> F32:
        """The picture of int16 samples `[n]`."""
        needed = self.window + (self.frames - 1) * self.hop
        clip = np.zeros(needed, np.float32)
        clip[: min(len(samples), needed)] = samples[:needed] / np.float32(32768)
        windows = np.lib.stride_tricks.sliding_window_view(clip, self.window)[:: self.hop]
        powers = np.abs(np.fft.rfft(windows * np.hanning(self.window))) ** 2 / self.window
        return np.log(self.filters() @ powers.T + self.floor).astype(np.float32)

    def filters(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """The triangles, float64 `[bands, window / 2 + 1]`, each with a top of 1."""
        edges_mel = np.linspace(_mel(self.lowest_hz), _mel(self.rate_hz / 2), self.bands + 2)
        edges_hz = 700 * (10 ** (edges_mel / 2595) - 1)
        hz = np.fft.rfftfreq(self.window, 1 / self.rate_hz)
        low, top, high = (edges_hz[start : start + self.bands, None] for start in range(3))
        return np.maximum(np.minimum((hz - low) / (top - low), (high - hz) / (high - top)), 0)


def _mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)
