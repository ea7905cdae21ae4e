"""Wiring of a sensor's feed: its connection to the local broker, and its ring in the data folder."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

from edge_client.data_settings import SensorSettings
from edge_client.sample_ring import RING_FILE, SampleRing
from edge_client.sensor_feed import SensorFeed
from edge_client.settings import EdgeSettings
from shared.errors import SettingsError
from shared.paho_transport import PahoTransport
from shared.settings import BrokerLogin, BrokerSettings


@contextmanager
def sensor_fed(settings: EdgeSettings) -> Iterator[None]:
    """Keep what the sensor of the settings publishes, if they name one, until the block ends.

    Raises `OSError` for the ring, and `SettingsError` where a file for the login cannot be used.
    """
    source = settings.data_source
    if source.kind != "sensor" or source.sensor is None:
        yield
        return
    transport = _transport(source.sensor, f"{settings.name}-sensor")
    ring = SampleRing.open(settings.data / RING_FILE, len(source.columns), source.sensor.samples)
    feed = SensorFeed(source, source.sensor, transport, ring)
    feed.start()
    try:
        yield
    finally:
        feed.stop()


def _transport(sensor: SensorSettings, client_id: str) -> PahoTransport:
    broker = BrokerSettings(**{name: getattr(sensor, name) for name in BrokerLogin.model_fields})
    try:
        return PahoTransport(broker, client_id, random.Random())  # noqa: S311 - spreads reconnects
    except SettingsError as error:
        raise SettingsError(f"data_source.sensor: {error}") from None
