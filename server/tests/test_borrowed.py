import base64
import os

import numpy as np
import pytest

from server.borrowed import BorrowedVoice, RecentVoices, base64_chars, prompt_digest, recording_of
from server.errors import ApiError
from voices.profile import CheckedPrompt, PromptReport

DATA = os.urandom(1000)
BASE64 = base64.b64encode(DATA).decode()


def refused(text: str, max_bytes: int = 10_000) -> ApiError:
    with pytest.raises(ApiError) as caught:
        recording_of(text, max_bytes)
    assert caught.value.param == "ref_audio"
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        BASE64,
        f"data:audio/wav;base64,{BASE64}",
        f"DATA:audio/webm;codecs=opus;BASE64,{BASE64}",
        f"data:;base64,{BASE64}",
        base64.encodebytes(DATA).decode(),
        f"data:audio/mpeg;base64,\r\n {BASE64}\n",
    ],
)
def test_recording_comes_out_of_base64_and_of_data_urls(text: str) -> None:
    assert recording_of(text, len(DATA)) == DATA


def test_large_recording_comes_out_whole() -> None:
    data = os.urandom(2_000_003)
    assert recording_of(base64.b64encode(data).decode(), len(data)) == data


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/a.wav", "HTTPS://example.com/a.wav", "file:///etc/passwd", "s3://a/b", "x:"],
)
def test_no_url_is_fetched(url: str) -> None:
    error = refused(url)
    assert error.status == 400
    assert "no URL is fetched" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        "AAA",
        "AA-_",
        "\u00e4AAA",
        f"data:audio/wav,{BASE64}",
        f"data:audio/wav;base64{BASE64}",
        f"data:{'x' * 5000};base64,{BASE64}",
    ],
)
def test_what_is_no_base64_is_refused(text: str) -> None:
    assert refused(text).status == 400


@pytest.mark.parametrize("excess", [1, 2, 3, 1000])
def test_size_of_the_recording_is_limited_to_the_byte(excess: int) -> None:
    assert refused(BASE64, len(DATA) - excess).status == 413


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 1000])
def test_base64_is_as_long_as_is_said(size: int) -> None:
    assert base64_chars(size) == len(base64.b64encode(bytes(size)))


def voice(samples: int) -> BorrowedVoice:
    report = PromptReport(
        duration_s=1,
        given_duration_s=1,
        peak_dbfs=0,
        level_dbfs=0,
        clipped_share=0,
        silence_share=0,
        snr_db=0,
        trimmed_start_s=0,
        trimmed_end_s=0,
        gain_db=0,
    )
    prompt = CheckedPrompt(np.zeros(samples, np.float32), 24_000, report)
    return BorrowedVoice(prompt, prompt_digest(prompt))


def test_recent_voices_are_those_used_last_within_their_bytes() -> None:
    recent = RecentVoices(memory_bytes=2 * 400)
    for key in (b"a", b"b", b"a", b"c"):
        recent.put(key, voice(100))
    assert [recent.get(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]
    recent.put(b"d", voice(10_000))
    assert [recent.get(key) is not None for key in (b"a", b"c", b"d")] == [False, False, True]
