"""The Llama against stored logits, and prefill against decode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.glm_tts.dims import LlmDims, TokenIds
from engine.glm_tts.kv_cache import KvCache
from engine.glm_tts.llm import Llm, attend
from engine.glm_tts.sampling import K_MAX, Draws, SamplerParams, nucleus, race, sample
from engine.tests.glm_tts.goldens import golden

DIMS = LlmDims(
    hidden=64, layers=3, heads=4, kv_heads=2, head_dim=16, intermediate=96, vocab=320,
    max_positions=512,
)  # fmt: skip
IDS = TokenIds(pad=146, end=153, begin=160, first_audio=180, audio_tokens=120)
GOLDEN = golden("llm_tiny")
WEIGHTS = golden("llm_tiny_weights")
RAS_CASES = ("ras1", "ras2", "ras_noprompt_speech", "stop")
CASES = (*RAS_CASES, "topk")


def model(*, full_head: bool = True, end: int = IDS.end) -> Llm:
    ids = TokenIds(pad=IDS.pad, end=end, begin=IDS.begin, first_audio=180, audio_tokens=120)
    return Llm(DIMS, ids, WEIGHTS, full_head=full_head)


def cache(slots: int, tokens: int = 160) -> KvCache:
    return KvCache(DIMS, slots, tokens, "cpu", torch.float32)


def prompt(case: str) -> list[int]:
    text = GOLDEN[f"{case}.text"].flatten().tolist()
    if case == "stop":
        prompt_text, prompt_speech = text, text
    else:
        prompt_text = GOLDEN[f"{case}.prompt_text"].flatten().tolist()
        prompt_speech = GOLDEN[f"{case}.prompt_speech"].flatten().tolist()
    return [*prompt_text, *text, IDS.begin, *(code + IDS.first_audio for code in prompt_speech)]


def golden_ids(case: str) -> list[int]:
    """What the original drew, as ids of the vocabulary."""
    return (GOLDEN[f"{case}.out"][0] + IDS.first_audio).tolist()


def prefill_one(llm: Llm, ids: list[int], kv: KvCache, slot: int = 0) -> Tensor:
    return llm.prefill(torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor([slot]), kv)


def close(logits: Tensor, expected: Tensor) -> None:
    """To float32's rounding, which differs with the batch: logits go up to 13 here."""
    torch.testing.assert_close(logits, expected, atol=5e-5, rtol=1e-5)


def test_prefill_of_every_length_is_the_originals() -> None:
    ids, expected = GOLDEN["prefill.ids"], GOLDEN["prefill.logits"][0]
    rows = ids.shape[1]
    lengths = torch.arange(1, rows + 1)
    logits = model().prefill(ids.expand(rows, -1), lengths, torch.arange(rows), cache(rows))
    close(logits, expected)


@pytest.mark.parametrize("case", CASES)
def test_decode_of_given_tokens_is_the_originals(case: str) -> None:
    llm, kv = model(), cache(1)
    expected = GOLDEN[f"{case}.last_logits"]
    given = torch.tensor(golden_ids(case)[: len(expected) - 1])[:, None]
    logits = [prefill_one(llm, prompt(case), kv)]
    logits += [llm.decode(id_, torch.tensor([0]), kv) for id_ in given]
    close(torch.cat(logits), expected)


class TorchDraws:
    """The numbers that the original's calls of torch.multinomial draw inside, in their order."""

    def __init__(self, seed: int, params: SamplerParams, end: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._params = params
        self._end = end

    def next(self, logits: Tensor, history: Tensor, *, ban_end: bool) -> Draws:
        """Of one row, whose end, if banned, was banned before its RAS draw or drawn again."""
        is_ras = bool(self._params.is_ras)
        if ban_end and is_ras:
            logits = logits.clone()
            logits[:, self._end] = -torch.inf
        ids, p = nucleus(logits, self._params)
        kept = int((p > 0).sum())
        ids, p = ids[:, :kept], p[:, :kept]
        while True:
            numbers = self._exponentials(kept)
            chosen = int(ids[0, race(p, numbers)])
            if not ban_end or chosen != self._end:
                break
        if ban_end:
            numbers = numbers[ids != self._end][None]
        full = torch.ones_like(logits)
        if is_ras and chosen in history[0, :10]:
            full = self._exponentials(logits.shape[-1])
        return Draws(torch.cat((numbers, torch.ones(1, K_MAX - numbers.shape[1])), -1), full)

    def _exponentials(self, count: int) -> Tensor:
        return torch.empty(1, count).exponential_(generator=self._generator)


@pytest.mark.parametrize("case", CASES)
def test_tokens_are_the_originals_with_its_draws(case: str) -> None:
    end = int(GOLDEN["stop.eoa"]) if case == "stop" else IDS.end
    llm, kv, slot = model(end=end), cache(1), torch.tensor([0])
    settings = (1.0, 0.8, 25, 10, 0.1, case != "topk")
    params = SamplerParams(*(torch.tensor([value]) for value in settings))
    draws = TorchDraws(int(GOLDEN[f"{case}.seed"]), params, end)
    text_tokens = GOLDEN[f"{case}.text"].shape[1]
    history = torch.full((1, 10), -1)
    tokens: list[int] = []
    logits = prefill_one(llm, prompt(case), kv)
    for step in range(20 * text_tokens):
        ban_end = step < 2 * text_tokens
        numbers = draws.next(logits, history, ban_end=ban_end)
        drawn = sample(logits, params, history, torch.tensor([ban_end]), llm.end, numbers)
        if drawn == end:
            break
        tokens.append(int(drawn))
        history = torch.cat((drawn[:, None], history[:, :-1]), -1)
        logits = llm.decode(drawn, slot, kv)
    assert tokens == golden_ids(case)


def test_audio_head_is_the_whole_heads_columns() -> None:
    ids = prompt("ras1")
    audio, whole = model(full_head=False), model()
    assert audio.end == 120
    expected = prefill_one(whole, ids, cache(1))[:, [*range(180, 300), 153]]
    close(prefill_one(audio, ids, cache(1)), expected)
    assert audio.column_ids.tolist() == [*range(180, 300), 153]


def test_decode_equals_prefill_of_the_longer_prompt() -> None:
    llm, ids = model(), GOLDEN["prefill.ids"][0].tolist()
    kv = cache(1)
    prefill_one(llm, ids[:20], kv)
    for length in range(21, 50):
        step = llm.decode(torch.tensor(ids[length - 1 : length]), torch.tensor([0]), kv)
        assert kv.lengths.tolist() == [length]
        whole = prefill_one(llm, ids[:length], cache(1))
        close(step, whole)


def test_padded_prefill_equals_single_prefill() -> None:
    llm, cases = model(), ("ras1", "ras2", "topk")
    prompts = [prompt(case) for case in cases]
    longest = max(map(len, prompts))
    padded = torch.tensor([ids + [7] * (longest - len(ids)) for ids in prompts])
    lengths = torch.tensor([len(ids) for ids in prompts])
    kv, slots = cache(5), torch.tensor([4, 0, 2])
    together = llm.prefill(padded, lengths, slots, kv)
    following = llm.decode(torch.tensor([200, 201, 202]), slots, kv)
    for row, ids in enumerate(prompts):
        alone = cache(1)
        close(together[row], prefill_one(llm, ids, alone)[0])
        step = llm.decode(torch.tensor([200 + row]), torch.tensor([0]), alone)
        close(following[row], step[0])


def test_attention_stops_at_each_rows_length() -> None:
    torch.manual_seed(0)
    k, v = torch.randn(3, 2, 12, 16), torch.randn(3, 2, 12, 16)
    q, slots, lengths = torch.randn(2, 4, 16), torch.tensor([2, 0]), torch.tensor([5, 12])
    seen = attend(q, k, v, slots, lengths)
    for row, (slot, length) in enumerate(((2, 5), (0, 12))):
        for head in range(4):
            keys, values = k[slot, head // 2, :length], v[slot, head // 2, :length]
            weights = (keys @ q[row, head] / 4).softmax(0)
            torch.testing.assert_close(seen[row, head], weights @ values)


def test_bfloat16_follows_float32() -> None:
    ids = prompt("ras1")
    half = Llm(DIMS, IDS, {name: weight.bfloat16() for name, weight in WEIGHTS.items()})
    kv = KvCache(DIMS, 1, 64, "cpu", half.dtype)
    expected = prefill_one(model(full_head=False), ids, cache(1))
    logits = prefill_one(half, ids, kv)
    assert (logits.dtype, kv.k.dtype) == (torch.float32, torch.bfloat16)
    assert (logits - expected).norm() < 0.03 * expected.norm()
