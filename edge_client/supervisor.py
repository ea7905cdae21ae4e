"""What watches this process from outside: systemd, told by datagrams how the agent is (sd_notify(3))."""

import logging
import socket
from collections.abc import Mapping
from typing import Protocol

log = logging.getLogger(__name__)

FEEDS_A_PERIOD = 4
"""The watchdog is fed so often within its time, that a slow turn or two does not matter."""
LONGEST_STATUS = 500


class Supervisor(Protocol):
    """Hears from the agent's own loop, and from nowhere else, that it turns."""

    def turned(self, status: str, now: float) -> None:
        """The loop has done one turn and is in this state, a few words; `now` in monotonic seconds."""

    def stopping(self) -> None:
        """The agent leaves."""


class Unsupervised:
    """Nobody watches: on a terminal, in fleets, in tests."""

    def turned(self, status: str, now: float) -> None:
        """Tell no one."""

    def stopping(self) -> None:
        """Tell no one."""


class Systemd:
    """The notification socket at `address`: a path, or the name of an abstract socket behind `@`.

    Sends READY=1 with the first turn, STATUS= when it changes, and WATCHDOG=1 with turns, several times within
    `watchdog_seconds`; None stands for no watchdog. Where one turn may take `longest_turn_seconds`, systemd is asked to
    wait so long instead. What could not be sent is sent with the next turn: systemd away never stops the agent.
    """

    def __init__(self, address: str, watchdog_seconds: float | None, longest_turn_seconds: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._feed_seconds = watchdog_seconds / FEEDS_A_PERIOD if watchdog_seconds else None
        self._greeting = ["READY=1"]
        if watchdog_seconds is not None and longest_turn_seconds > watchdog_seconds:
            self._greeting.append(f"WATCHDOG_USEC={int(longest_turn_seconds * 1e6)}")
        self._status: str | None = None
        self._fed: float | None = None
        self._reachable = True

    def turned(self, status: str, now: float) -> None:
        """Tell what is new, and feed the watchdog when it is time."""
        hungry = self._feed_seconds is not None and (self._fed is None or now - self._fed >= self._feed_seconds)
        lines = list(self._greeting)
        lines += [] if status == self._status else ["STATUS=" + status[:LONGEST_STATUS].replace("\n", " ")]
        lines += ["WATCHDOG=1"] if hungry else []
        if lines and self._send("\n".join(lines)):
            self._greeting, self._status = [], status
            self._fed = now if hungry else self._fed

    def stopping(self) -> None:
        """Tell that the end is meant."""
        self._send("STOPPING=1\nSTATUS=leaving")

    def _send(self, text: str) -> bool:
        """One datagram, without waiting; False when it did not get there."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagrams:
                datagrams.setblocking(False)
                datagrams.sendto(text.encode(), self._address)
        except OSError as error:
            if self._reachable:
                log.warning("systemd cannot be told how this program is: %s", error)
            self._reachable = False
        else:
            self._reachable = True
        return self._reachable


def supervisor(environment: Mapping[str, str], process: int, longest_turn_seconds: float = 0.0) -> Supervisor:
    """Who watches the process of this number, by the variables that systemd sets."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return Unsupervised()
    is_watched = environment.get("WATCHDOG_PID", str(process)) == str(process)
    watchdog_seconds = _seconds(environment.get("WATCHDOG_USEC", "")) if is_watched else None
    return Systemd(address, watchdog_seconds, longest_turn_seconds)


def _seconds(microseconds: str) -> float | None:
    return int(microseconds) / 1e6 if microseconds.isascii() and microseconds.isdigit() and int(microseconds) else None
