"""Wiring of a sensor's feed: its connection to the local broker, and its ring in the data folder."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

from edge_client.sample_ring import RING_FILE, SampleRing
from edge_client.sensor_feed import SensorFeed
from edge_client.settings import EdgeSettings
from shared.paho_transport import PahoTransport
from shared.settings import BrokerSettings


@contextmanager
def sensor_fed(settings: EdgeSettings) -> Iterator[None]:
    """Keep what the sensor of the settings publishes, if they name one, until the block ends; raises `OSError`."""
    source = settings.data_source
    if source.kind != "sensor" or source.sensor is None:
        yield
        return
    broker = BrokerSettings(host=source.sensor.host, port=source.sensor.port)
    transport = PahoTransport(broker, f"{settings.name}-sensor", random.Random())  # noqa: S311 - spreads reconnects
    ring = SampleRing.open(settings.data / RING_FILE, len(source.columns), source.sensor.samples)
    feed = SensorFeed(source, source.sensor, transport, ring)
    feed.start()
    try:
        yield
    finally:
        feed.stop()
