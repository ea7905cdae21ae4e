"""Under what load a benchmark ran, in a sentence for its result."""

import os


def load_before() -> str:
    """The load of the minute before, since a figure from a busy machine is another one."""
    return f"Begun at a load of {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
