"""libespeak-ng through ctypes: text in, 16-bit samples and word positions out.

The library is GPL-3.0-or-later. It is a package of its own (`espeakng-loader`), is loaded only in
the worker process that speaks with it, and no part of it is copied here.

Its wave generator keeps state that no call resets (the phase of the pitch flutter, noise), so the
same call gives other samples each time. A library loaded afresh has no past: every utterance
opens its own and closes it, which takes about 1 ms, and equal utterances give equal samples.
"""

from __future__ import annotations

import os
import threading
from _ctypes import dlclose
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CDLL, _Pointer, c_char_p, c_long, c_short, c_size_t, c_uint
from pathlib import Path

import espeakng_loader
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from engine.errors import EngineFault, LoadFailed
from engine.espeak import native
from engine.espeak.native import Event, NativeVoice, WordStart

SAMPLE_RATE = 22050

_REINSTALL = "pip install --force-reinstall espeakng-loader"

Pcm16 = npt.NDArray[np.int16]
Deliver = Callable[[Pcm16, list[WordStart]], bool]
"""Takes [T] samples, its own to keep, and the words that begin in them; False stops the speech."""

# Two open at a time would be one and the same to the loader, and corrupt each other.
_one_at_a_time = threading.Lock()


class Utterance(Struct, frozen=True, kw_only=True):
    """All that decides the samples."""

    text: str
    """Without NUL or lone surrogates."""
    voice: str
    """An identifier, "+variant" after it or not."""
    words_per_minute: int
    """80 to 450."""
    seed: int
    """0 to 2**31 - 1."""
    pitch: int = 50
    """0 to 99; 50 is the voice's own."""
    pitch_range: int = 50
    """0, a monotone, to 99; 50 is the voice's own."""
    ends_with_pause: bool
    """Whether the silence due after the last clause is part of it."""


class EspeakLibrary:
    """The installed library. One utterance at a time in a process; others wait."""

    def __init__(self, block_ms: int) -> None:
        """Find the library; nothing is loaded yet.

        Args:
            block_ms: Audio in a block; the library makes no less than 60 ms.

        Raises:
            LoadFailed: the package is damaged.
        """
        self._block_ms = block_ms
        self._path = Path(espeakng_loader.get_library_path())
        self._data = Path(espeakng_loader.get_data_path())
        for path in (self._path, self._data / "phontab"):
            if not path.is_file():
                raise LoadFailed(f"{path.name} is missing: {_REINSTALL}")

    def voices(self) -> tuple[NativeVoice, ...]:
        """Every base voice, in the library's order.

        Raises:
            LoadFailed: the library does not start.
        """
        with self._opened() as library:
            library.espeak_ListVoices.restype = native.VoiceList
            return tuple(native.native_voices(library.espeak_ListVoices(None)))

    def variants(self) -> tuple[str, ...]:
        """Names that may follow the "+" of any voice."""
        return tuple(sorted(path.name for path in (self._data / "voices" / "!v").iterdir()))

    def speak(self, utterance: Utterance, deliver: Deliver) -> None:
        """Synthesise in this thread; returns when all is delivered or `deliver` said to stop.

        Raises:
            EngineFault: the library refused.
            Exception: whatever `deliver` raised.
        """
        raised: list[BaseException] = []

        def on_block(pcm: _Pointer[c_short], count: int, events: _Pointer[Event]) -> int:
            # An exception cannot unwind the C frames; ctypes would print it and go on.
            try:
                if not pcm:
                    return 0
                samples = np.ctypeslib.as_array(pcm, (count,)).copy()
                return 0 if deliver(samples, native.word_starts(events)) else 1
            except BaseException as exc:  # noqa: BLE001
                raised.append(exc)
                return 1

        callback = native.SynthCallback(on_block)
        with self._opened() as library:
            library.espeak_SetSynthCallback(callback)
            _synthesize(library, utterance)
        if raised:
            raise raised[0]

    @contextmanager
    def _opened(self) -> Iterator[CDLL]:
        with _one_at_a_time:
            try:
                library = CDLL(str(self._path))
            except OSError as exc:
                raise LoadFailed(f"{self._path.name} does not load: {exc}") from exc
            try:
                rate = library.espeak_Initialize(
                    native.OUTPUT_SYNCHRONOUS,
                    self._block_ms,
                    os.fsencode(self._data),
                    native.INITIALIZE_DONT_EXIT,
                )
                if rate != SAMPLE_RATE:
                    raise LoadFailed(f"espeak-ng cannot read its data: {_REINSTALL}")
                yield library
            finally:
                library.espeak_Terminate()
                dlclose(library._handle)  # noqa: SLF001  ctypes has no public way to close


def _synthesize(library: CDLL, utterance: Utterance) -> None:
    if library.espeak_SetVoiceByName(utterance.voice.encode()):
        raise EngineFault(f"espeak-ng does not take its voice {utterance.voice!r}")
    library.espeak_SetParameter(native.PARAMETER_RATE, utterance.words_per_minute, 0)
    library.espeak_SetParameter(native.PARAMETER_PITCH, utterance.pitch, 0)
    library.espeak_SetParameter(native.PARAMETER_RANGE, utterance.pitch_range, 0)
    # Its own generator, and the C library's, which two variants (Reed, caleb) draw from.
    library.espeak_ng_SetRandSeed(c_long(utterance.seed))
    library.srand(c_uint(utterance.seed))
    text = utterance.text.encode()
    status = library.espeak_Synth(
        c_char_p(text),
        c_size_t(len(text) + 1),
        0,
        native.POSITION_CHARACTER,
        0,
        native.CHARS_UTF8 | (native.END_PAUSE if utterance.ends_with_pause else 0),
        None,
        None,
    )
    if status:
        raise EngineFault(f"espeak-ng failed with status {status}")
