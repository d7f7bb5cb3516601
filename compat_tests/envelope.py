"""What every answer carries, and the one shape of an error."""

from collections.abc import Mapping

import httpx
import openai

KEYS = {"message", "type", "param", "code"}


def assert_platform_headers(headers: Mapping[str, str]) -> None:
    """The headers that each response has, whatever it is."""
    request_id = headers["x-request-id"]
    assert request_id.startswith("req_")
    assert int(request_id.removeprefix("req_"), 16) >= 0
    assert int(headers["openai-processing-ms"]) >= 0
    assert headers["openai-version"] == "2020-10-01"


def assert_error_body(error: object) -> None:
    """The inner error object: four keys, of which two may be null."""
    assert isinstance(error, dict)
    assert set(error) == KEYS
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)


def assert_envelope(
    response: httpx.Response, status: int, param: str | None = None, code: str | None = None
) -> None:
    """An error as it is on the wire. A `param` or `code` of None is not compared."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].split(";")[0] == "application/json"
    assert_platform_headers(response.headers)
    body = response.json()
    assert set(body) == {"error"}
    assert_error_body(body["error"])
    assert param is None or body["error"]["param"] == param
    assert code is None or body["error"]["code"] == code


def assert_sdk_error(
    error: openai.APIStatusError, param: str | None = None, code: str | None = None
) -> None:
    """An error as the SDK shows it. A `param` or `code` of None is not compared."""
    assert_error_body(error.body)
    assert error.request_id
    assert error.response.headers["content-type"].split(";")[0] == "application/json"
    assert_platform_headers(error.response.headers)
    assert param is None or error.param == param
    assert code is None or error.code == code
