"""The C side of libespeak-ng (espeak-ng/speak_lib.h), and its structures read into ours."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    Union,
    _Pointer,
    c_char,
    c_char_p,
    c_int,
    c_short,
    c_ubyte,
    c_uint,
    c_void_p,
    string_at,
)

from msgspec import Struct

OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
PARAMETER_RATE = 1
PARAMETER_PITCH = 3
PARAMETER_RANGE = 4
POSITION_CHARACTER = 1
CHARS_UTF8 = 1
END_PAUSE = 0x1000
_EVENT_LIST_TERMINATED = 0
_EVENT_WORD = 1


class _EventId(Union):
    _fields_ = (("number", c_int), ("name", c_char_p), ("string", c_char * 8))


class Event(Structure):
    _fields_ = (
        ("type", c_int),
        ("unique_identifier", c_uint),
        ("text_position", c_int),
        ("length", c_int),
        ("audio_position", c_int),
        ("sample", c_int),
        ("user_data", c_void_p),
        ("id", _EventId),
    )


class Voice(Structure):
    _fields_ = (
        ("name", c_char_p),
        ("languages", c_void_p),
        ("identifier", c_char_p),
        ("gender", c_ubyte),
        ("age", c_ubyte),
        ("variant", c_ubyte),
        ("reserved", c_ubyte),
        ("score", c_int),
        ("spare", c_void_p),
    )


SynthCallback = CFUNCTYPE(c_int, POINTER(c_short), c_int, POINTER(Event))
"""Given (samples or NULL at the end, their count, events up to a terminator); 1 aborts."""

VoiceList = POINTER(POINTER(Voice))


class NativeVoice(Struct, frozen=True):
    """A voice as the library lists it."""

    identifier: str
    """"gmw/en-US": the one name by which every voice can be set."""
    name: str
    codes: tuple[tuple[int, str], ...]
    """(priority, language code); the smaller, the better it speaks the language."""


class WordStart(Struct, frozen=True):
    """The library begins a word; a number and the like is several to it."""

    position: int
    """Offset in the utterance's text, in characters."""
    sample: int
    """From the utterance's first sample."""


def word_starts(events: _Pointer[Event]) -> list[WordStart]:
    """The word events of a callback's list."""
    starts = []
    index = 0
    while (event := events[index]).type != _EVENT_LIST_TERMINATED:
        if event.type == _EVENT_WORD:
            starts.append(WordStart(event.text_position - 1, event.sample))
        index += 1
    return starts


def native_voices(voices: _Pointer[_Pointer[Voice]]) -> Iterator[NativeVoice]:
    """The voices of a NULL-terminated list."""
    index = 0
    while voices[index]:
        voice = voices[index].contents
        codes = tuple(_language_codes(voice.languages))
        yield NativeVoice(voice.identifier.decode(), voice.name.decode().strip(), codes)
        index += 1


def _language_codes(address: int) -> Iterator[tuple[int, str]]:
    """Read a packed list of (priority byte, code, NUL), which ends in a zero byte."""
    while priority := c_ubyte.from_address(address).value:
        code = string_at(address + 1)
        yield priority, code.decode()
        address += len(code) + 2
