"""faster-whisper behind the same API, with a model of random weights: shapes, not words."""

from collections.abc import Callable, Iterator

import pytest
from openai import BadRequestError, OpenAI
from openai.types.audio import TranscriptionTextDoneEvent, TranscriptionVerbose, Translation

from compat_tests.audio import Clip
from compat_tests.conftest import API_KEY, TIMEOUT_S
from compat_tests.envelope import assert_sdk_error
from compat_tests.process import ServerProcess
from compat_tests.recordings import encode, silence
from compat_tests.sdk import language_codes, translations_deprecated
from compat_tests.test_transcription_formats import SEGMENT_KEYS
from compat_tests.tiny_whisper import tiny_whisper

LANGUAGES = {"en", "zh", "de", "es"}
"""That the model has heard of."""


@pytest.fixture(scope="module")
def babbling(
    configured_server: Callable[[str], ServerProcess], tmp_path_factory: pytest.TempPathFactory
) -> ServerProcess:
    return configured_server(tiny_whisper(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def client(babbling: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{babbling.base_url}/v1", api_key=API_KEY, max_retries=0, timeout=TIMEOUT_S
    ) as sdk:
        yield sdk


@pytest.fixture
def file(two_sentences: Clip) -> tuple[str, bytes]:
    return "two.flac", encode(two_sentences, "flac")


def test_it_answers_for_the_names_of_openai(client: OpenAI, file: tuple[str, bytes]) -> None:
    raw = client.audio.transcriptions.with_raw_response.create(model="whisper-1", file=file)
    assert raw.headers["x-rhapsode-engine"] == "whisper"
    assert "x-rhapsode-accuracy" not in raw.headers
    answer = raw.parse()
    assert answer.text
    (code,) = language_codes(answer)
    assert code in LANGUAGES


def test_segments_have_tokens_and_probabilities(
    client: OpenAI, file: tuple[str, bytes], two_sentences: Clip
) -> None:
    answer = client.audio.transcriptions.create(
        model="whisper",
        file=file,
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
    )
    assert type(answer) is TranscriptionVerbose
    assert answer.duration == pytest.approx(two_sentences.duration_s, abs=0.05)
    assert answer.segments
    for segment in answer.segments:
        assert set(segment.to_dict()) == SEGMENT_KEYS
        assert segment.tokens
        assert segment.avg_logprob < 0
        assert 0 <= segment.no_speech_prob <= 1
        assert 0 <= segment.start <= segment.end <= answer.duration
    assert answer.words
    times = [time for word in answer.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert times[-1] <= answer.duration


def test_a_stream_joins_to_the_whole_answer(client: OpenAI, file: tuple[str, bytes]) -> None:
    whole = client.audio.transcriptions.create(model="whisper", file=file)
    with client.audio.transcriptions.create(model="whisper", file=file, stream=True) as stream:
        *deltas, done = stream
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert deltas
    assert "".join(delta.delta for delta in deltas) == done.text == whole.text  # type: ignore[union-attr]


def test_the_language_can_be_told(client: OpenAI, file: tuple[str, bytes]) -> None:
    answer = client.audio.transcriptions.create(model="whisper", file=file, language="German")
    assert language_codes(answer) == ["de"]


def test_a_language_that_the_model_lacks_is_refused(
    client: OpenAI, file: tuple[str, bytes]
) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.audio.transcriptions.create(model="whisper", file=file, language="fr")
    assert_sdk_error(caught.value, param="language")


def test_silence_is_no_text(client: OpenAI) -> None:
    file = ("silence.wav", encode(silence(3.0), "wav"))
    answer = client.audio.transcriptions.create(model="whisper", file=file)
    assert answer.text == ""
    assert language_codes(answer) == []


def test_it_translates(client: OpenAI, file: tuple[str, bytes]) -> None:
    with translations_deprecated():
        answer = client.audio.translations.create(model="whisper", file=file)
    assert type(answer) is Translation
    assert answer.text
    assert answer.text != client.audio.transcriptions.create(model="whisper", file=file).text


def test_a_verbose_translation_is_in_english(client: OpenAI, file: tuple[str, bytes]) -> None:
    with translations_deprecated():
        answer = client.audio.translations.create(
            model="whisper", file=file, response_format="verbose_json"
        )
    assert answer.language == "english"
    assert answer.to_dict()["task"] == "translate"
    assert answer.segments


def test_a_translation_may_be_subtitles(client: OpenAI, file: tuple[str, bytes]) -> None:
    with translations_deprecated():
        answer = client.audio.translations.create(model="whisper", file=file, response_format="srt")
    assert type(answer) is str
    assert " --> " in answer
