"""Messages over a Grid of Flower's and the replies to them, each known by whom it was sent to."""

import logging
from collections.abc import Callable, Iterator, Mapping

from flwr.app import Message
from flwr.serverapp import Grid

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1


class Exchange:
    """Sends, and gives replies as they come; `send_and_receive` of Flower's own grids keeps them all to the end.

    A reply counts for whoever the message was sent to, whatever node it says it is from.
    """

    def __init__(self, grid: Grid, clock: Callable[[], float], pause: Callable[[float], None]) -> None:
        self._grid, self._clock, self._pause = grid, clock, pause

    def replies(self, messages: Mapping[str, Message], seconds: float) -> Iterator[tuple[str, Message]]:
        """Client and reply, until every client of `messages` answered or the time is up."""
        deadline = self._clock() + seconds
        pushed = self._grid.push_messages(list(messages.values())) if messages else []
        waiting = dict(zip(pushed, messages, strict=True))
        while waiting:
            for reply in self._grid.pull_messages(list(waiting)):
                device = waiting.pop(reply.metadata.reply_to_message_id, None)
                if device is not None:
                    yield device, reply
            if waiting and self._clock() >= deadline:
                log.warning("waited %.0f s: no reply from %s", seconds, ", ".join(sorted(waiting.values())[:8]))
                return
            if waiting:
                self._pause(POLL_SECONDS)
