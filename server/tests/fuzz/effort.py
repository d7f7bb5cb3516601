"""How much is tried: a little and always the same in `make test`, much and at random at night."""

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))
"""How many times the examples of a short run."""


def tries(examples: int) -> settings:
    """Settings for a test that tries so many inputs in a short run."""
    return settings(
        max_examples=examples * FACTOR,
        derandomize=FACTOR == 1,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
