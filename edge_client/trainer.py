"""The trainer seam: the agent hands over orders and collects answers, wherever the training runs."""

from typing import Protocol

from edge_client.orders import Answer, Order


class Trainer(Protocol):
    """Carries out one order after another, in order; every order gets exactly one answer."""

    def submit(self, order: Order) -> None:
        """Take an order. A trainer in a process of its own returns at once; one in this process does the work here."""

    def poll(self) -> list[Answer]:
        """The answers since the last poll, oldest first; never blocks."""

    def peak_rss_bytes(self) -> int:
        """Most memory that a trainer process of its own has had resident, 0 for a trainer in this process."""

    def resident_bytes(self) -> int:
        """Memory that a trainer process of its own has resident now, 0 where there is none."""

    def close(self) -> None:
        """End the trainer; open orders stay unanswered."""
