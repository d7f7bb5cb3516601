"""When each word is spoken, from where the decoder looks while it writes."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

import numpy as np
from ctranslate2 import StorageView
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import merge_punctuations

from engine.types import SpokenWord
from engine.whisper.windows import SAMPLES_PER_FRAME, Window

_FRAMES_PER_S = 50
"""Of the encoder's output: it halves the frames that it is given."""

_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})

# Marks that belong to the word after, or before them.
_OPENING = "\"'“¿([{-"
_CLOSING = "\"'.。,，!！?？:：”)]}、"

Phrases = Sequence[Sequence[int]]
"""The text tokens of a window, phrase by phrase."""


def align_words(
    model: WhisperModel,
    tokenizer: Tokenizer,
    audio: StorageView,
    windows: Sequence[Window],
    texts: Sequence[Phrases],
) -> list[list[tuple[SpokenWord, ...]]]:
    """The words of each phrase of each window; joined, they are the phrase's text.

    Args:
        model: Loaded.
        tokenizer: For the recording's language and task.
        audio: [B, 1500, D], the windows encoded.
        windows: B of them.
        texts: What was heard in each.
    """
    results = model.model.align(
        audio,
        tokenizer.sot_sequence,
        [list(chain.from_iterable(phrases)) for phrases in texts],
        [max(len(window.samples) // SAMPLES_PER_FRAME, 2) for window in windows],
    )
    return [
        list(_spoken(tokenizer, window, phrases, result.alignments, result.text_token_probs))
        for window, phrases, result in zip(windows, texts, results, strict=True)
    ]


def _spoken(
    tokenizer: Tokenizer,
    window: Window,
    phrases: Phrases,
    path: Sequence[tuple[int, int]],
    probabilities: Sequence[float],
) -> Iterator[tuple[SpokenWord, ...]]:
    """The words of each phrase, by the (token, frame) path that the decoder looked along."""
    steps = np.asarray(path)
    # One more than there are tokens: the end of the last.
    firsts = np.searchsorted(steps[:, 0], np.arange(len(probabilities) + 1))
    starts_s = (steps[firsts, 1] / _FRAMES_PER_S).tolist()
    done = 0
    for phrase in phrases:
        words = split_words(tokenizer, phrase)
        bounds = pairwise([done, *(done + end for _, end in words)])
        texts = _with_marks([text for text, _ in words])
        yield tuple(
            SpokenWord(
                text,
                *window.word_interval(starts_s[begin], starts_s[end]),
                float(np.mean(probabilities[begin:end])),
            )
            for text, (begin, end) in zip(texts, bounds, strict=True)
            if text
        )
        done += len(phrase)


def split_words(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[tuple[str, int]]:
    """The words of a text, each with the number of tokens up to its end.

    Joined, they are the text, whatever the model wrote. faster-whisper's own split loses the
    words after one that is not valid UTF-8.
    """
    is_spaced = tokenizer.language_code not in _UNSPACED
    words: list[tuple[str, int]] = []
    for piece, end in _characters(tokenizer, tokens):
        is_mark = piece.strip() in string.punctuation
        if words and is_spaced and not piece.startswith(" ") and not is_mark:
            words[-1] = (words[-1][0] + piece, end)
        else:
            words.append((piece, end))
    return words


def _characters(tokenizer: Tokenizer, tokens: Sequence[int]) -> Iterator[tuple[str, int]]:
    """The text in pieces as small as tokens allow without breaking a character."""
    begin = 0
    for end in range(1, len(tokens) + 1):
        piece = tokenizer.decode(tokens[begin:end])
        if end == len(tokens) or not piece.endswith("\N{REPLACEMENT CHARACTER}"):
            yield piece, end
            begin = end


def _with_marks(texts: Sequence[str]) -> list[str]:
    """Marks moved to the words that they belong to; an empty text is left of each."""
    entries = [{"word": text, "tokens": []} for text in texts]
    merge_punctuations(entries, _OPENING, _CLOSING)
    return [str(entry["word"]) for entry in entries]
