"""Messages over a Grid of Flower's and the replies to them, each known by whom it was sent to."""

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from shared.errors import RunError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
LOOK_SECONDS = 1.0
"""Time between two looks for clients that are asked and not there."""

Receiver = TypeVar("Receiver", bound=Hashable)
Find = Callable[[list[str], float], Mapping[str, Message]]
"""The messages to those of these clients that are there, with so many seconds left to answer."""


class Exchange:
    """Sends, and gives replies as they come; `send_and_receive` of Flower's own grids keeps them all to the end.

    A reply counts for whoever the message was sent to, whatever node it says it is from.
    """

    def __init__(self, grid: Grid, clock: Callable[[], float], pause: Callable[[float], None]) -> None:
        self._grid, self._clock, self._pause = grid, clock, pause

    def replies(self, clients: Iterable[str], find: Find, seconds: float) -> Iterator[tuple[str, Message]]:
        """Client and reply, until every client answered or the time is up; who is not there yet is looked for.

        Raises `RunError` where Flower takes not one of the messages.
        """
        look_at = self._clock()
        deadline = look_at + seconds
        unsent, waiting = list(clients), dict[str, str]()
        while unsent or waiting:
            if unsent and self._clock() >= look_at:
                sent = self._send(find(unsent, deadline - self._clock()))
                unsent = [client for client in unsent if client not in sent.values()]
                waiting |= sent
                look_at = self._clock() + LOOK_SECONDS
            yield from self._answers(waiting)
            if not unsent and not waiting:
                return
            if self._clock() >= deadline:
                missing = sorted([*unsent, *waiting.values()])
                log.warning("waited %.0f s: no reply from %s", seconds, ", ".join(missing[:8]))
                return
            self._pause(POLL_SECONDS)

    def _send(self, messages: Mapping[str, Message]) -> dict[str, str]:
        sent = push(self._grid, messages)
        if messages and not sent:
            raise RunError(
                f"Flower took none of {len(messages)} messages: see its log; "
                "where it says that they are too large, the job needs a smaller model, or goes over MQTT"
            )
        return sent

    def _answers(self, waiting: dict[str, str]) -> Iterator[tuple[str, Message]]:
        """Those that are there by now, taken out of `waiting`."""
        for reply in self._grid.pull_messages(list(waiting)) if waiting else ():
            client = waiting.pop(reply.metadata.reply_to_message_id, None)
            if client is not None:
                yield client, reply


def push(grid: Grid, messages: Mapping[Receiver, Message]) -> dict[str, Receiver]:
    """Send messages, and give the receiver of each that Flower took, by message id.

    What `push_messages` gives back lacks those that were not taken, or has an empty id for them, as the engine has it;
    the ids themselves stand in the messages by then.
    """
    if not messages:
        return {}
    taken = set(grid.push_messages(list(messages.values())))
    receivers = {message.metadata.message_id: receiver for receiver, message in messages.items()}
    return {key: receiver for key, receiver in receivers.items() if key and key in taken}
