"""What each key may ask for: requests at once, requests and characters a minute. Event loop only.

All of it is kept in memory: a server that starts again begins afresh.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil, floor

from server.context import RequestContext
from server.errors import ApiError, retry_headers
from server.keys import Keyring

_MINUTE_S = 60.0
_RETRY_IN_FLIGHT_S = 1.0
"""Nobody knows when a request will end."""


class Bucket:
    """Leave to spend so much a minute; what is spent comes back evenly.

    Args:
        per_minute: Also what may be spent at once.
        clock: Seconds, monotonic.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._left = float(per_minute)
        self._seen_at = clock()

    def take(self, amount: int) -> float:
        """Spend it; or spend nothing, and tell in how many seconds there will be enough.

        More than fits in is let through when nothing has been spent, and is owed afterwards.
        """
        missing = min(amount, self.per_minute) - self._fill()
        if missing > 0:
            return missing * _MINUTE_S / self.per_minute
        self._left -= amount
        return 0.0

    @property
    def remaining(self) -> int:
        return max(0, floor(self._fill()))

    @property
    def reset_s(self) -> float:
        """Until all that was spent has come back."""
        return (self.per_minute - self._fill()) * _MINUTE_S / self.per_minute

    def _fill(self) -> float:
        now = self._clock()
        gained = (now - self._seen_at) * self.per_minute / _MINUTE_S
        self._left = min(float(self.per_minute), self._left + gained)
        self._seen_at = now
        return self._left


class Quotas:
    """The limits of all keys, and what is spent of them. Who has no key has no limit.

    Args:
        keyring: Names and limits.
        clock: Seconds, monotonic.
    """

    def __init__(self, keyring: Keyring, clock: Callable[[], float] = time.monotonic) -> None:
        limits = {key.name: key.limits for key in keyring.keys}
        self._at_once = {
            name: each.requests_in_flight
            for name, each in limits.items()
            if each.requests_in_flight
        }
        self._requests = {
            name: Bucket(each.requests_per_minute, clock)
            for name, each in limits.items()
            if each.requests_per_minute
        }
        self._chars = {
            name: Bucket(each.chars_per_minute, clock)
            for name, each in limits.items()
            if each.chars_per_minute
        }
        self._in_flight: Counter[str] = Counter()

    def count_request(self, context: RequestContext) -> None:
        """Spend one request of the caller's, and have the answer tell what is left.

        Raises:
            ApiError: 429, there is none left.
        """
        if context.key is None or (bucket := self._requests.get(context.key)) is None:
            return
        wait_s = bucket.take(1)
        context.headers.update(
            {
                "x-ratelimit-limit-requests": str(bucket.per_minute),
                "x-ratelimit-remaining-requests": str(bucket.remaining),
                "x-ratelimit-reset-requests": f"{ceil(bucket.reset_s * 1000)}ms",
            }
        )
        if wait_s:
            raise _refused("requests_per_minute", f"requests a minute: {bucket.per_minute}", wait_s)

    def spend_chars(self, key: str | None, chars: int) -> None:
        """Spend characters of text that is to be spoken.

        Raises:
            ApiError: 429, there are not enough left.
        """
        if key is None or (bucket := self._chars.get(key)) is None:
            return
        if wait_s := bucket.take(chars):
            raise _refused("chars_per_minute", f"characters a minute: {bucket.per_minute}", wait_s)

    @contextmanager
    def in_flight(self, key: str | None) -> Iterator[None]:
        """One more request of the key's while the block runs.

        Raises:
            ApiError: 429, there are enough.
        """
        if key is None or (limit := self._at_once.get(key)) is None:
            yield
            return
        if self._in_flight[key] >= limit:
            raise _refused("requests_in_flight", f"requests at once: {limit}", _RETRY_IN_FLIGHT_S)
        self._in_flight[key] += 1
        try:
            yield
        finally:
            self._in_flight[key] -= 1


def _refused(limit: str, said: str, wait_s: float) -> ApiError:
    message = f"Rate limit reached for this API key; {said}. Try again in {ceil(wait_s)} s."
    headers = retry_headers(wait_s)
    return ApiError(429, message, code="rate_limit_exceeded", headers=headers, limit=limit)
