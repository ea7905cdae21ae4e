import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.data_settings import DataSourceSettings, SensorSettings
from edge_client.sample_ring import Sample, SampleRing, read_samples
from edge_client.sensor_feed import LARGEST_PAYLOAD_BYTES, SensorFeed, samples_in
from shared.errors import DataError
from shared.memory_transport import MemoryBroker, MemoryTransport
from shared.transport import Connected, Publication, Received

SENSOR = SensorSettings(topic="imu", label_topic="activity", samples=16)
SETTINGS = DataSourceSettings(kind="sensor", columns=("x", "y"), classes=("rest", "walk"), sensor=SENSOR)


class Bench:
    """A feed whose events are given by hand, and what is in its ring."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "samples.ring"
        self.ring = SampleRing.open(self.path, 2, SENSOR.samples)
        self.feed = SensorFeed(SETTINGS, SENSOR, MemoryTransport(MemoryBroker(), "sensor"), self.ring)

    def say(self, topic: str, payload: bytes) -> None:
        self.feed.handle(Received(topic, payload, retained=False))

    def samples(self) -> list[Sample]:
        return list(read_samples(self.path, 2))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.ring.close()


def test_samples_get_the_label_of_the_moment(bench: Bench) -> None:
    bench.say("activity", b"walk")
    bench.say("imu", b"[1, 2]")
    bench.say("imu", b'[{"x": 3, "y": 4.5, "t": 9}, [5, 6]]')
    bench.say("activity", b'"rest"')
    bench.say("imu", b'{"y": 8, "x": 7}')
    found = bench.samples()
    assert [(s.values, s.label) for s in found] == [((1, 2), 1), ((3, 4.5), 1), ((5, 6), 1), ((7, 8), 0)]
    assert found[0].recording == found[2].recording != found[3].recording


@pytest.mark.parametrize("nothing", [b"", b"null", b" "])
def test_what_belongs_to_no_class_is_not_kept(bench: Bench, nothing: bytes) -> None:
    bench.say("imu", b"[1, 2]")
    bench.say("activity", b"walk")
    bench.say("activity", nothing)
    bench.say("imu", b"[1, 2]")
    assert bench.samples() == []


def test_new_link_begins_another_recording_and_waits_for_a_label(bench: Bench) -> None:
    bench.say("activity", b"walk")
    bench.say("imu", b"[1, 2]")
    bench.feed.handle(Connected(1000))
    bench.say("imu", b"[3, 4]")
    bench.say("activity", b"walk")
    bench.say("imu", b"[5, 6]")
    found = bench.samples()
    assert [sample.values for sample in found] == [(1, 2), (5, 6)]
    assert found[0].recording != found[1].recording


HUGE = b"[1, 1" + b"0" * 400 + b"]"
LONG = b" " * (LARGEST_PAYLOAD_BYTES + 1)
MALFORMED = [b"", b"no json", b"[]", b"{}", b"7", b'{"x": 1}', b"[[1, 2], [3]]", b"[" * 5000, LONG]
UNFIT = [b"[1]", b"[1, 2, 3]", b'[1, "2"]', b"[1, NaN]", b"[1, 1e39]", b"[1, true]", HUGE]


@pytest.mark.parametrize("payload", MALFORMED + UNFIT, ids=lambda payload: repr(payload[:12]))
def test_what_is_no_sample_is_passed_over_and_said_once(
    bench: Bench, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    bench.say("activity", b"walk")
    for _ in range(5):
        bench.say("imu", payload)
    bench.say("imu", b"[1, 2]")
    assert [sample.values for sample in bench.samples()] == [(1, 2)]
    assert len(caplog.records) == 1
    assert "what the sensor sent on imu is passed over" in caplog.text


plain = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3)


def nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("xyz"), inner)


@given(st.recursive(plain, nested))
def test_any_json_is_samples_of_finite_numbers_or_a_data_error(item: object) -> None:
    try:
        found = samples_in(json.dumps(item).encode(), ("x", "y"))
    except DataError:
        return
    assert all(len(sample) == 2 and all(abs(value) <= 3.4e38 for value in sample) for sample in found)


def test_feed_serves_over_a_transport_of_its_own_until_it_is_stopped(tmp_path: Path) -> None:
    broker = MemoryBroker()
    ring = SampleRing.open(tmp_path / "samples.ring", 2, 16)
    feed = SensorFeed(SETTINGS, SENSOR, MemoryTransport(broker, "board-sensor"), ring)
    sensor = MemoryTransport(broker, "imu")
    sensor.connect(None)
    sensor.publish(Publication("activity", b"walk", retain=True))
    feed.start()
    for _ in range(200):
        sensor.publish(Publication("imu", b"[1, 2]"))
        sensor.receive(0.05)
        if ring.written:
            break
    feed.stop()
    assert {(s.values, s.label) for s in read_samples(tmp_path / "samples.ring", 2)} == {((1.0, 2.0), 1)}
