"""Jobs that share steps: none of them may notice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from msgspec.structs import replace

from engine.errors import InvalidRequest
from engine.glm_tts.decoder import STEPS_MAX, DecodeParams, Decoder
from engine.glm_tts.dims import LlmDims, TokenIds
from engine.glm_tts.kv_cache import KvCache
from engine.glm_tts.llm import Llm
from engine.glm_tts.plain_decode import PlainDecode
from engine.glm_tts.sampling import K_MAX
from engine.tests.glm_tts.goldens import golden

DIMS = LlmDims(
    hidden=64, layers=3, heads=4, kv_heads=2, head_dim=16, intermediate=96, vocab=320,
    max_positions=512,
)  # fmt: skip
IDS = TokenIds(pad=146, end=153, begin=160, first_audio=180, audio_tokens=120)
LLM = Llm(DIMS, IDS, golden("llm_tiny_weights"))
PROMPTS = ([3, 1, 4, 1, 5, 160], [9, 2, 6, 160, 181, 230, 299], [5, 3, 5, 8, 9, 7, 9, 3, 2, 160])
TOKENS = 40


def decoder(slots: int = 4) -> Decoder:
    return Decoder(LLM, slots=slots, context_tokens=64, device="cpu")


def plain(dec: Decoder) -> PlainDecode:
    assert isinstance(dec._decode, PlainDecode)
    return dec._decode


JOB = DecodeParams(seed=1, min_tokens=TOKENS, max_tokens=TOKENS)
JOBS = (
    JOB,
    replace(JOB, seed=2, sampler="topk", temperature=0.7),
    replace(JOB, seed=3, top_k=5, window=4, tau=0.5),
)


def speak(dec: Decoder, prompt: Sequence[int], job: DecodeParams, steps: int = TOKENS) -> list[int]:
    """A job's first tokens, with the decoder to itself."""
    slot = dec.admit(prompt, job)
    tokens = [int(dec.prefill([slot]))]
    tokens += [int(dec.step([slot])[0]) for _ in range(steps - 1)]
    dec.release(slot)
    return tokens


ALONE = [speak(decoder(), prompt, job) for prompt, job in zip(PROMPTS, JOBS, strict=True)]


def test_seed_repeats_and_another_differs() -> None:
    assert speak(decoder(), PROMPTS[0], JOBS[0]) == ALONE[0]
    assert speak(decoder(), PROMPTS[0], replace(JOB, seed=-1)) != ALONE[0]


def test_likeliest_tokens_are_those_of_the_model_fed_with_them() -> None:
    greedy = replace(JOB, sampler="topk", top_k=1)
    tokens = speak(decoder(), PROMPTS[1], greedy)
    cache = KvCache(DIMS, 1, 64, "cpu", torch.float32)
    for count, token in enumerate(tokens):
        ids = [*PROMPTS[1], *(IDS.first_audio + earlier for earlier in tokens[:count])]
        lengths = torch.tensor([len(ids)])
        logits = LLM.prefill(torch.tensor([ids]), lengths, torch.tensor([0]), cache)
        assert token == logits[0, : LLM.end].argmax()


def test_batch_draws_what_each_job_draws_alone() -> None:
    dec = decoder()
    slots = [dec.admit(prompt, job) for prompt, job in zip(PROMPTS, JOBS, strict=True)]
    columns = [dec.prefill(slots)] + [dec.step(slots)[0] for _ in range(TOKENS - 1)]
    assert torch.stack(columns, -1).tolist() == ALONE


def test_steps_at_once_are_the_steps_one_by_one() -> None:
    dec = decoder()
    slots = [dec.admit(prompt, job) for prompt, job in zip(PROMPTS, JOBS, strict=True)]
    parts = [dec.prefill(slots)[None], *(dec.step(slots, count) for count in (1, 5, STEPS_MAX, 1))]
    assert torch.cat(parts).T.tolist() == ALONE


def test_slot_stepped_beyond_its_room_changes_no_other() -> None:
    dec = decoder(slots=2)
    full, other = dec.admit([160] * 24, JOB), dec.admit(PROMPTS[1], JOBS[1])
    first = [int(dec.prefill([full])), *dec.step([full], 30)[:, 0].tolist()]
    tokens = [int(dec.prefill([other]))]
    assert tokens + dec.step([full, other], 30)[:, 1].tolist() == ALONE[1][:31]
    dec.release(full)
    assert speak(dec, [160] * 24, JOB)[:31] == first


def test_jobs_that_join_and_leave_change_no_other() -> None:
    dec = decoder()
    heard: dict[int, list[int]] = {0: [], 1: [], 2: []}
    slots: dict[int, int] = {}
    # (joins, leaves) before the step of that number; job 1 starts over after it has left.
    changes = {0: ([2], []), 5: ([0, 1], []), 9: ([], [1]), 12: ([1], []), 30: ([], [0])}
    for step in range(TOKENS):
        joins, leaves = changes.get(step, ([], []))
        for job in leaves:
            dec.release(slots.pop(job))
        running = sorted(slots, reverse=step % 2 == 0)
        if joins:
            slots |= {job: dec.admit(PROMPTS[job], JOBS[job]) for job in joins}
            heard |= {job: [] for job in joins}
            for job, token in zip(joins, dec.prefill([slots[job] for job in joins]), strict=True):
                heard[job].append(int(token))
        if running:
            column = dec.step([slots[job] for job in running])[0]
            for job, token in zip(running, column, strict=True):
                heard[job].append(int(token))
    assert {job: len(tokens) for job, tokens in heard.items()} == {0: 25, 1: 28, 2: 40}
    for job, tokens in heard.items():
        assert tokens == ALONE[job][: len(tokens)]


@pytest.mark.parametrize("job", range(len(JOBS)))
def test_released_slot_is_clean_for_the_next_job(job: int) -> None:
    dec = decoder(slots=1)
    speak(dec, [160] * 24, replace(JOB, seed=9))
    plain(dec).cache.k.add_(100)
    plain(dec).cache.v.add_(100)
    dec._states.history.fill_(ALONE[job][0])
    assert speak(dec, PROMPTS[job], JOBS[job]) == ALONE[job]


def test_job_that_left_before_its_prefill_leaves_nothing() -> None:
    dec = decoder(slots=1)
    dec.release(dec.admit(PROMPTS[2], JOBS[1]))
    assert not dec._prompts
    assert speak(dec, PROMPTS[0], JOBS[0]) == ALONE[0]


@pytest.mark.parametrize("sampler", ["ras", "topk"])
def test_end_comes_as_soon_as_it_may(sampler: Literal["ras", "topk"]) -> None:
    dec = decoder()
    slot = dec.admit(PROMPTS[0], replace(JOB, sampler=sampler, min_tokens=3))
    sure_of_the_end = torch.zeros(1, dec.end + 1)
    sure_of_the_end[0, dec.end] = 50
    tokens = [int(plain(dec).draw(sure_of_the_end, torch.tensor([slot]))) for _ in range(5)]
    assert [token == dec.end for token in tokens] == [False, False, False, True, True]


def test_slot_can_be_stepped_to_the_end_of_its_room() -> None:
    prompt = [160] * 24
    assert len(speak(decoder(), prompt, JOB)) == TOKENS
    with pytest.raises(InvalidRequest) as raised:
        decoder().admit([*prompt, 160], JOB)
    assert raised.value.param == "input"


def test_more_candidates_than_the_sampler_takes_are_refused() -> None:
    for top_k in (0, K_MAX + 1):
        with pytest.raises(InvalidRequest) as raised:
            decoder().admit(PROMPTS[0], replace(JOB, top_k=top_k))
        assert raised.value.param == "top_k"


def test_slots_run_out_and_come_back() -> None:
    dec = decoder(slots=2)
    slots = [dec.admit(PROMPTS[0], JOBS[0]) for _ in range(2)]
    assert (sorted(slots), dec.free_slots) == ([0, 1], 0)
    with pytest.raises(AssertionError):
        dec.admit(PROMPTS[0], JOBS[0])
    dec.release(slots[0])
    assert dec.free_slots == 1
    assert dec.admit(PROMPTS[0], JOBS[0]) == slots[0]
