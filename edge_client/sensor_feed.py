"""Keeps what a sensor publishes on a local broker: messages in, samples with the label of the moment out.

A sample is a JSON list with a number for each column, or an object with the columns as keys; a list of such is several
samples. The label is a text or a number on a topic of its own, best retained; an empty one, or `null`, says that what
comes belongs to no class, and it is not kept.
"""

import json
import logging
import threading
from collections.abc import Callable, Sequence

from edge_client.data_file import label_number
from edge_client.data_settings import DataSourceSettings, SensorSettings
from edge_client.sample_ring import SampleRing
from shared.errors import DataError
from shared.transport import Connected, Disconnected, Received, Transport

log = logging.getLogger(__name__)

LARGEST_PAYLOAD_BYTES = 64 * 1024
LARGEST_VALUE = 3.4e38
WAIT_SECONDS = 1.0
STOP_SECONDS = 5.0


class SensorFeed:
    """Writes to a ring what comes over a transport of its own. Nothing is queued: memory is one message.

    `handle` takes one event, and `start` serves in a thread until `stop`.
    """

    def __init__(self, settings: DataSourceSettings, sensor: SensorSettings, transport: Transport, ring: SampleRing):
        self._columns, self._classes = settings.columns, settings.classes
        self._sensor, self._transport, self._ring = sensor, transport, ring
        self._label: int | None = None
        self._fault = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="sensor", daemon=True)

    def start(self) -> None:
        """Connect, and serve in the background."""
        self._transport.connect(None)
        self._thread.start()

    def stop(self) -> None:
        """End the connection, then the thread."""
        self._stopping.set()
        self._transport.wake()
        self._thread.join(STOP_SECONDS)
        self._transport.close()
        self._ring.close()

    def handle(self, event: object) -> None:
        """Act on one event; what is no sample is passed over, and said once until a good one comes."""
        match event:
            case Connected():
                self._ring.begin_recording()
                self._label = None
                self._transport.subscribe(self._sensor.label_topic, self._sensor.topic)
            case Disconnected(reason):
                self._complain(f"no link to the sensor's broker: {reason}")
            case Received(topic, payload):
                try:
                    self._take(topic, payload)
                    self._fault = ""
                except (DataError, OSError) as error:
                    self._complain(f"what the sensor sent on {topic[:120]} is passed over: {error}")

    def _serve(self) -> None:
        while not self._stopping.is_set():
            event = self._transport.receive(WAIT_SECONDS)
            if event is not None:
                self.handle(event)

    def _take(self, topic: str, payload: bytes) -> None:
        if topic == self._sensor.label_topic:
            self._label = _label(payload, self._classes)
            self._ring.begin_recording()
        elif topic == self._sensor.topic and self._label is not None:
            self._ring.append(samples_in(payload, self._columns), self._label)

    def _complain(self, fault: str) -> None:
        if not self._fault:
            log.warning("%s", fault)
        self._fault = fault


def samples_in(payload: bytes, columns: Sequence[str]) -> list[list[float]]:
    """The samples in a message, a value for each of `columns`; raises `DataError`."""
    found = _json(payload)
    if isinstance(found, list) and found and isinstance(found[0], list | dict):
        return [_sample(item, columns) for item in found]
    return [_sample(found, columns)]


def _sample(item: object, columns: Sequence[str]) -> list[float]:
    if isinstance(item, dict):
        missing = [column for column in columns if column not in item]
        if missing:
            raise DataError(f"a sample without {', '.join(missing)}")
        item = [item[column] for column in columns]
    if not isinstance(item, list) or len(item) != len(columns):
        raise DataError(f"a sample is a list of {len(columns)} numbers, or an object of {', '.join(columns)}")
    return [_number(value) for value in item]


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{str(value)[:40]!r} is no number")
    if not abs(value) <= LARGEST_VALUE:  # so put, it is true of NaN, and of integers that no float can hold
        raise DataError(f"{str(value)[:40]} is no finite number")
    return float(value)


def _label(payload: bytes, classes: Sequence[str]) -> int | None:
    text = payload[:200].decode("utf-8", errors="replace").strip().strip('"')
    return None if text in ("", "null") else label_number(text, classes, "label")


def _json(payload: bytes) -> object:
    if len(payload) > LARGEST_PAYLOAD_BYTES:
        raise DataError(f"a message of {len(payload)} bytes, {LARGEST_PAYLOAD_BYTES} are taken at most")
    parse: Callable[[bytes], object] = json.loads
    try:
        return parse(payload)
    except (ValueError, RecursionError):
        raise DataError("a message that is no JSON") from None
