"""Every form in which the SDK sends a file, and every format, comes back as text."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest
from openai import OpenAI

from compat_tests.audio import Clip
from compat_tests.recordings import CONTAINERS, encode, encode_video, wav
from compat_tests.texts import WEATHER, share_heard

UNDERSTOOD = 0.6
"""Of the words; a broken pipeline gives noise, of which hardly one is among them."""

Open: TypeAlias = Callable[[Path], Any]


def assert_understood(client: OpenAI, file: Any) -> None:
    """The transcript of WEATHER has most of its words."""
    answer = client.audio.transcriptions.create(model="whisper-1", file=file)
    assert share_heard(WEATHER, answer.text) >= UNDERSTOOD


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(lambda path: path.open("rb"), id="open file"),
        pytest.param(lambda path: path.read_bytes(), id="bytes"),
        pytest.param(lambda path: io.BytesIO(path.read_bytes()), id="BytesIO"),
        pytest.param(lambda path: path, id="Path"),
        pytest.param(lambda path: ("x.webm", path.read_bytes(), "audio/webm"), id="wrong names"),
        pytest.param(lambda path: ("noise", path.read_bytes()), id="no extension"),
        pytest.param(lambda path: ("тихо 静か.wav", path.read_bytes()), id="name not in ASCII"),
    ],
)
def test_a_file_may_come_in_any_form_of_the_sdk(
    client: OpenAI, weather_wav: bytes, tmp_path: Path, given: Open
) -> None:
    path = tmp_path / "speech.wav"
    path.write_bytes(weather_wav)
    file = given(path)
    try:
        assert_understood(client, file)
    finally:
        if isinstance(file, io.IOBase):
            file.close()


@pytest.mark.parametrize("extension", CONTAINERS)
def test_every_format_is_understood(client: OpenAI, weather: Clip, extension: str) -> None:
    assert_understood(client, (f"speech.{extension}", encode(weather, extension)))


def test_the_sound_of_a_video_is_understood(client: OpenAI, weather: Clip) -> None:
    assert_understood(client, ("film.mp4", encode_video(weather)))


@pytest.mark.parametrize("channels", [2, 8])
def test_channels_are_mixed(client: OpenAI, weather: Clip, channels: int) -> None:
    file = wav(weather.samples, weather.sample_rate, channels)
    assert_understood(client, ("many.wav", file))


@pytest.mark.parametrize("sample_rate", [8_000, 96_000])
def test_a_recording_is_resampled(client: OpenAI, weather: Clip, sample_rate: int) -> None:
    """Only the sentence's length is compared: 8 kHz is a telephone to the recogniser."""
    samples = weather.samples.repeat(4)[:: 4 * weather.sample_rate // sample_rate]
    answer = client.audio.transcriptions.create(
        model="whisper-1",
        file=("rate.wav", wav(samples, sample_rate)),
        response_format="verbose_json",
    )
    assert answer.duration == pytest.approx(weather.duration_s, rel=0.02)
    assert answer.text


def test_a_chunked_upload_needs_no_length(http: httpx.Client, weather_wav: bytes) -> None:
    """As openai-node sends a read stream."""
    form = httpx.Request(
        "POST", "http://x", data={"model": "whisper-1"}, files={"file": ("a.wav", weather_wav)}
    )
    body = form.read()

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    answer = http.post(
        "/v1/audio/transcriptions",
        content=pieces(),
        headers={"content-type": form.headers["content-type"]},
    )
    assert "content-length" not in answer.request.headers
    assert share_heard(WEATHER, answer.json()["text"]) >= UNDERSTOOD


@pytest.mark.parametrize("file_first", [True, False])
def test_the_order_of_the_parts_does_not_matter(
    http: httpx.Client, weather_wav: bytes, file_first: bool
) -> None:
    parts: list[tuple[str, Any]] = [
        ("model", (None, "whisper-1")),
        ("response_format", (None, "text")),
        ("file", ("a.wav", weather_wav)),
    ]
    answer = http.post(
        "/v1/audio/transcriptions", files=parts[::-1] if file_first else parts
    ).raise_for_status()
    assert share_heard(WEATHER, answer.text) >= UNDERSTOOD
