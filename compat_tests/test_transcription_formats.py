"""Every response_format is what the SDK's types say, and times lie within the recording."""

import re
from pathlib import Path

import pytest
from openai import OpenAI
from openai.types.audio import Transcription, TranscriptionVerbose

from compat_tests.audio import Clip
from compat_tests.envelope import assert_platform_headers
from compat_tests.recordings import encode, silence
from compat_tests.texts import STORY, WEATHER, share_heard

SEGMENT_KEYS = {
    *("id", "seek", "start", "end", "text", "tokens"),
    *("temperature", "avg_logprob", "compression_ratio", "no_speech_prob"),
}
TIME = r"\d\d:\d\d:\d\d"
SRT_CUE = re.compile(
    rf"(?P<number>\d+)\n(?P<start>{TIME},\d{{3}}) --> (?P<end>{TIME},\d{{3}})\n(?P<text>.+)",
    re.DOTALL,
)
VTT_CUE = re.compile(
    rf"(?P<start>{TIME}\.\d{{3}}) --> (?P<end>{TIME}\.\d{{3}})\n(?P<text>.+)", re.DOTALL
)


@pytest.fixture(scope="module")
def file(two_sentences: Clip) -> tuple[str, bytes]:
    """What all tests here upload: two sentences, in six seconds."""
    return "two.wav", encode(two_sentences, "wav")


def seconds(stamp: str) -> float:
    hours, minutes, rest = stamp.replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def assert_cues_fit(cues: list[re.Match[str]], duration_s: float) -> None:
    """They follow each other, end with the recording, and say what was said."""
    times = [seconds(cue[name]) for cue in cues for name in ("start", "end")]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= duration_s + 0.1
    text = " ".join(cue["text"] for cue in cues)
    assert share_heard(f"{WEATHER} {STORY}", text) > 0.5


def test_json_is_the_default(client: OpenAI, weather_wav: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(weather_wav)
    with path.open("rb") as file:
        answer = client.audio.transcriptions.create(model="whisper-1", file=file)
    assert type(answer) is Transcription
    assert share_heard(WEATHER, answer.text) > 0.5
    assert answer.text == answer.text.strip()
    assert answer._request_id  # noqa: SLF001 - public, the SDK says
    assert answer.usage is not None
    assert answer.usage.type == "duration"
    assert answer.usage.seconds in {2, 3}


def test_text_is_a_line_of_text(client: OpenAI, weather_wav: bytes) -> None:
    answer = client.audio.transcriptions.with_raw_response.create(
        model="whisper-1", file=weather_wav, response_format="text"
    )
    assert_platform_headers(answer.headers)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    text = answer.parse()
    assert type(text) is str
    assert text.endswith("\n")
    assert share_heard(WEATHER, text) > 0.5


def test_srt_is_numbered_cues(client: OpenAI, file: tuple[str, bytes], two_sentences: Clip) -> None:
    answer = client.audio.transcriptions.create(model="whisper-1", file=file, response_format="srt")
    assert type(answer) is str
    blocks = answer.strip().split("\n\n")
    cues = [cue for block in blocks if (cue := SRT_CUE.fullmatch(block))]
    assert len(cues) == len(blocks)
    assert [int(cue["number"]) for cue in cues] == list(range(1, len(cues) + 1))
    assert_cues_fit(cues, two_sentences.duration_s)


def test_vtt_begins_with_its_name(
    client: OpenAI, file: tuple[str, bytes], two_sentences: Clip
) -> None:
    answer = client.audio.transcriptions.create(model="whisper-1", file=file, response_format="vtt")
    assert type(answer) is str
    head, *blocks = answer.strip().split("\n\n")
    assert head == "WEBVTT"
    cues = [cue for block in blocks if (cue := VTT_CUE.fullmatch(block))]
    assert len(cues) == len(blocks)
    assert_cues_fit(cues, two_sentences.duration_s)


@pytest.fixture(scope="module")
def verbose(client: OpenAI, file: tuple[str, bytes]) -> TranscriptionVerbose:
    return client.audio.transcriptions.create(
        model="whisper-1", file=file, response_format="verbose_json"
    )


def test_verbose_json_has_segments_with_every_key(
    verbose: TranscriptionVerbose, two_sentences: Clip
) -> None:
    assert type(verbose) is TranscriptionVerbose
    assert isinstance(verbose.duration, float)
    assert verbose.duration == pytest.approx(two_sentences.duration_s, abs=0.1)
    assert verbose.language == "english"
    assert verbose.usage is not None
    assert verbose.usage.type == "duration"
    assert verbose.words is None
    assert verbose.segments
    assert [segment.id for segment in verbose.segments] == list(range(len(verbose.segments)))
    for segment in verbose.segments:
        assert set(segment.to_dict()) == SEGMENT_KEYS
        assert 0 <= segment.start < segment.end <= verbose.duration + 0.1
    assert "".join(segment.text for segment in verbose.segments).split() == verbose.text.split()


def test_sentences_a_pause_apart_are_segments_with_their_times(
    verbose: TranscriptionVerbose, weather: Clip
) -> None:
    assert verbose.segments is not None
    first, *_, last = verbose.segments
    assert first.end <= weather.duration_s + 0.6
    assert last.start >= weather.duration_s + 0.4
    assert share_heard(WEATHER, first.text) > share_heard(STORY, first.text)
    assert share_heard(STORY, last.text) > share_heard(WEATHER, last.text)


def test_word_granularity_gives_words_in_place_of_segments(
    client: OpenAI, weather_wav: bytes
) -> None:
    answer = client.audio.transcriptions.create(
        model="whisper-1",
        file=weather_wav,
        response_format="verbose_json",
        timestamp_granularities=["word"],
    )
    assert answer.segments is None
    assert answer.words
    times = [time for word in answer.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= answer.duration + 0.1
    assert [word.word for word in answer.words] == answer.text.split()


def test_both_granularities_give_both(client: OpenAI, weather_wav: bytes) -> None:
    answer = client.audio.transcriptions.create(
        model="whisper-1",
        file=weather_wav,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert answer.words
    assert answer.segments


@pytest.mark.parametrize("duration_s", [0.05, 3.0])
def test_silence_is_no_text(client: OpenAI, duration_s: float) -> None:
    file = ("silence.wav", encode(silence(duration_s), "wav"))
    answer = client.audio.transcriptions.create(model="whisper-1", file=file)
    assert answer.text == ""
    verbose = client.audio.transcriptions.create(
        model="whisper-1", file=file, response_format="verbose_json"
    )
    assert (verbose.text, verbose.segments) == ("", [])
    assert verbose.duration == pytest.approx(duration_s, abs=0.02)


@pytest.mark.parametrize(
    ("response_format", "empty"), [("text", ""), ("srt", ""), ("vtt", "WEBVTT")]
)
def test_silence_is_an_empty_file_of_its_format(
    client: OpenAI, response_format: str, empty: str
) -> None:
    answer = client.audio.transcriptions.create(  # type: ignore[call-overload]
        model="whisper-1",
        file=("silence.wav", encode(silence(1.0), "wav")),
        response_format=response_format,
    )
    assert answer.strip() == empty
