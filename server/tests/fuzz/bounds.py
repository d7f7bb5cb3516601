"""How much one input may cost."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

WITHIN_S = 5.0
"""Of processor time; each takes some milliseconds on a machine that is idle."""
MEMORY_BYTES = 256 << 20
"""That the process may grow by in a whole run; an input is a few kilobytes."""


@contextmanager
def soon() -> Iterator[None]:
    """Fails if what is inside takes long."""
    begun = time.process_time()
    yield
    took_s = time.process_time() - begun
    assert took_s < WITHIN_S, f"one input took {took_s:.1f} s"


@contextmanager
def in_little_memory() -> Iterator[None]:
    """Fails if the process, native code included, grows much."""
    before = _peak_bytes()
    yield
    grown = _peak_bytes() - before
    assert grown < MEMORY_BYTES, f"the process grew by {grown >> 20} MiB"


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
