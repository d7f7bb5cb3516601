"""Uploads that were files of sound once: they are decoded, or refused with a DecodeError."""

import io
from contextlib import suppress

import numpy as np
from hypothesis import example, given

from server.audio.decode import DecodeLimits, decode, decode_clip
from server.audio.errors import DecodeError
from server.tests.fuzz.bounds import in_little_memory, soon
from server.tests.fuzz.effort import tries
from server.tests.fuzz.seeds import RATE, sounds, spoiled

LIMITS = DecodeLimits(max_duration_s=60.0)
FILES = tuple(sounds().values())


def test_every_seed_is_decoded() -> None:
    for kind, data in sounds().items():
        samples = np.concatenate(list(decode(io.BytesIO(data), RATE, LIMITS)))
        assert len(samples) > RATE // 10, kind


def test_spoiled_upload_is_sound_or_refused() -> None:
    @tries(150)
    @given(spoiled(FILES))
    @example(b"")
    @example(b"ID3" + b"\x7f" * 7)
    @example(b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff")
    @example(b"\x00\x00\x00\x01ftyp\xff\xff\xff\xff\xff\xff\xff\xff")
    def is_sound_or_refused(data: bytes) -> None:
        heard = 0
        with soon(), suppress(DecodeError):
            for block in decode(io.BytesIO(data), RATE, LIMITS):
                assert block.dtype == np.float32
                assert np.abs(block).max(initial=0) <= 1
                heard += len(block)
        assert heard <= (LIMITS.max_duration_s + 1) * RATE

    with in_little_memory():
        is_sound_or_refused()


def test_spoiled_recording_of_a_voice_is_sound_or_refused() -> None:
    @tries(50)
    @given(spoiled(FILES))
    def is_sound_or_refused(data: bytes) -> None:
        with soon(), suppress(DecodeError):
            samples, rate = decode_clip(io.BytesIO(data), LIMITS)
            assert len(samples) <= (LIMITS.max_duration_s + 1) * rate
            assert LIMITS.min_sample_rate <= rate <= LIMITS.max_sample_rate

    with in_little_memory():
        is_sound_or_refused()
