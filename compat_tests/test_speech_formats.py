"""Every response format is what its name says: type, first bytes, rate, channels, speech."""

import io
import wave

import httpx
import pytest
from openai import OpenAI

from compat_tests.audio import (
    CONTENT_TYPE,
    FORMATS,
    MAGIC,
    PCM_BYTES_PER_S,
    SILENCE_RMS,
    Format,
    decode,
)
from compat_tests.texts import PARAGRAPH, SENTENCE

UNKNOWN_SIZE = b"\xff\xff\xff\xff"


def test_mp3_is_the_default_format(client: OpenAI) -> None:
    answer = client.audio.speech.create(model="tts-1", voice="alloy", input="hi")
    assert answer.response.headers["content-type"] == "audio/mpeg"
    assert MAGIC["mp3"].match(answer.content)
    assert decode(answer.content, "mp3").rms > SILENCE_RMS


@pytest.mark.parametrize("response_format", FORMATS)
def test_a_format_is_what_its_name_says(client: OpenAI, response_format: Format) -> None:
    answer = client.audio.speech.create(
        model="tts-1", voice="alloy", input=SENTENCE, response_format=response_format
    )
    assert answer.response.headers["content-type"] == CONTENT_TYPE[response_format]
    assert MAGIC[response_format].match(answer.content)
    clip = decode(answer.content, response_format)
    assert clip.sample_rate == (48_000 if response_format == "opus" else 24_000)
    assert clip.channels == 1
    assert clip.rms > SILENCE_RMS


@pytest.mark.parametrize("response_format", FORMATS)
def test_every_format_lasts_as_long_as_the_pcm(client: OpenAI, response_format: Format) -> None:
    def spoken(chosen: Format) -> float:
        answer = client.audio.speech.create(
            model="tts-1", voice="alloy", input=PARAGRAPH, response_format=chosen
        )
        return decode(answer.content, chosen).duration_s

    assert spoken(response_format) == pytest.approx(spoken("pcm"), rel=0.05)


def test_pcm_is_whole_samples(client: OpenAI) -> None:
    answer = client.audio.speech.create(
        model="tts-1", voice="alloy", input=SENTENCE, response_format="pcm"
    )
    assert len(answer.content) % 2 == 0
    assert len(answer.content) > PCM_BYTES_PER_S


def test_the_first_chunk_of_a_wav_stream_opens_as_a_wave_file(client: OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=PARAGRAPH, response_format="wav"
    ) as response:
        first = next(response.iter_bytes())
    with wave.open(io.BytesIO(first)) as header:
        assert (header.getframerate(), header.getnchannels(), header.getsampwidth()) == (
            24000,
            1,
            2,
        )


def test_a_wav_stream_declares_its_size_unknown(http: httpx.Client) -> None:
    answer = http.post(
        "/v1/audio/speech",
        json={"model": "tts-1", "voice": "alloy", "input": PARAGRAPH, "response_format": "wav"},
    )
    assert answer.content[4:8] == UNKNOWN_SIZE
    assert answer.content[36:44] == b"data" + UNKNOWN_SIZE


def test_a_whole_wav_declares_its_true_size(http: httpx.Client) -> None:
    answer = http.post(
        "/v1/audio/speech",
        json={
            "model": "tts-1",
            "voice": "alloy",
            "input": SENTENCE,
            "response_format": "wav",
            "stream": False,
        },
    )
    wav = answer.content
    assert int(answer.headers["content-length"]) == len(wav)
    assert int.from_bytes(wav[4:8], "little") == len(wav) - 8
    assert int.from_bytes(wav[40:44], "little") == len(wav) - 44


@pytest.mark.parametrize("response_format", FORMATS)
def test_a_whole_clip_has_a_length_and_the_same_audio(
    http: httpx.Client, response_format: Format
) -> None:
    request = {
        "model": "tts-1",
        "voice": "alloy",
        "input": SENTENCE,
        "response_format": response_format,
    }
    whole = http.post("/v1/audio/speech", json={**request, "stream": False})
    streamed = http.post("/v1/audio/speech", json=request)
    assert int(whole.headers["content-length"]) == len(whole.content)
    assert whole.headers["content-type"] == CONTENT_TYPE[response_format]
    whole_s = decode(whole.content, response_format).duration_s
    assert whole_s == pytest.approx(decode(streamed.content, response_format).duration_s, rel=0.01)


@pytest.mark.parametrize(
    ("response_format", "mark"), [("opus", b"OpusHead"), ("flac", b"fLaC"), ("wav", b"RIFF")]
)
def test_one_encoder_serves_all_sentences(
    client: OpenAI, response_format: Format, mark: bytes
) -> None:
    answer = client.audio.speech.create(
        model="tts-1", voice="alloy", input=PARAGRAPH, response_format=response_format
    )
    assert answer.content.count(mark) == 1


def test_an_mp3_stream_holds_only_audio_frames(client: OpenAI) -> None:
    """A tag or a Xing frame in the middle clicks, or misleads a player about the duration."""
    data = client.audio.speech.create(model="tts-1", voice="alloy", input=PARAGRAPH).content
    for mark in (b"ID3", b"Xing", b"Info"):
        assert mark not in data[64:]
