"""Makes this process give way to all others: the board has its own work to do."""

import ctypes
import os
import platform
from contextlib import suppress

NICE = 10
IOPRIO_SET_CALL = {"x86_64": 251, "aarch64": 30, "armv7l": 314, "armv6l": 314, "riscv64": 30}
"""Number of the system call `ioprio_set`, for which Python and the C library have no function."""
THIS_PROCESS, IDLE_CLASS, CLASS_SHIFT = 1, 3, 13


def give_way() -> None:
    """Take nice 10, and the idle class of disk access where the kernel allows it; whatever fails is left as it was."""
    with suppress(OSError):
        os.nice(NICE)
    call = IOPRIO_SET_CALL.get(platform.machine())
    if call is not None:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).syscall(call, THIS_PROCESS, 0, IDLE_CLASS << CLASS_SHIFT)
