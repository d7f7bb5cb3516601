"""What the server says no with."""

from collections.abc import Callable

import msgspec

from server.errors import ApiError, ErrorEnvelope, detail_of


def refusal_of(work: Callable[[], object]) -> ApiError | None:
    """The error with which it refuses, which must be one that can be sent; None if it does not."""
    try:
        work()
    except ApiError as error:
        msgspec.json.encode(ErrorEnvelope(detail_of(error)))
        return error
    return None
