"""Fields of ours in a speech request: how it is drawn, and a voice that comes along with it."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from openai import APIStatusError, BadRequestError, OpenAI

from compat_tests.audio import PCM_RATE_HZ, SILENCE_RMS, Clip, decode
from compat_tests.conftest import API_KEY, TIMEOUT_S
from compat_tests.envelope import assert_sdk_error
from compat_tests.events import audio_of, events_of
from compat_tests.process import ServerProcess
from compat_tests.recordings import encode, silence, wav
from compat_tests.texts import FIVE_SECONDS, SENTENCE

SPEECH = "/v1/audio/speech"
VOICES = "/v1/audio/voices"
LOW, HIGH = "onyx", "shimmer"

ServerFactory = Callable[[Mapping[str, str]], ServerProcess]


@pytest.fixture(scope="module")
def recordings(client: OpenAI) -> dict[str, bytes]:
    """A low voice and a high one, as wave files of some five seconds."""
    return {
        voice: client.audio.speech.create(
            model="tts-1", voice=voice, input=FIVE_SECONDS, response_format="wav"
        ).content
        for voice in (LOW, HIGH)
    }


def data_url(recording: bytes, media_type: str = "audio/wav") -> str:
    return f"data:{media_type};base64,{base64.b64encode(recording).decode()}"


def speak(client: OpenAI, **fields: object) -> tuple[npt.NDArray[np.float32], Mapping[str, str]]:
    """Samples at 24 kHz, and headers, of a request with these keys in its JSON."""
    raw = client.audio.speech.with_raw_response.create(
        model="tts-1", voice="alloy", input=SENTENCE, response_format="pcm", extra_body=fields
    )
    return decode(raw.content, "pcm").samples, raw.headers


def refusal(client: OpenAI, **fields: object) -> BadRequestError:
    with pytest.raises(BadRequestError) as caught:
        speak(client, **fields)
    return caught.value


def pitch_hz(samples: npt.NDArray[np.float32]) -> float:
    """The median over frames of 40 ms, by autocorrelation between 50 and 400 Hz."""
    frames = samples[: len(samples) // 960 * 960].reshape(-1, 960)
    loud = frames[np.sqrt(np.mean(frames**2, axis=1)) > 10 * SILENCE_RMS]
    spectrum = np.abs(np.fft.rfft(loud, 2 * 960)) ** 2
    lags = np.fft.irfft(spectrum)[:, PCM_RATE_HZ // 400 : PCM_RATE_HZ // 50]
    return float(np.median(PCM_RATE_HZ / (PCM_RATE_HZ // 400 + np.argmax(lags, axis=1))))


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.01, "top_p": 0.01, "top_k": 1, "strategy": "fast"},
        {"temperature": 2, "top_p": 1, "top_k": 1000, "sampling_strategy": "quality"},
        {"temperature": None, "top_p": None, "top_k": None, "strategy": None},
    ],
)
def test_sampling_fields_are_taken_by_any_engine(client: OpenAI, fields: dict[str, object]) -> None:
    plain, _ = speak(client)
    samples, _ = speak(client, **fields)
    assert len(samples) == pytest.approx(len(plain), rel=0.01)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("temperature", value) for value in (0, -1, 2.01, "warm", True)),
        *(("top_p", value) for value in (0, 1.01, [0.5])),
        *(("top_k", value) for value in (0, 1001, 2.5)),
        *(("strategy", value) for value in ("best", "", 5)),
        ("sampling_strategy", "best"),
    ],
)
def test_a_sampling_field_out_of_its_range_is_refused(
    client: OpenAI, field: str, value: object
) -> None:
    assert_sdk_error(refusal(client, **{field: value}), param=field)


def test_what_the_engine_does_not_honour_is_told(client: OpenAI, http: httpx.Client) -> None:
    given = {"seed": 7, "instructions": "calm", "temperature": 0.8, "top_p": 0.9, "top_k": 20}
    honours = http.get("/v1/models/tts-1").json()["honours"]
    assert honours == sorted(honours)
    for extra in ({}, {"stream_format": "sse"}, {"stream": False}):
        answer = http.post(
            SPEECH, json={"model": "tts-1", "voice": "alloy", "input": "Hello.", **given, **extra}
        )
        ignored = answer.headers["x-rhapsode-ignored"].split(", ")
        assert set(ignored) == set(given) - set(honours)
    _, headers = speak(client)
    assert "x-rhapsode-ignored" not in headers


def test_a_recording_is_spoken_with(client: OpenAI, recordings: dict[str, bytes]) -> None:
    low, high = (speak(client, ref_audio=data_url(recordings[name])) for name in (LOW, HIGH))
    for samples, headers in (low, high):
        assert Clip(samples, PCM_RATE_HZ, 1).rms > SILENCE_RMS
        assert headers["x-rhapsode-voice"] in {"followed", "cloned"}
    for (samples, _), name in ((low, LOW), (high, HIGH)):
        own = pitch_hz(decode(recordings[name], "wav").samples)
        assert pitch_hz(samples) == pytest.approx(own, rel=0.15)
    assert pitch_hz(high[0]) > 2 * pitch_hz(low[0])


def test_the_voices_name_does_not_matter_then(
    client: OpenAI, http: httpx.Client, recordings: dict[str, bytes]
) -> None:
    recording = data_url(recordings[HIGH])
    request = {"model": "tts-1", "input": SENTENCE, "response_format": "pcm", "seed": 1}
    nameless = http.post(SPEECH, json={**request, "ref_audio": recording})
    assert nameless.status_code == 200, nameless.text
    named, _ = speak(client, ref_audio=recording, seed=1, voice="no-such-voice")
    assert np.array_equal(decode(nameless.content, "pcm").samples, named)


def test_a_recording_may_come_as_bare_base64(client: OpenAI, recordings: dict[str, bytes]) -> None:
    first, _ = speak(client, ref_audio=data_url(recordings[LOW]), seed=1)
    for text in (
        base64.b64encode(recordings[LOW]).decode(),
        base64.encodebytes(recordings[LOW]).decode(),
        data_url(recordings[LOW], "audio/webm;codecs=opus"),
    ):
        again, _ = speak(client, ref_audio=text, ref_text=FIVE_SECONDS, seed=1)
        assert np.array_equal(first, again)


@pytest.mark.parametrize("extension", ["mp3", "ogg", "flac", "webm", "m4a"])
def test_a_recording_may_be_any_audio_file(
    client: OpenAI, recordings: dict[str, bytes], extension: str
) -> None:
    recording = encode(decode(recordings[HIGH], "wav"), extension)
    samples, _ = speak(client, ref_audio=data_url(recording))
    plain, _ = speak(client, ref_audio=data_url(recordings[HIGH]))
    assert pitch_hz(samples) == pytest.approx(pitch_hz(plain), rel=0.05)


def test_a_recording_may_be_larger_than_other_json(
    client: OpenAI, recordings: dict[str, bytes]
) -> None:
    samples = decode(recordings[LOW], "wav").samples
    recording = wav(samples.repeat(4), 4 * PCM_RATE_HZ, channels=8)
    assert len(recording) > 7 << 20
    answer, _ = speak(client, ref_audio=data_url(recording))
    plain, _ = speak(client, ref_audio=data_url(recordings[LOW]))
    assert pitch_hz(answer) == pytest.approx(pitch_hz(plain), rel=0.05)


def test_a_recording_larger_than_an_upload_is_too_large(client: OpenAI) -> None:
    with pytest.raises(APIStatusError) as caught:
        speak(client, ref_audio=data_url(bytes(26_214_401)))
    assert caught.value.status_code == 413
    assert_sdk_error(caught.value, param="ref_audio", code="request_too_large")


def test_events_come_in_the_recordings_voice_too(
    http: httpx.Client, recordings: dict[str, bytes]
) -> None:
    request = {"model": "tts-1", "input": SENTENCE, "response_format": "pcm", "seed": 1}
    request["ref_audio"] = data_url(recordings[HIGH])
    plain = http.post(SPEECH, json=request)
    with http.stream("POST", SPEECH, json={**request, "stream_format": "sse"}) as answer:
        assert answer.headers["x-rhapsode-voice"] == plain.headers["x-rhapsode-voice"]
        assert audio_of(events_of(answer.iter_lines())) == plain.content


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/a.wav",
        "https://example.com/a.wav",
        "file:///etc/passwd",
        "s3://bucket/a.wav",
        "HTTP://LOCALHOST/",
    ],
)
def test_a_url_is_refused_and_the_message_says_that_none_is_fetched(
    client: OpenAI, url: str
) -> None:
    error = refusal(client, ref_audio=url)
    assert_sdk_error(error, param="ref_audio")
    assert "URL" in error.message


@pytest.mark.parametrize(
    "ref_audio",
    [
        pytest.param("", id="empty"),
        pytest.param("!!!", id="not base64"),
        pytest.param("data:audio/wav;base64,", id="an empty file"),
        pytest.param("data:audio/wav,RIFF", id="a data URL without base64"),
        pytest.param(data_url(b"not audio" * 100), id="not audio"),
        pytest.param(data_url(encode(silence(5.0), "wav")), id="silence"),
        pytest.param(5, id="a number"),
        pytest.param(["UklGRg=="], id="a list"),
    ],
)
def test_what_is_no_recording_is_refused(client: OpenAI, ref_audio: object) -> None:
    assert_sdk_error(refusal(client, ref_audio=ref_audio), param="ref_audio")


def test_a_recording_too_short_or_too_long_is_refused(
    client: OpenAI, recordings: dict[str, bytes]
) -> None:
    samples = decode(recordings[LOW], "wav").samples
    for clip in (samples[:PCM_RATE_HZ], np.tile(samples, 10)):
        error = refusal(client, ref_audio=data_url(wav(clip, PCM_RATE_HZ)))
        assert_sdk_error(error, param="ref_audio")


def test_a_text_without_its_recording_is_refused(client: OpenAI) -> None:
    assert_sdk_error(refusal(client, ref_text=SENTENCE), param="ref_text")


def test_without_a_recording_a_voice_is_still_needed(http: httpx.Client) -> None:
    for extra in ({}, {"ref_audio": None}):
        answer = http.post(SPEECH, json={"model": "tts-1", "input": "Hello.", **extra})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "voice"


def test_a_recording_sounds_as_if_it_was_stored_and_is_not(
    server_factory: ServerFactory, recordings: dict[str, bytes], tmp_path: Path
) -> None:
    server = server_factory({"XDG_DATA_HOME": str(tmp_path)})
    headers = {"authorization": f"Bearer {API_KEY}"}
    request = {"model": "tts-1", "input": SENTENCE, "response_format": "pcm", "seed": 1}
    brought = {"ref_audio": data_url(recordings[HIGH]), "ref_text": FIVE_SECONDS}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=TIMEOUT_S) as http:
        lent = http.post(SPEECH, json={**request, **brought})
        assert http.get(VOICES).json()["uploaded_voices"] == []
        assert not [path for path in tmp_path.rglob("*") if path.suffix in {".flac", ".json"}]
        form = {"name": "Kept", "ref_text": FIVE_SECONDS}
        http.post(VOICES, data=form, files={"audio_sample": recordings[HIGH]}).raise_for_status()
        kept = http.post(SPEECH, json={**request, "voice": "Kept"})
    assert lent.status_code == kept.status_code == 200
    assert lent.headers["x-rhapsode-voice"] == kept.headers["x-rhapsode-voice"]
    assert lent.content == kept.content
