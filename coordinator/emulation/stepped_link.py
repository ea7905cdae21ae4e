"""A link without a thread of its own: it works while somebody waits, so that virtual time passes then and only then."""

from collections.abc import Callable

from coordinator.link import Link, LinkHandler


class SteppedLink(Link):
    """A `Link` for one thread, on the clock it was given."""

    def start(self, handler: LinkHandler) -> None:
        """Connect; `handler` decides about uploads from now on."""
        self._handler = handler
        self.transport.connect(self.publisher.will())

    def close(self) -> None:
        """Say goodbye."""
        if self.connected:
            self.publisher.leave()
        self.transport.close()

    def wait_until(self, ready: Callable[[], bool], timeout_seconds: float) -> bool:
        """Let things happen until `ready()`; False once `timeout_seconds` of the link's clock have passed."""
        deadline = self._clock() + timeout_seconds
        while not ready():
            if self._clock() >= deadline:
                return False
            self._step(deadline)
        return True
