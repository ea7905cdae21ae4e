import numpy as np
import pytest

from coordinator.tasks.log_mel import LogMel

PICTURE = LogMel(rate_hz=8000, window=256, hop=160, bands=32, frames=16, lowest_hz=60, floor=1e-5)
SILENCE = np.float32(np.log(1e-5))


def _tone(hz: float, seconds: float) -> np.ndarray:
    return (10_000 * np.sin(2 * np.pi * hz * np.arange(int(8000 * seconds)) / 8000)).astype(np.int16)


def test_silence_and_nothing_are_the_floor_everywhere() -> None:
    for clip in (np.zeros(4000, np.int16), np.zeros(0, np.int16)):
        picture = PICTURE.of(clip)
        assert picture.shape == (32, 16)
        assert picture.dtype == np.float32
        assert (picture == SILENCE).all()


@pytest.mark.parametrize("hz", [300.0, 1000.0, 2500.0])
def test_tone_is_loudest_in_the_band_around_it(hz: float) -> None:
    loudest = PICTURE.of(_tone(hz, 0.4)).argmax(0)
    weights = PICTURE.filters()[:, round(hz / 8000 * 256)]
    assert set(loudest) == {int(weights.argmax())}


def test_higher_tone_is_in_a_higher_band() -> None:
    bands = [int(PICTURE.of(_tone(hz, 0.4)).mean(1).argmax()) for hz in (200, 500, 1000, 2000, 3500)]
    assert bands == sorted(set(bands))


def test_short_clip_ends_in_silence_and_long_one_is_cut() -> None:
    short = PICTURE.of(_tone(1000, 0.1))
    assert (short[:, 5:] == SILENCE).all()
    assert (short[:, :5].max(0) > SILENCE).all()
    assert np.array_equal(PICTURE.of(_tone(1000, 1)), PICTURE.of(_tone(1000, 2)))


def test_ten_times_the_amplitude_is_a_hundred_times_the_power() -> None:
    quiet, loud = PICTURE.of(_tone(1000, 0.4) // 10).max(), PICTURE.of(_tone(1000, 0.4)).max()
    assert loud - quiet == pytest.approx(np.log(100), abs=0.02)
