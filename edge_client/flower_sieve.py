"""A Flower client mod that sieves what a ClientApp has trained: put it before the app's others, and change no more.

The update, trained minus received weights, leaves as one codec frame; what it does not deliver stays in the context's
state and is added to the next one. `coordinator.sieved_grid` puts the weights together again before a strategy sees
them. One of the files here that may import Flower: the resident client never does.
"""

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp.typing import ClientAppCallable

from shared.compression.codec import Codec
from shared.compression.memory import ClientMemory, remembered
from shared.compression.plan import Plan
from shared.compression.registry import codec_for_update, memory_by_codec
from shared.errors import SettingsError
from shared.flower_records import FRAME, SIEVED, float_arrays
from shared.layout import F32, Layout

STATE = "gradsieve.memory"
GAIN_EIGHTHS = 12
LEAST_BUDGET_BYTES = 64


class SieveMod:
    """`ClientApp(mods=[SieveMod(ratio=100), …])`; one for each client, or one for all: what it keeps is in the context.

    Needs a request and a reply with one ArrayRecord each, of the same names, as Flower's own mods for privacy do; list
    those after this one, so that they see plain weights. Arrays of other than floats travel as they are.
    """

    def __init__(self, ratio: float = 100.0, codec: str = "partition") -> None:
        if not ratio >= 1:
            raise SettingsError(
                f"a ratio of {ratio:g}: it says how many times shorter than dense a frame is, at least 1"
            )
        self._ratio, self._codec = ratio, codec

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Sieve the reply to a `train` message; others pass."""
        received = _only_arrays(message)
        reply = call_next(message, context)
        if message.metadata.message_type.split(".")[0] != "train" or reply.has_error() or received is None:
            return reply
        trained = _only_arrays(reply)
        if trained is None:
            raise SettingsError("the reply has no ArrayRecord, or several: SieveMod sieves exactly one")
        layout, before = float_arrays(received)
        after = float_arrays(trained)[1]
        if after.keys() != before.keys():
            raise SettingsError("the reply has arrays of other names than the request: SieveMod needs the same")
        update = layout.join(after) - layout.join(before)
        frame = self._sieved(update, layout, context)
        key = next(iter(reply.content.array_records))
        rest = {name: array for name, array in trained.items() if name not in after}
        reply.content[key] = ArrayRecord(rest)
        reply.content[SIEVED] = ConfigRecord({FRAME: frame})
        return reply

    def _sieved(self, update: F32, layout: Layout, context: Context) -> bytes:
        """The frame of an update with what was left before; what is left now goes into the context."""
        memory = self._memory(layout, context)
        compensated = memory.compensate(update)
        codec: Codec = codec_for_update(self._codec, update)
        budget_bytes = max(int(4 * layout.size / self._ratio), LEAST_BUDGET_BYTES)
        encoded = codec.encode(compensated, layout, Plan(budget_bytes, gain_eighths=GAIN_EIGHTHS))
        context.state[STATE] = ArrayRecord({"state": Array(remembered(memory, compensated, encoded).state)})
        return encoded.frame

    def _memory(self, layout: Layout, context: Context) -> ClientMemory:
        kind = memory_by_codec(self._codec)
        if STATE in context.state.array_records:
            state = np.ascontiguousarray(context.state.array_records[STATE]["state"].numpy(), np.float32)
            try:
                return kind.from_state(state, layout.size)
            except ValueError:
                pass  # of another model: it owes that nothing any more
        return kind.zero(layout.size)


def _only_arrays(message: Message) -> ArrayRecord | None:
    records = list(message.content.array_records.values()) if message.has_content() else []
    return records[0] if len(records) == 1 else None
