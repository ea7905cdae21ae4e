from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression import rice
from shared.compression.bits import BitReader, BitWriter
from shared.compression.marks import Marks
from shared.compression.rice import (
    Gaps,
    covering_parameter,
    decode_gaps,
    decode_values,
    encode_values,
    expected_length,
    orbit,
    value_parameter,
)
from shared.errors import DecodeError
from shared.layout import I64


@st.composite
def grouped_positions(draw: st.DrawFn) -> tuple[I64, I64, I64]:
    sizes = draw(st.lists(st.integers(1, 200), min_size=1, max_size=6))
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    positions = sorted(draw(st.sets(st.integers(0, sum(sizes) - 1))))
    parameters = draw(st.lists(st.integers(0, 12), min_size=len(sizes), max_size=len(sizes)))
    return np.array(positions, np.int64), bounds, np.array(parameters)


def coded(positions: I64, bounds: I64, parameters: I64) -> bytes:
    writer = BitWriter()
    writer.put_bits(Gaps.of(positions, bounds).encode(parameters))
    return writer.to_bytes()


@settings(deadline=None, max_examples=60)
@given(grouped_positions())
def test_positions_come_back_and_take_the_announced_length(case: tuple[I64, I64, I64]) -> None:
    positions, bounds, parameters = case
    gaps = Gaps.of(positions, bounds)
    bits = gaps.encode(parameters)
    table = gaps.lengths(12)
    assert len(bits) == gaps.length(parameters) == table[parameters, np.arange(len(parameters))].sum()
    reader = BitReader(coded(positions, bounds, parameters))
    np.testing.assert_array_equal(decode_gaps(reader, bounds, parameters), positions)
    reader.finish()


@settings(deadline=None, max_examples=60)
@given(grouped_positions())
def test_lengths_near_parameters_are_those_of_the_whole_table(case: tuple[I64, I64, I64]) -> None:
    positions, bounds, parameters = case
    gaps = Gaps.of(positions, bounds)
    table, groups = gaps.lengths(13), np.arange(len(parameters))
    wanted = [table[np.maximum(parameters + step, 0), groups] for step in (-1, 0, 1)]
    np.testing.assert_array_equal(gaps.lengths_near(parameters), wanted)


@settings(deadline=None, max_examples=60)
@given(grouped_positions(), st.integers(0, 1_000))
def test_truncated_positions_are_refused_or_fewer(case: tuple[I64, I64, I64], cut: int) -> None:
    positions, bounds, parameters = case
    data = coded(positions, bounds, parameters)
    if cut < len(data):
        with pytest.raises(DecodeError):
            decode_gaps(BitReader(data[:cut]), bounds, parameters)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=64), st.integers(0, 31))
def test_any_bits_decode_to_rising_positions_within_bounds_or_are_refused(data: bytes, parameter: int) -> None:
    bounds = np.array([0, 100, 300])
    try:
        positions = decode_gaps(BitReader(data), bounds, np.array([parameter, 3]))
    except DecodeError:
        return
    assert (np.diff(positions) > 0).all()
    assert not len(positions) or (positions[0] >= 0 and positions[-1] < 300)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1 << 40))
def test_one_zero_bit_of_the_covering_parameter_skips_everything(extent: int) -> None:
    parameter = covering_parameter(extent)
    assert 1 << parameter >= extent
    assert parameter == 0 or 1 << parameter - 1 < extent


@pytest.mark.parametrize(("extent", "count"), [(24_103, 300), (24_103, 24), (1_000_000, 10_000), (5_000, 2_500)])
def test_the_expected_length_is_that_of_scattered_positions(extent: int, count: int) -> None:
    random = np.random.default_rng(count)
    lengths = []
    for _ in range(40):
        positions = np.sort(random.choice(extent, count, replace=False))
        lengths.append(Gaps.of(positions, np.array([0, extent])).lengths(20).min())
    expected = float(expected_length(np.array([float(extent)]), np.array([float(count)]))[0])
    assert np.mean(lengths) == pytest.approx(expected, rel=0.02)


def test_scattered_positions_take_less_than_two_percent_above_their_entropy() -> None:
    positions = np.sort(np.random.default_rng(0).choice(1_000_000, 10_000, replace=False))
    share = 0.01
    entropy = -1_000_000 * (share * np.log2(share) + (1 - share) * np.log2(1 - share))
    assert Gaps.of(positions, np.array([0, 1_000_000])).lengths(20).min() < 1.02 * entropy


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 300), min_size=1))
def test_values_come_back(numbers: list[int]) -> None:
    values = np.array(numbers)
    parameter = value_parameter(values)
    writer = BitWriter()
    writer.put_bits(encode_values(values, parameter))
    np.testing.assert_array_equal(decode_values(BitReader(writer.to_bytes()), len(values), parameter), values)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 99), st.integers(0, 10), st.sampled_from([0.02, 0.1, 0.5, 0.99]))
def test_many_positions_come_back_under_any_parameter(seed: int, parameter: int, share: float) -> None:
    bounds, parameters = np.array([0, 9_000, 9_001, 20_000]), np.array([parameter, 3, max(parameter - 1, 0)])
    positions = np.flatnonzero(np.random.default_rng(seed).random(20_000) < share)
    reader = BitReader(coded(positions, bounds, parameters))
    np.testing.assert_array_equal(decode_gaps(reader, bounds, parameters), positions)
    reader.finish()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ones", [0.02, 0.3, 0.9])
def test_decoding_many_at_once_is_decoding_one_by_one(seed: int, ones: float, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(seed)
    data = np.packbits(random.random(60_000) < ones).tobytes()
    bounds, parameters = np.array([0, 40_000, 41_000, 1 << 40]), random.integers(0, 32, 3)

    def outcome(few: int, window: int) -> tuple[list[int], int] | None:
        monkeypatch.setattr(rice, "FEW", few)
        monkeypatch.setattr(rice, "WINDOW", window)
        reader = BitReader(data)
        try:
            return decode_gaps(reader, bounds, parameters).tolist(), reader.at
        except DecodeError:
            return None

    one_by_one = outcome(1 << 20, 1)
    assert outcome(3, 700) == outcome(5, 1 << 15) == one_by_one


def test_an_orbit_ends_before_the_place_that_follows_itself() -> None:
    assert orbit(np.array([2, 5, 3, 5, 4, 5])).tolist() == [0, 2, 3]
    assert orbit(np.array([0])).tolist() == []


@settings(deadline=None, max_examples=60)
@given(st.sets(st.integers(0, 3_000), min_size=1), st.integers(0, 500), st.integers(0, 14))
def test_the_shortest_parameter_is_the_best_of_all(places: set[int], behind: int, most: int) -> None:
    positions = np.array(sorted(places))
    gaps = Gaps.within(positions, int(positions[-1]) + 1 + behind)
    lengths = gaps.lengths(most)[:, 0]
    parameter, length = gaps.shortest_parameter(most)
    assert length == lengths.min() == lengths[parameter]
    marks = Marks.of(positions, int(positions[-1]) + 1 + behind, most)
    assert (marks.parameter, marks.length) == (parameter, length)
    assert len(marks.gaps.encode(np.array([parameter]))) == length


@settings(deadline=None, max_examples=40)
@given(grouped_positions(), grouped_positions())
def test_joined_gaps_are_coded_one_after_another(one: tuple[I64, I64, I64], other: tuple[I64, I64, I64]) -> None:
    parts = [Gaps.of(positions, bounds) for positions, bounds, _ in (one, other)]
    bits = Gaps.joined(parts).encode(np.concatenate([one[2], other[2]]))
    apart = [part.encode(case[2]) for part, case in zip(parts, (one, other), strict=True)]
    np.testing.assert_array_equal(bits, np.concatenate(apart))


@pytest.mark.parametrize("zeros", [0, 4, 20_000])
def test_a_position_that_the_end_cuts_off_is_refused(zeros: int) -> None:
    data = np.packbits([0] * zeros + [0, 0, 0, 1, 1, 1, 1, 1]).tobytes()
    with pytest.raises(DecodeError, match="truncated"):
        decode_gaps(BitReader(data), np.array([0, 1 << 20]), np.array([5]))


class CountingDigits(bytearray):
    """Digits that count how many of them were searched."""

    searched = 0

    def find(self, *arguments: Any) -> int:
        start, end = arguments[1], min([len(self), *arguments[2:]])
        found = super().find(arguments[0], start, end)
        self.searched += (end if found < 0 else found) - start
        return found


@pytest.mark.parametrize("parameter", [0, 7, 31])
def test_zeros_are_not_searched_anew_for_every_group(parameter: int) -> None:
    bounds = np.arange(0, 100_100, 100)
    reader = BitReader(bytes(20_000))
    reader.digits = digits = CountingDigits(reader.digits)
    assert not len(decode_gaps(reader, bounds, np.full(1_000, parameter)))
    assert 0 < digits.searched < 5_000 * 1_000
