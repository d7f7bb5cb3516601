"""What each tool takes: its docstring and the fields' descriptions are what a model reads."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from server.audio.formats import ResponseFormat

_Language = Annotated[str | None, Meta(description="BCP 47, such as en or pt-BR.")]
_Sound = Annotated[bytes | None, Meta(description="The recording itself, in base64.")]
_Recording = Annotated[str | None, Meta(description="The recording: a file in the allowed folder.")]


class Speak(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Speak a text. The speech is returned as audio, or written to a file if a path is given."""

    text: Annotated[str, Meta(description="What to say.")]
    voice: Annotated[str, Meta(description="A name or an id that list_voices gives.")] = "alloy"
    path: Annotated[
        str | None,
        Meta(description="A file to write in the allowed folder; its ending is the format's name."),
    ] = None
    overwrite: Annotated[bool, Meta(description="Replace the file if there is one.")] = False
    format: Annotated[
        ResponseFormat | None, Meta(description="Of the audio; mp3, or the path's, if absent.")
    ] = None
    speed: Annotated[
        Annotated[float, Meta(ge=0.25, le=4.0)] | None, Meta(description="1 is normal.")
    ] = None
    language: _Language = None
    instructions: Annotated[
        Annotated[str, Meta(max_length=4096)] | None,
        Meta(description="How to say it, for engines that honour this."),
    ] = None
    seed: Annotated[
        Annotated[int, Meta(ge=0, le=2**31 - 1)] | None,
        Meta(description="The same seed gives the same speech."),
    ] = None
    model: Annotated[str, Meta(description="tts-1 is the best engine there is.")] = "tts-1"


class Transcribe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Write down what is said in a recording: give either path or audio."""

    path: _Recording = None
    audio: _Sound = None
    language: _Language = None
    prompt: Annotated[
        str | None, Meta(description="Text before the recording's, in the style wanted.")
    ] = None
    format: Annotated[
        Literal["text", "srt", "vtt", "json", "verbose_json"],
        Meta(description="srt and vtt are subtitles; verbose_json has times."),
    ] = "text"
    model: Annotated[str, Meta(description="whisper-1 is the best engine there is.")] = "whisper-1"


class ListVoices(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """List the voices that speak can use: names, and voices that were added."""

    language: Annotated[
        str | None,
        Meta(description="BCP 47: only voices of this language, the engine's own among them."),
    ] = None


class AddVoice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep a recording of 3 to 10 seconds of one person's speech as a voice to speak with: give
    either path or audio. Only with that person's consent."""

    name: Annotated[str, Meta(description="What the voice is to be called.")]
    path: _Recording = None
    audio: _Sound = None
    text: Annotated[
        str | None, Meta(description="What is said in it, word for word; transcribed if absent.")
    ] = None
    language: _Language = None
    consent: Annotated[
        str | None, Meta(description="Id of a stored consent, where the server demands one.")
    ] = None


class Status(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say which engines there are, where their weights are and what memory they use."""
