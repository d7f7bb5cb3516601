"""What a process gives up for good before it touches a hostile file."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_NICENESS = 5
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


def confine(cpu_s: int, memory_bytes: int) -> None:
    """Descriptors that are open can still be used; there will be no others, nor a core dump.

    A user's own processes can only ever tighten this. Root could undo it: serve as another user.

    Args:
        cpu_s: After which the kernel ends the process.
        memory_bytes: Of heap; more of it is refused.
    """
    os.nice(_NICENESS)
    for limit, value in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        # No descriptor: no file and no socket, of whatever protocol.
        (resource.RLIMIT_NOFILE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        tightest = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (tightest, tightest))
    if sys.platform == "linux":
        # Not to outlive its parent, nor to be looked into by others like it.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _prctl(_PR_SET_DUMPABLE, 0)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


# Looked up at import: nothing can be opened later.
_LIBC = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    if _LIBC.prctl(option, ctypes.c_ulong(value), zero, zero, zero):
        raise OSError(ctypes.get_errno(), f"prctl {option}")
