"""Parity of what has no weights: signals, masks, draws and text."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import torch
from msgspec import Struct
from torch import Tensor

from engine.glm_tts.audio import kaldi_fbank, resample
from engine.glm_tts.block_mask import block_limits, legacy_block_frames
from engine.glm_tts.dims import TINY, Rates
from engine.glm_tts.golden_weights import golden_weights, gw
from engine.glm_tts.mel import MelSpectrogram, slaney_filters
from engine.glm_tts.normalize import normalize
from engine.glm_tts.parity_goldens import Comparison, Goldens
from engine.glm_tts.sampling import K_MAX, Draws, SamplerParams, nucleus, sample
from engine.glm_tts.speech_tokenizer import SpeechTokenizer
from engine.glm_tts.split import length, split, units
from engine.glm_tts.tensors import speech_tokenizer_tensors
from engine.glm_tts.verbalize import NONE

_BETTER_READ = frozenset(
    {
        "He said: you're late--aren't you?!  It's 25 degrees.",
        "x * y and [note] (aside) “quoted”—dash",
    }
)
"""Texts in which the original runs words together, or loses a mark."""


def audio(goldens: Goldens) -> Iterator[Comparison]:
    """The prompt's mel, and resampling."""
    for thousands in (24, 32):
        rates = Rates(sample_rate=1000 * thousands)
        filters = slaney_filters(80, rates.n_fft, rates.sample_rate).to(goldens.device)
        yield goldens.near(f"basis{thousands}", filters, 1e-6)
        mel = MelSpectrogram(rates, goldens.device)(goldens[f"wav{thousands}"])
        yield goldens.near(f"mel{thousands}", mel.mT, 1e-5)
    for tag in goldens.tags(".out"):
        _, _, pair = tag.partition(".")
        from_hz, to_hz = map(int, pair.split("_"))
        actual = resample(goldens[f"{tag}.in"], from_hz, to_hz)
        yield goldens.near(f"{tag}.out", actual, 1e-5)


def fbank(goldens: Goldens) -> Iterator[Comparison]:
    """What the speaker encoder hears; always computed on the CPU."""
    for tag in goldens.tags(".wav16"):
        frames = kaldi_fbank(goldens[f"{tag}.wav16"].cpu()).to(goldens.device)
        yield goldens.near(f"{tag}.fbank", frames, 5e-4)
        yield goldens.near(f"{tag}.fbank_centered", frames - frames.mean(0), 5e-4)


def whisper_features(goldens: Goldens) -> Iterator[Comparison]:
    """What the speech tokenizer hears."""
    dims = TINY.speech_tokenizer
    weights = golden_weights("tiny.wvq.", speech_tokenizer_tensors(dims))
    model = SpeechTokenizer(dims, {name: each.to(goldens.device) for name, each in weights.items()})
    filters = slaney_filters(dims.mels, 400, 16_000).to(goldens.device)
    yield goldens.near("mel_filters", filters.mT, 1e-6)
    both = [goldens["wav_a"], goldens["wav_b"]]
    for pieces, name, mask in (
        (both, "features", "attention_mask"),
        (both[1:], "features_b_alone", "mask_b_alone"),
    ):
        features, is_heard = model.features(pieces)
        yield goldens.near(name, features, 1e-4)
        yield goldens.equal(mask, is_heard.int(), goldens[mask])


def block_masks(goldens: Goldens) -> Iterator[Comparison]:
    """How far a frame sees, and how long a clip is."""
    for tag in goldens.tags(".row_limit"):
        limits = block_limits([int(size) for size in tag.split("_")[1:]], int(goldens[f"{tag}.n"]))
        yield goldens.equal(f"{tag}.row_limit", limits, goldens[f"{tag}.row_limit"])
    frames = [legacy_block_frames(tokens) for tokens in goldens["tokens"].tolist()]
    yield goldens.equal("token_to_mel_frames", frames, goldens["token_to_mel_frames"])
    table = goldens["feat_len_table"]
    yield goldens.equal("feat_len_table", [*map(Rates().frames, range(len(table)))], table)


def sampler(goldens: Goldens) -> Iterator[Comparison]:
    """Repetition-aware sampling, given the numbers that the original drew."""
    scores, counts = goldens["scores"], goldens["nucleus_n"]
    rows, vocabulary = scores.shape
    kept = nucleus(scores, _published(rows, goldens.device))
    yield goldens.equal("nucleus_n", (kept.p > 0).sum(-1), counts)
    is_kept = torch.arange(25, device=goldens.device) < counts[:, None]
    yield goldens.equal("nucleus_idx", kept.ids[:, :25][is_kept], goldens["nucleus_idx"][is_kept])
    wanted = goldens["nucleus_prob"][is_kept]
    yield goldens.apart("nucleus_prob", kept.p[:, :25][is_kept], wanted, 1e-6)
    draws = _original_draws(goldens["seed"].tolist(), counts.tolist(), vocabulary)
    tokens = _sampled(scores, _newest_first(goldens["history"]), draws)
    yield goldens.equal("token", tokens, goldens["token"])
    yield _whole_vocabulary(goldens)


def _whole_vocabulary(goldens: Goldens) -> Comparison:
    """32 draws of one distribution; every second one finds all likely tokens drawn just before."""
    tokens = goldens["full.token"]
    scores = torch.from_numpy(gw("ras.full", (1, 98_304), 2.5)).log_softmax(-1).to(goldens.device)
    count = int((nucleus(scores, _published(1, goldens.device)).p > 0).sum())
    top = goldens["full.top10"].flip(0)
    drawn = []
    for index in range(len(tokens)):
        history = top if index % 2 == 0 else torch.full_like(top, -1)
        draws = _original_draws([5000 + index], [count], scores.shape[1])
        drawn.append(_sampled(scores, history[None], draws))
    return goldens.equal("full.token", torch.cat(drawn), tokens)


def _sampled(scores: Tensor, history: Tensor, draws: Draws) -> Tensor:
    rows, device = len(scores), scores.device
    return sample(
        scores,
        _published(rows, device),
        history,
        torch.zeros(rows, dtype=torch.bool, device=device),
        scores.shape[1] - 1,
        Draws(*(numbers.to(device) for numbers in draws)),
    )


def _published(rows: int, device: torch.device) -> SamplerParams:
    """The settings that the original was run with."""
    values = (1.0, 0.8, 25, 10, 0.1, True)
    return SamplerParams(*(torch.tensor(value, device=device).expand(rows) for value in values))


def _original_draws(seeds: list[int], counts: list[int], vocabulary: int) -> Draws:
    """What torch.multinomial draws inside, called for the nucleus and then for everything."""
    first, full = torch.ones(len(seeds), K_MAX), torch.ones(len(seeds), vocabulary)
    for row, (seed, count) in enumerate(zip(seeds, counts, strict=True)):
        generator = torch.Generator().manual_seed(seed)
        first[row, :count] = torch.empty(count).exponential_(generator=generator)
        full[row].exponential_(generator=generator)
    return Draws(first, full)


def _newest_first(history: Tensor) -> Tensor:
    """Rows that have the oldest first, and -1 after the newest."""
    turned = [torch.cat((row[row >= 0].flip(0), row[row < 0])) for row in history]
    return torch.stack(turned)


def stream_lengths(goldens: Goldens) -> Iterator[Comparison]:
    """How long a streamed clip is in all."""
    rates = Rates()
    prompts = {"n60": (100, 199), "n500": (137, 273)}
    for tag in goldens.tags(".total"):
        tokens, frames = prompts.get(tag, (100, 200))
        spoken = int(goldens[f"{tag}.tokens_per_call"][-1])
        samples = rates.hop * (rates.frames(tokens + spoken) - frames)
        yield goldens.equal(
            f"{tag}.total",
            [samples],
            goldens[f"{tag}.total"],
            "the parts differ by design: ours are solved in windows and joined without a fade",
        )


class _Texts(Struct, frozen=True):
    normalize: list[tuple[str, str]]
    split: list[tuple[str, list[str] | str]]
    units: list[tuple[str, list[str], float]]


def text(goldens: Goldens) -> Iterator[Comparison]:
    """Normalising and cutting, numbers left as they are.

    Not what is read by sound: the tables of that are the checkpoint's.
    """
    cases = msgspec.json.decode(goldens.path.read_bytes(), type=_Texts)
    plain = [case for case in cases.normalize if case[0] not in _BETTER_READ]
    yield goldens.equal(
        "normalize",
        [normalize(given, NONE) for given, _ in plain],
        [wanted for _, wanted in plain],
        f"{len(cases.normalize) - len(plain)} texts differ by design",
    )
    # A string says which exception ended the original.
    cut = [(given, wanted) for given, wanted in cases.split if isinstance(wanted, list)]
    yield goldens.equal("split", [split(given) for given, _ in cut], [want for _, want in cut])
    yield goldens.equal(
        "units", [units(given) for given, _, _ in cases.units], [want for _, want, _ in cases.units]
    )
    lengths = torch.tensor([sum(map(length, units(given))) for given, _, _ in cases.units])
    wanted = torch.tensor([total for _, _, total in cases.units])
    yield goldens.apart("units' lengths", lengths, wanted, 1e-5)
