"""The real library, in this process: it is fast enough, and what it does is what is in question."""

import itertools
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np
import numpy.typing as npt
import pytest

from engine.config import ESPEAK_VOICES, EspeakOptions
from engine.errors import InvalidRequest, LoadFailed, UnknownVoice
from engine.espeak.job import EspeakJob
from engine.espeak.library import EspeakLibrary, Utterance
from engine.espeak.synthesizer import EspeakSynthesizer
from engine.text import clean, tokens
from engine.types import EngineInfo, Samples, StepOutput, SynthesisRequest

PROSE = (
    "The boy was there when the sun rose. A rod is used to catch pink salmon, and the source of "
    "the huge river is the clear spring. Help the woman get back to her feet! "
)


@pytest.fixture(scope="module")
def engine() -> EspeakSynthesizer:
    engine = EspeakSynthesizer(EspeakOptions())
    engine.load("cpu")
    return engine


@pytest.fixture(scope="module")
def info(engine: EspeakSynthesizer) -> EngineInfo:
    return engine.load("cpu")


def start(engine: EspeakSynthesizer, text: str, **fields: Any) -> EspeakJob:
    return engine.start(1, SynthesisRequest(text=text, **fields))


def speak(engine: EspeakSynthesizer, text: str, **fields: Any) -> list[StepOutput]:
    return speak_request(engine, SynthesisRequest(text=text, **fields))


def speak_request(engine: EspeakSynthesizer, request: SynthesisRequest) -> list[StepOutput]:
    job = engine.start(1, request)
    outputs: list[StepOutput] = []
    while job.stage is not None:
        engine.step(job.stage, [job], outputs.append)
    engine.finish(job)
    return outputs


def clip(outputs: list[StepOutput]) -> Samples:
    return np.concatenate([output.samples for output in outputs])


def spoken_words(outputs: list[StepOutput]) -> list[str]:
    return [word.text for output in outputs for word in output.words]


def duration_s(outputs: list[StepOutput]) -> float:
    return sum(len(output.samples) for output in outputs) / 22050


def test_prose_becomes_speech_at_a_plausible_pace_and_level(engine: EspeakSynthesizer) -> None:
    outputs = speak(engine, PROSE)
    samples = clip(outputs)
    assert samples.dtype == np.float32
    assert np.abs(samples).max() <= 1.0
    assert np.sqrt(np.mean(samples**2)) > 0.03
    assert 130 < len(PROSE.split()) / (duration_s(outputs) / 60) < 260


def test_the_first_output_is_small_and_later_ones_are_gathered(engine: EspeakSynthesizer) -> None:
    sizes_s = [len(output.samples) / 22050 for output in speak(engine, PROSE)]
    assert sizes_s[0] < 0.1
    assert np.median(sizes_s) >= 0.2


def test_words_are_the_words_of_the_text_in_order(engine: EspeakSynthesizer) -> None:
    text = PROSE + "On the one hand, “it's up to you”; on the other, 3.14 costs £5 in 2026."
    outputs = speak(engine, text)
    starts_s = [word.start_s for output in outputs for word in output.words]
    assert spoken_words(outputs) == [token.text for token in tokens(text)]
    assert starts_s == sorted(starts_s)
    assert starts_s[0] < 0.1
    assert starts_s[-1] < duration_s(outputs)


def test_words_begin_in_their_output_or_a_little_before(engine: EspeakSynthesizer) -> None:
    end_s = 0.0
    for output in speak(engine, PROSE * 3):
        begin_s, end_s = end_s, end_s + len(output.samples) / 22050
        assert all(begin_s - 1.0 < word.start_s <= end_s for word in output.words)


@pytest.mark.parametrize(
    "text",
    [
        PROSE * 3,
        "Hello. " + "😀" * 90 + " ... !!!",
        "今天天气很好，我们去公园。" * 8,
        "Hello мир 2026 " * 20,
        "Hello " * 30 + "... " * 60,
    ],
)
def test_progress_rises_to_one(engine: EspeakSynthesizer, text: str) -> None:
    progress = [output.progress for output in speak(engine, text)]
    assert all(share is not None for share in progress)
    assert progress == sorted(progress, key=lambda share: share or 0.0)
    assert progress[0] == 0.0
    assert progress[-1] == 1.0
    assert len(set(progress)) > 2


def test_progress_is_the_place_of_the_word_that_has_begun(engine: EspeakSynthesizer) -> None:
    text = (PROSE * 3).strip()
    ends = [token.end for token in tokens(text)]
    begun = 0
    for output in speak(engine, text)[:-1]:
        begun += len(output.words)
        assert output.progress is not None
        spoken_chars = round(output.progress * len(text))
        # Of a segment that is over, the space after its last word counts too.
        assert spoken_chars <= ends[begun - 1] + 1
        assert begun < 4 or spoken_chars > ends[begun - 4]


def test_times_go_on_over_the_segments_of_a_job(engine: EspeakSynthesizer) -> None:
    job = start(engine, PROSE * 3)
    assert len(job.segments) > 2
    words = [word for output in speak(engine, PROSE * 3) for word in output.words]
    firsts = [word.start_s for word in words if word.text == "boy"]
    gaps = np.diff(firsts)
    assert gaps[0] == pytest.approx(gaps[1], rel=0.05)


def test_segments_of_a_job_sound_as_long_as_the_text_in_one(engine: EspeakSynthesizer) -> None:
    """Pauses at the cuts are the ones that the library makes within a text."""
    text = (PROSE * 3).strip()
    job = start(engine, text)
    whole: list[int] = []
    utterance = Utterance(
        text=text,
        voice=job.segments[0].voice,
        words_per_minute=job.pace,
        seed=0,
        ends_with_pause=False,
    )

    def count(samples: npt.NDArray[np.int16], _: object) -> bool:
        whole.append(len(samples))
        return True

    EspeakLibrary(40).speak(utterance, count)
    whole_s = sum(whole) / 22050
    assert duration_s(speak(engine, text)) == pytest.approx(whole_s, rel=0.01)


def test_a_cancelled_job_stops_at_the_next_block(engine: EspeakSynthesizer) -> None:
    job = start(engine, PROSE)
    outputs: list[StepOutput] = []

    def cancel_at_once(output: StepOutput) -> None:
        outputs.append(output)
        job.is_cancelled = True

    engine.step("render", [job], cancel_at_once)
    assert len(outputs) == 1
    assert job.stage is None


def test_the_library_computes_no_block_after_a_stop() -> None:
    blocks: list[npt.NDArray[np.int16]] = []
    utterance = Utterance(
        text=PROSE, voice="gmw/en-US", words_per_minute=175, seed=0, ends_with_pause=False
    )

    def stop_at_the_third(samples: npt.NDArray[np.int16], _: object) -> bool:
        blocks.append(samples)
        return len(blocks) < 3

    EspeakLibrary(40).speak(utterance, stop_at_the_third)
    assert len(blocks) == 3
    assert sum(map(len, blocks)) / 22050 < 0.2


def test_an_error_in_emit_comes_out_of_the_step(engine: EspeakSynthesizer) -> None:
    def fail(output: StepOutput) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        engine.step("render", [start(engine, PROSE)], fail)
    assert spoken_words(speak(engine, "Still alive.")) == ["Still", "alive"]


@pytest.mark.parametrize("variant", ["", "+klatt4", "+f2", "+whisper", "+Reed"])
def test_the_same_request_gives_the_same_samples(engine: EspeakSynthesizer, variant: str) -> None:
    text = "Hello there, my dear friends. 你好 привет"
    first = clip(speak(engine, text, voice=variant or None))
    speak(engine, "Something else in between.", voice="en-gb+m3", speed=1.3)
    assert np.array_equal(first, clip(speak(engine, text, voice=variant or None)))


def test_a_seed_chooses_the_noise_of_a_breathy_voice(engine: EspeakSynthesizer) -> None:
    one, again, other = (
        clip(speak(engine, "Whisper to me.", voice="+whisper", seed=seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_any_integer_is_a_seed(engine: EspeakSynthesizer, seed: int) -> None:
    assert spoken_words(speak(engine, "Hello.", seed=seed)) == ["Hello"]


def test_jobs_step_by_step_in_turn_sound_as_alone(engine: EspeakSynthesizer) -> None:
    requests = [
        SynthesisRequest(text=PROSE * 3, voice="en-gb+klatt2", speed=1.2),
        SynthesisRequest(text="Привет, мир. Hello 世界. " * 10, voice="+f2"),
        SynthesisRequest(text=PROSE * 2),
    ]
    alone = [clip(speak_request(engine, request)) for request in requests]
    jobs = [engine.start(job_id, request) for job_id, request in enumerate(requests)]
    outputs: list[StepOutput] = []
    while waiting := [job for job in jobs if job.stage is not None]:
        for job in waiting:
            engine.step("render", [job], outputs.append)
    for job_id, samples in enumerate(alone):
        together = clip([output for output in outputs if output.job_id == job_id])
        assert np.array_equal(together, samples)


def test_each_run_of_a_mixed_text_is_spoken_in_its_language(engine: EspeakSynthesizer) -> None:
    job = start(engine, "Hello 世界, привет мир")
    assert [(s.text.strip(), s.voice) for s in job.segments] == [
        ("Hello", "gmw/en-US"), ("世界,", "sit/cmn"), ("привет мир", "zle/ru")
    ]  # fmt: skip
    outputs = speak(engine, "Hello 世界, привет мир")
    assert spoken_words(outputs) == ["Hello", "世界", "привет", "мир"]


@pytest.mark.parametrize(
    ("text", "voice", "language", "expected"),
    [
        ("Hello", None, None, ["gmw/en-US"]),
        ("Hello", "gmw/en-GB-x-rp", None, ["gmw/en-GB-x-rp"]),
        ("Hello", "EN-gb+F3", None, ["gmw/en+f3"]),
        ("Hello", "+klatt2", "en-GB", ["gmw/en+klatt2"]),
        ("Hello", "en-gb", "en", ["gmw/en"]),
        ("Hello", "en-gb", "en-US", ["gmw/en-US"]),
        ("Bonjour", "en-us+f2", "fr", ["roa/fr+f2"]),
        ("Olá", None, "pt-BR", ["roa/pt-BR"]),
        ("Grüezi", None, "de_CH", ["gmw/de"]),
        ("你好", None, "zh-TW", ["sit/cmn"]),
        ("你好", None, "zh-HK", ["sit/yue"]),
        ("שלום", None, "iw", ["sem/he"]),
        ("OK, привет", "ru", None, ["gmw/en-US", "zle/ru"]),
        ("Київ OK", "+f2", "uk", ["zle/uk+f2", "gmw/en-US+f2"]),
        ("東京です", None, None, ["jpx/ja"]),
        ("東京", None, "ja", ["jpx/ja"]),
        ("한국어", None, "en", ["ko"]),
        ("नमस्ते สวัสดี", None, None, ["inc/hi", "tai/th"]),
        ("Ћирилица latinica", None, "sr", ["zls/sr"]),
        ("12", None, "de", ["gmw/de"]),
        ("ᚠᚢᚦ", None, None, ["gmw/en-US"]),
    ],
)
def test_the_voice_of_a_run(
    engine: EspeakSynthesizer,
    text: str,
    voice: str | None,
    language: str | None,
    expected: list[str],
) -> None:
    job = start(engine, text, voice=voice, language=language)
    assert [segment.voice for segment in job.segments] == expected


@pytest.mark.parametrize("voice", ["nobody", "en-us+nobody", "en-us+", "fo", "gmq/fo", "+../../x"])
def test_an_unknown_voice_is_refused(engine: EspeakSynthesizer, voice: str) -> None:
    with pytest.raises(UnknownVoice):
        start(engine, "Hello", voice=voice)


@pytest.mark.parametrize("language", ["xx", "fo", "", "-", "english please"])
def test_an_unknown_language_is_refused(engine: EspeakSynthesizer, language: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        start(engine, "Hello", language=language)
    assert refusal.value.param == "language"


@pytest.mark.parametrize(
    "text", ["", " \n\t", "\0", "\ud800", "...", "、。", "—", "()", "?" * 4096, "^^", "\u200b"]
)
def test_text_without_a_word_is_refused_and_gives_no_audio(
    engine: EspeakSynthesizer, text: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        speak(engine, text)
    assert refusal.value.param == "input"


@pytest.mark.parametrize(
    "text",
    [
        "NUL\0 inside",
        "lone \ud800 surrogate",
        "\x01\x1b[31m control",
        "[[h@l'oU]] <speak>&amp;</speak> \\",
        "😀" * 4096,
        "👩‍🦰" * 500,
        "a" * 4096,
        "W" * 4096,
        "9" * 4096,
        "漢" * 2048,
        "e" + "\u0301" * 4000,
        "مرحبا بالعالم ١٢٣",
        "\u202eשלום\u202c עולם",
        "ᚠ" * 200,
        "... hello ...",
        "!?!",
        "7",
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_odd_text_is_spoken(engine: EspeakSynthesizer, text: str) -> None:
    job = start(engine, text)
    outputs: list[StepOutput] = []
    for _ in itertools.repeat(None, 3):
        if job.stage is not None:
            engine.step("render", [job], outputs.append)
    assert np.abs(clip(outputs)).max() > 0.05
    assert "".join(segment.text for segment in start(engine, text).segments) == clean(text).strip()


def test_no_step_speaks_more_than_45_s(engine: EspeakSynthesizer) -> None:
    """45 s of audio take about 60 ms of compute."""
    for text in ("今天天气很好我们去公园" * 40, "😀" * 400, "12 " * 400, "བོད" * 100, "W" * 400):
        outputs: list[StepOutput] = []
        engine.step("render", [start(engine, text)], outputs.append)
        assert duration_s(outputs) < 45


def test_duration_follows_speed_over_the_whole_range(
    engine: EspeakSynthesizer, info: EngineInfo
) -> None:
    normal_s = duration_s(speak(engine, PROSE))
    for speed in (*info.speed_range, 0.8, 1.25):
        assert duration_s(speak(engine, PROSE, speed=speed)) == pytest.approx(
            normal_s / speed, rel=0.05
        )


@pytest.mark.parametrize("speed", [0.1, 4.0])
def test_a_speed_out_of_range_is_refused(engine: EspeakSynthesizer, speed: float) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        start(engine, "Hello", speed=speed)
    assert refusal.value.param == "speed"


@pytest.mark.parametrize("normal", [80, 175, 300, 450])
def test_every_normal_pace_has_speed_one_in_its_range(normal: int) -> None:
    engine = EspeakSynthesizer(EspeakOptions(words_per_minute=normal))
    slowest, fastest = engine.load("cpu").speed_range
    assert slowest <= 1.0 <= fastest
    for speed in (slowest, fastest):
        assert 80 <= start(engine, "Hello", speed=speed).pace <= 450


def test_every_listed_voice_speaks(engine: EspeakSynthesizer, info: EngineInfo) -> None:
    assert len(info.voices) > 130
    assert {voice.id for voice in info.voices}.isdisjoint({"gmq/fo", "trk/kaa", "art/xex"})
    without_numbers = {"iro/chr": "ᎣᏏᏲ", "trk/cv": "салам", "art/sjn": "mae"}
    for voice in info.voices:
        job = start(engine, without_numbers.get(voice.id, "1 2"), voice=voice.id)
        assert [segment.voice for segment in job.segments] == [voice.id]
        outputs: list[StepOutput] = []
        engine.step("render", [job], outputs.append)
        assert duration_s(outputs) > 0.3, voice.id


def test_every_listed_language_is_accepted(engine: EspeakSynthesizer, info: EngineInfo) -> None:
    for language in info.languages:
        assert start(engine, "1", language=language).segments, language


def test_the_openai_voices_sound_different(engine: EspeakSynthesizer) -> None:
    assert len(ESPEAK_VOICES) == 13
    assert len(set(ESPEAK_VOICES.values())) == 13
    prints = {
        name: voice_print(clip(speak(engine, "Hello, Anna Lee.", voice=voice)))
        for name, voice in ESPEAK_VOICES.items()
    }
    for one, other in itertools.combinations(prints, 2):
        assert np.linalg.norm(prints[one] - prints[other]) > 2.0, (one, other)


def voice_print(samples: Samples) -> npt.NDArray[np.float64]:
    """Pitch in semitones, then the long-term spectrum in 5 dB steps over 24 bands: [25]."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::512] * np.hanning(1024)
    frames = frames[np.mean(frames**2, axis=1) > 1e-4]
    power = np.abs(np.fft.rfft(frames, 4096)) ** 2
    lags = np.fft.irfft(power)[:, 22050 // 400 : 22050 // 60].mean(axis=0)
    pitch = 12 * np.log2(22050 / (22050 // 400 + lags.argmax()))
    edges = np.geomspace(20, 1400, 25).astype(int)
    bands = np.add.reduceat(power.mean(axis=0), edges)[:-1]
    return np.concatenate([[pitch], 2 * np.log10(bands / bands.sum() + 1e-9)])


def test_a_damaged_package_fails_the_load_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(LoadFailed, match="pip install"):
        EspeakSynthesizer(EspeakOptions()).load("cpu")


def test_unreadable_data_fails_the_load_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: EspeakSynthesizer
) -> None:
    (tmp_path / "phontab").write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path))
        with pytest.raises(LoadFailed, match="pip install"):
            EspeakSynthesizer(EspeakOptions()).load("cpu")
    assert spoken_words(speak(engine, "Still alive.")) == ["Still", "alive"]


def test_a_file_that_is_no_library_fails_the_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "libespeak-ng.so").write_bytes(b"not a library")
    monkeypatch.setattr(
        espeakng_loader, "get_library_path", lambda: str(tmp_path / "libespeak-ng.so")
    )
    with pytest.raises(LoadFailed, match="does not load"):
        EspeakSynthesizer(EspeakOptions()).load("cpu")
