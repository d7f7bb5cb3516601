"""A small Whisper that talks nonsense, run by the real library on real speech.

Its text is not in question, only what becomes of it.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.tokenizer import Tokenizer

from engine.config import EspeakOptions, WhisperOptions
from engine.errors import InvalidRequest
from engine.espeak.synthesizer import EspeakSynthesizer
from engine.tests.tiny_whisper import LANGUAGES, write_tiny_whisper
from engine.types import (
    Samples,
    Segment,
    SpeechDetection,
    StepOutput,
    SynthesisRequest,
    TranscribeOptions,
    TranscriptInfo,
)
from engine.whisper.decoder import Decoder
from engine.whisper.transcriber import WhisperTranscriber
from engine.whisper.words import split_words

RATE = 16_000
PROSE = (
    "The boy was there when the sun rose. A rod is used to catch pink salmon. "
    "The source of the huge river is the clear spring. Help the woman get back to her feet. "
)
ENGLISH = TranscribeOptions(language="en")
TALKATIVE: dict[str, Any] = {"language": "de", "prompt": "w1 w2"}
"""With these the model writes more, and leaves timestamps out."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_whisper(tmp_path_factory.mktemp("models") / "nonsense")


@pytest.fixture(scope="module")
def english_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("models") / "nonsense.en"
    return write_tiny_whisper(target, is_multilingual=False)


@pytest.fixture(scope="module")
def engine(folder: Path) -> WhisperTranscriber:
    engine = WhisperTranscriber(WhisperOptions(model=str(folder), batch_size=1))
    engine.load("cpu")
    return engine


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Three quarters of a minute."""
    synthesizer = EspeakSynthesizer(EspeakOptions())
    rate = synthesizer.load("cpu").sample_rate
    job = synthesizer.start(1, SynthesisRequest(text=PROSE * 4))
    outputs: list[StepOutput] = []
    while job.stage is not None:
        synthesizer.step(job.stage, [job], outputs.append)
    said = np.concatenate([output.samples for output in outputs])
    times_s = np.arange(len(said) * RATE // rate) / RATE
    samples: Samples = np.interp(times_s * rate, np.arange(len(said)), said).astype(np.float32)
    return samples


def blocks(audio: Samples, size: int = RATE) -> Iterator[Samples]:
    for start in range(0, len(audio), size):
        yield audio[start : start + size]


def transcribe(
    engine: WhisperTranscriber, audio: Samples, options: TranscribeOptions = ENGLISH
) -> tuple[TranscriptInfo, list[Segment]]:
    info, segments = engine.transcribe(blocks(audio), options)
    return info, list(segments)


def segments_of(engine: WhisperTranscriber, audio: Samples, **options: Any) -> list[Segment]:
    return transcribe(engine, audio, TranscribeOptions(**{"language": "en"} | options))[1]


def test_the_info_says_what_it_can(engine: WhisperTranscriber) -> None:
    info = engine.load("cpu")
    assert (info.name, info.task, info.sample_rate) == ("whisper", "transcription", RATE)
    assert set(info.languages) == set(LANGUAGES)
    assert info.is_accurate
    assert not info.is_embedded
    assert {"prompt", "temperature", "keywords", "translate", "word"} <= info.honours
    assert "int8" in info.description


def test_an_english_model_says_so(english_folder: Path, speech: Samples) -> None:
    engine = WhisperTranscriber(WhisperOptions(model=str(english_folder)))
    info = engine.load("cpu")
    assert info.languages == ("en",)
    assert "translate" not in info.honours
    found, segments = transcribe(engine, speech[: 5 * RATE], TranscribeOptions())
    assert found == TranscriptInfo("en", 1.0)
    assert segments
    with pytest.raises(InvalidRequest) as caught:
        transcribe(engine, speech, TranscribeOptions(task="translate"))
    assert caught.value.param == "model"


@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize("with_words", [False, True])
def test_segments_come_in_order_within_the_recording(
    engine: WhisperTranscriber, speech: Samples, *, is_live: bool, with_words: bool
) -> None:
    segments = segments_of(engine, speech, is_live=is_live, with_words=with_words, **TALKATIVE)
    assert len(segments) > 2
    assert all(segment.text.strip() for segment in segments)
    assert all(segment.start_s <= segment.end_s for segment in segments)
    assert all(a.end_s <= b.start_s for a, b in pairwise(segments))
    assert segments[0].start_s >= 0
    assert segments[-1].end_s <= len(speech) / RATE
    assert all(segment.seek <= segment.start_s * 100 for segment in segments)
    assert len({segment.seek for segment in segments}) >= 2


def test_segments_carry_what_the_decoder_knows(engine: WhisperTranscriber, speech: Samples) -> None:
    for segment in segments_of(engine, speech):
        assert segment.tokens
        assert segment.avg_logprob < 0
        assert 0 <= segment.no_speech_prob <= 1
        assert segment.compression_ratio > 0


def test_the_transcript_is_the_same_however_the_input_is_cut(
    engine: WhisperTranscriber, speech: Samples
) -> None:
    expected = segments_of(engine, speech)
    for size in (1111, 10**9):
        _, segments = engine.transcribe(blocks(speech, size), ENGLISH)
        assert list(segments) == expected


def test_words_are_the_text_and_lie_in_the_segment(
    engine: WhisperTranscriber, speech: Samples
) -> None:
    plain = segments_of(engine, speech, **TALKATIVE)
    segments = segments_of(engine, speech, with_words=True, **TALKATIVE)
    assert [segment.text for segment in segments] == [segment.text for segment in plain]
    assert not any(segment.words for segment in plain)
    for segment in segments:
        assert "".join(word.text for word in segment.words) == segment.text
        assert segment.start_s == segment.words[0].start_s
        assert segment.end_s == segment.words[-1].end_s
        assert all(word.start_s <= word.end_s for word in segment.words)
        assert all(a.start_s <= b.start_s for a, b in pairwise(segment.words))
        assert all(0 <= word.probability <= 1 for word in segment.words)
        assert {type(word.start_s) for word in segment.words} == {float}


def test_it_writes_what_faster_whisper_writes_and_what_that_drops(
    folder: Path, speech: Samples
) -> None:
    """Of a window's text, faster-whisper loses what no timestamp follows."""
    engine = WhisperTranscriber(WhisperOptions(model=str(folder)))
    engine.load("cpu")
    ours = [segment.text for segment in segments_of(engine, speech, **TALKATIVE)]
    pipeline = BatchedInferencePipeline(WhisperModel(str(folder), compute_type="int8"))
    segments, _ = pipeline.transcribe(
        speech, language="de", initial_prompt=" w1 w2", temperature=0, without_timestamps=False
    )
    theirs = [segment.text for segment in segments]
    remaining = iter(ours)
    assert all(text in remaining for text in theirs)
    assert 1 < len(theirs) < len(ours)


@pytest.mark.parametrize("seconds", [0, 1, 70])
@pytest.mark.parametrize(("language", "expected"), [(None, "en"), ("de", "de")])
def test_silence_has_no_segments(
    engine: WhisperTranscriber, seconds: int, language: str | None, expected: str
) -> None:
    silence = np.zeros(seconds * RATE, np.float32)
    info, segments = transcribe(engine, silence, TranscribeOptions(language=language))
    assert segments == []
    assert info == TranscriptInfo(expected, 0.0)


def test_the_language_is_told_from_the_speech(engine: WhisperTranscriber, speech: Samples) -> None:
    late = np.concatenate([np.zeros(40 * RATE, np.float32), speech[: 10 * RATE]])
    info, segments = transcribe(engine, late, TranscribeOptions())
    assert info.language in LANGUAGES
    assert 1 / len(LANGUAGES) < info.language_probability < 1
    assert segments[0].start_s > 39
    assert transcribe(engine, late)[0] == TranscriptInfo("en", 1.0)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        (TranscribeOptions(language="fr"), "language"),
        (TranscribeOptions(language="English"), "language"),
        (TranscribeOptions(detection=SpeechDetection(threshold=1.5)), "chunking_strategy"),
        (TranscribeOptions(detection=SpeechDetection(padding_s=20)), "chunking_strategy"),
    ],
)
def test_what_it_cannot_do_is_refused_before_it_listens(
    engine: WhisperTranscriber, options: TranscribeOptions, param: str
) -> None:
    audio = blocks(np.zeros(RATE, np.float32))
    with pytest.raises(InvalidRequest) as caught:
        engine.transcribe(audio, options)
    assert caught.value.param == param
    assert len(list(audio)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "w1 w2 w3"},
        {"keywords": ("w1", "w2")},
        {"temperature": 1.0},
        {"task": "translate"},
        {"detection": SpeechDetection(padding_s=0.0, min_silence_s=2.0)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_option_changes_what_is_written(
    engine: WhisperTranscriber, speech: Samples, change: dict[str, Any]
) -> None:
    audio = speech[: 20 * RATE]
    assert segments_of(engine, audio, **change) != segments_of(engine, audio)


def prompt_of(engine: WhisperTranscriber, **options: Any) -> str:
    decoder = Decoder(engine._model, "en", TranscribeOptions(**options))
    decoded: str = engine._model.hf_tokenizer.decode(decoder._prompt, skip_special_tokens=False)
    return decoded


def test_the_prompt_is_keywords_then_the_end_of_the_text(engine: WhisperTranscriber) -> None:
    start = "<|startoftranscript|><|en|><|transcribe|>"
    assert prompt_of(engine) == start
    assert prompt_of(engine, prompt=" ") == start
    assert prompt_of(engine, prompt="ab") == f"<|startofprev|> ab{start}"
    assert prompt_of(engine, prompt="ab", keywords=("c", "d")) == f"<|startofprev|> c, d ab{start}"
    long = prompt_of(engine, prompt="a" * 1000 + "z", keywords=("key",))
    assert long.startswith("<|startofprev|> key")
    assert long.endswith(f"az{start}")
    assert len(long.removesuffix(start).removeprefix("<|startofprev|>")) == 223


def test_a_prompt_cannot_steer_the_model(engine: WhisperTranscriber) -> None:
    steered = prompt_of(engine, prompt="a<|startoftranscript|><|de|><|translate|>b")
    assert steered == "<|startofprev|> ab<|startoftranscript|><|en|><|transcribe|>"


@pytest.mark.parametrize(("is_live", "at_most_s"), [(True, 10), (False, 36)])
def test_a_live_transcript_begins_after_little_audio(
    engine: WhisperTranscriber, speech: Samples, *, is_live: bool, at_most_s: int
) -> None:
    pulled = 0

    def counted() -> Iterator[Samples]:
        nonlocal pulled
        for block in blocks(speech):
            pulled += 1
            yield block

    _, segments = engine.transcribe(counted(), TranscribeOptions(language="en", is_live=is_live))
    next(segments)
    assert at_most_s / 2 <= pulled <= at_most_s
    assert list(segments)
    assert pulled == len(list(blocks(speech)))


def test_recordings_side_by_side_do_not_mix(engine: WhisperTranscriber, speech: Samples) -> None:
    options = TranscribeOptions(language="en", with_words=True, is_live=True)
    first, second = speech, speech[7 * RATE : 30 * RATE]
    alone = [segments_of(engine, first, with_words=True, is_live=True)]
    alone.append(segments_of(engine, second, with_words=True, is_live=True))
    running = [engine.transcribe(blocks(audio), options)[1] for audio in (first, second)]
    together: list[list[Segment]] = [[], []]
    while len(together[0]) < len(alone[0]) or len(together[1]) < len(alone[1]):
        for found, segments in zip(together, running, strict=True):
            found.extend(segment for segment in [next(segments, None)] if segment)
    assert together == alone


def test_a_closed_transcript_listens_no_more(engine: WhisperTranscriber, speech: Samples) -> None:
    audio = blocks(speech)
    _, segments = engine.transcribe(audio, TranscribeOptions(language="en", is_live=True))
    next(segments)
    assert isinstance(segments, Iterator)
    segments.close()  # type: ignore[attr-defined]
    assert next(segments, None) is None
    assert next(audio, None) is not None


def test_what_the_recording_raises_comes_through(
    engine: WhisperTranscriber, speech: Samples
) -> None:
    def cut_off(seconds: int) -> Iterator[Samples]:
        yield from blocks(speech[: seconds * RATE])
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        engine.transcribe(cut_off(1), ENGLISH)
    _, segments = engine.transcribe(cut_off(40), ENGLISH)
    assert next(segments)
    with pytest.raises(ConnectionError, match="gone"):
        list(segments)


def tokenizer_of(engine: WhisperTranscriber, language: str) -> Tokenizer:
    return Tokenizer(engine._model.hf_tokenizer, True, "transcribe", language)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_words_are_the_text_even_if_it_is_broken(engine: WhisperTranscriber, language: str) -> None:
    tokenizer = tokenizer_of(engine, language)
    random = np.random.default_rng(0)
    for length in random.integers(1, 12, 400):
        tokens = random.integers(0, 300, length).tolist()
        words = split_words(tokenizer, tokens)
        assert "".join(text for text, _ in words) == tokenizer.decode(tokens)
        assert words[-1][1] == len(tokens)
        assert all(a < b for (_, a), (_, b) in pairwise(words))


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("en", " Well, I'm here.", [" Well", ",", " I", "'m", " here", "."]),
        ("zh", "你好", ["你", "好"]),
    ],
)
def test_words_are_split_as_the_language_is_written(
    engine: WhisperTranscriber, language: str, text: str, words: list[str]
) -> None:
    tokenizer = tokenizer_of(engine, language)
    assert [word for word, _ in split_words(tokenizer, tokenizer.encode(text))] == words
