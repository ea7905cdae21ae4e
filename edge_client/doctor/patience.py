"""A deadline for anything: name services, file servers and disks that hang do not hold up the examination."""

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from edge_client.doctor.finding import Finding

Look = Callable[[], Sequence[Finding]]


def within(seconds: float, check: str, look: Look) -> Sequence[Finding]:
    """What `look` finds; a failure when it has not ended after so long, and then it is left to itself.

    A fault of its own ends it too: Python prints the trace, and the finding points there.
    """
    answers: SimpleQueue[Sequence[Finding] | None] = SimpleQueue()

    def work() -> None:
        found: Sequence[Finding] | None = None
        try:
            found = look()
        finally:
            answers.put(found)

    threading.Thread(target=work, name=f"doctor-{check}", daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except Empty:
        return [Finding.fail(check, f"did not end within {seconds:g} s", "see what hangs: network, name service, disk")]
    if found is None:
        return [Finding.fail(check, "the check itself failed, as printed above", "report this as a fault of gradsieve")]
    return found
