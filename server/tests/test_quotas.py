"""What each key may ask for."""

from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient

from server.app import create_app
from server.catalog import Engines
from server.errors import ApiError
from server.keys import Key, Keyring
from server.quotas import Bucket, Quotas
from server.settings import KeyLimits, KeySettings, Settings
from server.tests.fakes import FakeEngine

SPEECH = "/v1/audio/speech"
HELLO = {"model": "tts-1", "voice": "low", "input": "one two"}
ONE = {"authorization": "Bearer one"}
TWO = {"authorization": "Bearer two"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client() -> Iterator[TestClient[Any]]:
    settings = Settings(
        api_keys=("one", "two"),
        key_limits=KeyLimits(requests_per_minute=2),
        keys={"key-2": KeySettings(requests_per_minute=0, chars_per_minute=10)},
    )
    with TestClient(create_app(settings, Engines({"espeak-ng": FakeEngine()}))) as client:
        yield client


def test_a_bucket_fills_evenly(clock: Clock) -> None:
    bucket = Bucket(60, clock)
    assert [bucket.take(30), bucket.take(30), bucket.take(3)] == [0.0, 0.0, 3.0]
    assert (bucket.remaining, bucket.reset_s) == (0, 60.0)
    clock.now = 3.0
    assert bucket.take(3) == 0.0
    clock.now = 1000.0
    assert bucket.remaining == 60


def test_more_than_a_minutes_worth_passes_when_all_is_there_and_is_owed(clock: Clock) -> None:
    bucket = Bucket(60, clock)
    assert bucket.take(90) == 0.0
    assert bucket.take(1) == 31.0
    assert bucket.remaining == 0


def test_requests_at_once_are_counted_until_they_end() -> None:
    quotas = Quotas(Keyring([Key("ada", "", KeyLimits(requests_in_flight=1)), Key("bob", "")]))
    with quotas.in_flight("ada"):
        with pytest.raises(ApiError) as refused, quotas.in_flight("ada"):
            pass
        with quotas.in_flight("bob"), quotas.in_flight("bob"), quotas.in_flight(None):
            pass
    assert refused.value.code == "rate_limit_exceeded"
    with quotas.in_flight("ada"):
        pass


def test_one_request_too_many_is_refused_before_it_is_read(client: TestClient[Any]) -> None:
    answers = [client.post(SPEECH, json=HELLO, headers=ONE) for _ in range(2)]
    assert [each.status_code for each in answers] == [200, 200]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "2"
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "1"
    assert answers[0].headers["x-ratelimit-reset-requests"].endswith("ms")
    refused = client.post(SPEECH, content=b"no JSON", headers=ONE)
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert 0 < int(refused.headers["retry-after-ms"]) <= 30_000
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"


def test_what_one_key_has_spent_is_no_others(client: TestClient[Any]) -> None:
    for _ in range(3):
        client.post(SPEECH, json=HELLO, headers=ONE)
    answer = client.post(SPEECH, json=HELLO, headers=TWO)
    assert answer.status_code == 200
    assert "x-ratelimit-limit-requests" not in answer.headers


def test_who_may_post_no_more_may_still_look(client: TestClient[Any]) -> None:
    for _ in range(3):
        client.post(SPEECH, json=HELLO, headers=ONE)
    assert client.get("/v1/models", headers=ONE).status_code == 200


def test_characters_are_spent_by_what_is_spoken(client: TestClient[Any]) -> None:
    assert client.post(SPEECH, json={**HELLO, "input": "seven.."}, headers=TWO).is_success
    refused = client.post(SPEECH, json={**HELLO, "input": "seven.."}, headers=TWO)
    assert refused.status_code == 429
    assert "characters a minute: 10" in refused.json()["error"]["message"]
    assert client.post(SPEECH, json={**HELLO, "voice": "nobody"}, headers=TWO).status_code == 429
    assert client.post(SPEECH, json={**HELLO, "input": "two"}, headers=TWO).is_success
