"""The request's optional fields, those of OpenAI and ours."""

import pytest
from openai import BadRequestError, OpenAI

from compat_tests.audio import FORMATS, SILENCE_RMS, Format, decode
from compat_tests.envelope import assert_sdk_error
from compat_tests.texts import PARAGRAPH, SENTENCE

BUILT_IN_VOICES = (
    *("alloy", "ash", "ballad", "coral", "echo", "fable", "onyx"),
    *("nova", "sage", "shimmer", "verse", "marin", "cedar"),
)


def pcm(client: OpenAI, **fields: object) -> bytes:
    """Speak as headerless PCM, with these keys in the JSON."""
    return client.audio.speech.create(
        model="tts-1", voice="alloy", input=SENTENCE, response_format="pcm", extra_body=fields
    ).content


def streamed_duration_s(client: OpenAI, response_format: Format, speed: float) -> float:
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=PARAGRAPH, response_format=response_format, speed=speed
    ) as response:
        return decode(b"".join(response.iter_bytes()), response_format).duration_s


@pytest.mark.parametrize("voice", BUILT_IN_VOICES)
def test_every_built_in_voice_speaks(client: OpenAI, voice: str) -> None:
    assert decode(pcm(client, input="Good morning.", voice=voice), "pcm").rms > SILENCE_RMS


def test_a_voice_may_be_an_object_with_an_id(client: OpenAI) -> None:
    answer = client.audio.speech.create(
        model="tts-1", voice={"id": "alloy"}, input=SENTENCE, response_format="pcm"
    )
    assert len(answer.content) == pytest.approx(len(pcm(client)), rel=0.01)


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"seed": 1, "foo": "bar"}, id="unknown keys"),
        pytest.param({"speed": None, "instructions": None}, id="explicit nulls"),
        pytest.param(
            {"stream_format": None, "language": None, "sample_rate": None, "stream": None},
            id="null extensions",
        ),
        pytest.param({"instructions": "calm"}, id="instructions"),
        pytest.param({"speed": 1}, id="speed as an integer"),
        pytest.param({"stream_format": "audio"}, id="stream_format audio"),
    ],
)
def test_a_request_with_harmless_extras_speaks(client: OpenAI, extra: dict[str, object]) -> None:
    assert len(pcm(client, **extra)) == pytest.approx(len(pcm(client)), rel=0.01)


@pytest.mark.parametrize("model", ["tts-1", "tts-1-hd", "gpt-4o-mini-tts", "espeak-ng"])
def test_the_well_known_model_names_speak(client: OpenAI, model: str) -> None:
    answer = client.audio.speech.create(
        model=model, voice="alloy", input="Hello.", response_format="pcm"
    )
    assert decode(answer.content, "pcm").rms > SILENCE_RMS


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
@pytest.mark.parametrize("response_format", FORMATS)
def test_speed_scales_the_duration(client: OpenAI, response_format: Format, speed: float) -> None:
    plain_s = streamed_duration_s(client, response_format, 1.0)
    scaled_s = streamed_duration_s(client, response_format, speed)
    assert scaled_s * speed == pytest.approx(plain_s, rel=0.08)


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_a_sample_rate_is_honoured_or_refused(client: OpenAI, sample_rate: int) -> None:
    try:
        answer = client.audio.speech.create(
            model="tts-1",
            voice="alloy",
            input=SENTENCE,
            response_format="wav",
            extra_body={"sample_rate": sample_rate},
        )
    except BadRequestError as refusal:
        assert_sdk_error(refusal, param="sample_rate")
    else:
        clip = decode(answer.content, "wav")
        assert clip.sample_rate == sample_rate
        assert clip.duration_s == pytest.approx(len(pcm(client)) / 48_000, rel=0.02)


@pytest.mark.parametrize("sample_rate", [7, -24_000, 10**9, "fast"])
def test_an_absurd_sample_rate_is_refused(client: OpenAI, sample_rate: object) -> None:
    with pytest.raises(BadRequestError) as caught:
        pcm(client, sample_rate=sample_rate)
    assert_sdk_error(caught.value, param="sample_rate")


def test_a_language_changes_the_speech(client: OpenAI) -> None:
    text = "Les enfants chantent dans le jardin."
    french = pcm(client, input=text, language="fr")
    english = pcm(client, input=text, language="en")
    assert decode(french, "pcm").rms > SILENCE_RMS
    assert len(french) != len(english)
    assert len(french) == pytest.approx(len(pcm(client, input=text, language="fr")), rel=0.01)


def test_an_unknown_language_is_refused(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        pcm(client, language="xx-nope")
    assert_sdk_error(caught.value, param="language")
