"""How much a step of the engine reads: of prompts, by their tokens; of a text, a piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from torch import Tensor

from engine.glm_tts.job import GlmTtsJob
from engine.glm_tts.pipeline import GlmTts
from engine.tests.glm_tts.test_pipeline import (
    LONG,
    PROMPT_TEXT,
    SHORT,
    Speaker,
    engine,
    request,
)
from engine.types import PromptFeatures


@pytest.fixture(scope="module")
def roomy() -> GlmTts:
    return engine(max_batch=9, context_tokens=4096)


@pytest.fixture
def speaker(roomy: GlmTts) -> Iterator[Speaker]:
    made = Speaker(roomy)
    yield made
    for job in made.jobs.values():
        roomy.finish(job)


def heard(speaker: Speaker, tokens: int) -> PromptFeatures:
    """A voice whose recording has so many tokens: the speaker's own, again and again."""
    known = speaker.features.arrays
    return PromptFeatures(
        {
            "speech_tokens": np.resize(known["speech_tokens"], tokens),
            "mel": np.resize(known["mel"], (2 * tokens, 80)),
            "speaker": known["speaker"],
        }
    )


def watch(glm: GlmTts, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Tokens of the prompts of each pass, from now on."""
    decoder, passes = glm.model.decoder, list[list[int]]()
    prefill: Callable[[Sequence[int]], Tensor] = decoder.prefill

    def watched(slots: Sequence[int]) -> Tensor:
        passes.append([len(decoder._prompts[slot]) for slot in slots])
        return prefill(slots)

    monkeypatch.setattr(decoder, "prefill", watched)
    return passes


def start(speaker: Speaker, sizes: Sequence[int]) -> list[GlmTtsJob]:
    own = speaker.features
    for job_id, tokens in enumerate(sizes):
        speaker.features = heard(speaker, tokens)
        speaker.start(job_id, request(SHORT, seed=job_id))
        speaker.features = own
    return [speaker.jobs[job_id] for job_id in range(len(sizes))]


def read_prompts(speaker: Speaker) -> None:
    """Step until every job has its first token, and no further."""
    while waiting := [job.id for job in speaker.jobs.values() if job.stage in ("admit", "prefill")]:
        assert speaker.step(waiting)


def test_a_pass_is_bounded_by_its_rows(speaker: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = watch(speaker.engine, monkeypatch)
    jobs = start(speaker, [300] * 8)
    speaker.step()
    # Those left over have a slot each and wait for the next pass.
    assert [job.stage for job in jobs] == ["decode"] * 3 + ["prefill"] * 5
    assert [len(job.current.tokens) for job in jobs] == [1] * 3 + [0] * 5
    read_prompts(speaker)
    assert [len(each) for each in passes] == [3, 3, 2]
    assert all(sum(each) <= 1024 for each in passes)


def test_short_prompts_are_bounded_by_their_number(
    speaker: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = watch(speaker.engine, monkeypatch)
    start(speaker, [25] * 9)
    read_prompts(speaker)
    assert [len(each) for each in passes] == [8, 1]


def test_a_long_prompt_is_read_by_itself_and_keeps_no_short_one_waiting(
    speaker: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = watch(speaker.engine, monkeypatch)
    jobs = start(speaker, [100, 1500, 100])
    speaker.step()
    assert [job.stage for job in jobs] == ["decode", "prefill", "decode"]
    read_prompts(speaker)
    assert [len(each) for each in passes] == [2, 1]


def test_who_is_read_in_a_later_pass_says_the_same(
    speaker: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = watch(speaker.engine, monkeypatch)
    speaker.features = heard(speaker, 400)
    for job_ids in ([0], [1, 2, 3]):
        for job_id in job_ids:
            speaker.start(job_id, request(SHORT, seed=job_id % 3))
        read_prompts(speaker)
    speaker.step()
    assert [len(each) for each in passes] == [1, 2, 1]
    said = [speaker.jobs[job_id].current.tokens for job_id in range(4)]
    assert said[0] == said[3] != said[1]
    assert len(said[0]) > 1


def test_a_start_reads_the_first_piece_only(
    speaker: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [piece.text for piece in speaker.engine.model.text.pieces(LONG * 3)]
    read: list[str] = []
    encode = speaker.engine.model.tokenizer.encode

    def watched(text: str) -> list[int]:
        read.append(text)
        return encode(text)

    monkeypatch.setattr(speaker.engine.model.tokenizer, "encode", watched)
    speaker.start(1, request(LONG * 3))
    read_prompts(speaker)
    prompt, *said = read
    assert prompt == "a lamp burned. "
    assert said == pieces[:1]


def test_a_later_piece_that_has_no_room_is_spoken_in_halves() -> None:
    pace = 0.5
    glm = engine(
        context_tokens=512, min_tokens_per_text_token=pace - 0.01, max_tokens_per_text_token=pace
    )
    text = f"{'no ' * 43}. {'strengths ' * 40}."
    first, second = (
        len(glm.model.tokenizer.encode(piece.text)) for piece in glm.model.text.pieces(text)
    )
    speaker = Speaker(glm)
    room = int((1 + pace) * (first + second) / 2)
    speaker.features = heard(speaker, 512 - room - len(PROMPT_TEXT))
    speaker.start(1, request(text))
    while speaker.step():
        pass
    assert [stage for stage, _ in speaker.stages].count("prefill") == 2
    tokens = len(speaker.speech(1)) / 24_000 * 25
    assert tokens == pytest.approx(pace * (first + second), abs=2)
    shares = [share for share in speaker.progress[1] if share is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
