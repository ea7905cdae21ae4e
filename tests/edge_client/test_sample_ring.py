from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.data_settings import DataSourceSettings
from edge_client.ring_source import RingSource
from edge_client.sample_ring import SampleRing, read_samples, written_so_far
from shared.errors import DataError

Opener = Callable[..., SampleRing]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "samples.ring"


@pytest.fixture
def open_ring(path: Path) -> Iterator[Opener]:
    with ExitStack() as rings:

        def opened(channels: int = 1, capacity: int = 16) -> SampleRing:
            return rings.enter_context(closing(SampleRing.open(path, channels, capacity)))

        yield opened


def values(path: Path, channels: int = 1) -> list[float]:
    return [sample.values[0] for sample in read_samples(path, channels)]


def test_newest_samples_are_kept_in_order_and_the_file_does_not_grow(path: Path, open_ring: Opener) -> None:
    ring = open_ring()
    size = path.stat().st_size
    for number in range(50):
        ring.append([[float(number)]], 0)
    assert values(path) == [float(number) for number in range(34, 50)]
    assert path.stat().st_size == size
    assert written_so_far(path) == 50


def test_ring_goes_on_after_a_restart_in_another_recording(path: Path, open_ring: Opener) -> None:
    first = open_ring(2)
    first.append([[1.0, 2.0]], 3)
    first.close()
    again = open_ring(2)
    again.append([[5.0, 6.0]], 3)
    found = list(read_samples(path, 2))
    assert [(sample.values, sample.label) for sample in found] == [((1.0, 2.0), 3), ((5.0, 6.0), 3)]
    assert found[0].recording != found[1].recording


@pytest.mark.parametrize(("channels", "capacity"), [(2, 16), (1, 32)])
def test_ring_of_another_shape_is_begun_anew(path: Path, open_ring: Opener, channels: int, capacity: int) -> None:
    open_ring().append([[1.0]], 0)
    open_ring(channels, capacity)
    assert list(read_samples(path, channels)) == []


@given(damage=st.lists(st.integers(0, 16 * 24 + 19), max_size=4), written=st.integers(0, 40))
def test_damaged_slot_counts_as_not_there_and_nothing_else_is_lost(
    tmp_path_factory: pytest.TempPathFactory, damage: list[int], written: int
) -> None:
    path = tmp_path_factory.mktemp("ring") / "samples.ring"
    with closing(SampleRing.open(path, 1, 16)) as ring:
        for number in range(written):
            ring.append([[float(number)]], 0)
    whole = values(path)
    content = bytearray(path.read_bytes())
    hit = {(place - 20) // 24 for place in damage if place >= 20}
    for place in damage:
        if place >= 20:
            content[place] ^= 0x5A
    path.write_bytes(content)
    kept = values(path)
    spared = [value for value in whole if int(value) % 16 not in hit]
    assert [value for value in kept if int(value) % 16 not in hit] == spared
    assert set(kept) <= set(whole)


@pytest.mark.parametrize("content", [b"", b"gsr1", b"gsr2" + bytes(40), b"gsr1" + b"\xff" * 40])
def test_file_that_is_no_ring_is_named_by_its_reader_and_replaced_by_its_writer(
    path: Path, open_ring: Opener, content: bytes
) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError, match="no ring of samples with 1 values"):
        values(path)
    open_ring().append([[7.0]], 0)
    assert values(path) == [7.0]


def test_ring_becomes_recordings_that_end_at_gaps_and_changes_of_label(path: Path, open_ring: Opener) -> None:
    ring = open_ring(1, 100)
    ring.append([[1.0], [2.0]], 0)
    ring.begin_recording()
    ring.append([[3.0]], 0)
    ring.append([[4.0]], 1)
    source = RingSource(path, DataSourceSettings(columns=("v",)))
    found = source.load()
    assert [series[:, 0].tolist() for series in found.series] == [[1, 2], [3], [4]]
    assert list(found.labels) == [0, 0, 1]
    before = source.revision()
    ring.append([[5.0]], 1)
    assert source.revision() != before


def test_sensor_that_sent_nothing_is_named(path: Path, open_ring: Opener) -> None:
    source = RingSource(path, DataSourceSettings(columns=("v",)))
    with pytest.raises(DataError, match="has the sensor sent anything yet"):
        source.load()
    open_ring()
    with pytest.raises(DataError, match="no rows"):
        source.load()
