"""Encoders: what they promise about bytes, frames and memory."""

from __future__ import annotations

import gc
import io
import itertools
import os
import threading
import wave
from pathlib import Path
from typing import get_args

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.types import Samples
from server.audio.encoder import AudioEncoder, EncodeError, create_encoder, encode_whole
from server.audio.formats import FORMATS, ResponseFormat

ALL: tuple[ResponseFormat, ...] = get_args(ResponseFormat)
LOSSLESS: tuple[ResponseFormat, ...] = ("flac", "wav", "pcm")
CODECS: tuple[ResponseFormat, ...] = ("mp3", "opus", "aac", "flac")
RATE = 24_000

# What a decoder plays beyond the input: the codec's own delay (MP3 576 + 529 samples, AAC one
# frame, Opus trims its own), and what fills up the end (one frame; LAME takes up to two).
PADDING_SAMPLES = {"mp3": 1152, "opus": 480, "aac": 1024, "flac": 0, "wav": 0, "pcm": 0}
DELAY_SAMPLES = {"mp3": 1105, "opus": 0, "aac": 1024, "flac": 0, "wav": 0, "pcm": 0}


def tone(length: int, rate: int = RATE) -> Samples:
    time_s = np.arange(length) / rate
    wobble = 0.5 + 0.4 * np.sin(2 * np.pi * 3 * time_s)
    return (wobble * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)


def encode_parts(encoder: AudioEncoder, parts: list[Samples]) -> list[bytes]:
    return [*(encoder.encode(part) for part in parts), encoder.flush()]


def decode(response_format: ResponseFormat, data: bytes, rate: int = RATE) -> npt.NDArray[np.int16]:
    """int16 [T], at the rate it was encoded from."""
    if response_format == "pcm":
        return np.frombuffer(data, "<i2")
    resampler = av.AudioResampler("s16", "mono", rate)
    with av.open(io.BytesIO(data), "r") as container:
        frames = [f for g in container.decode(audio=0) for f in resampler.resample(g)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


@pytest.mark.parametrize("response_format", ALL)
@given(cuts=st.lists(st.integers(0, 9_000), max_size=6))
@settings(max_examples=12, deadline=None)
def test_any_split_decodes_to_the_same_audio(
    response_format: ResponseFormat, cuts: list[int]
) -> None:
    clip = tone(9_000)
    split = encode_parts(create_encoder(response_format), np.split(clip, sorted(cuts)))
    whole = encode_parts(create_encoder(response_format), [clip])
    decoded = decode(response_format, b"".join(split))
    np.testing.assert_array_equal(decoded, decode(response_format, b"".join(whole)))


@pytest.mark.parametrize("response_format", ALL)
@pytest.mark.parametrize("length", [480, 24_000, 30_011])
def test_decoded_audio_is_as_long_as_the_input(
    response_format: ResponseFormat, length: int
) -> None:
    decoded = decode(response_format, encode_whole(response_format, tone(length)))
    excess = len(decoded) - length
    assert 0 <= excess <= DELAY_SAMPLES[response_format] + PADDING_SAMPLES[response_format]


@pytest.mark.parametrize("response_format", LOSSLESS)
def test_lossless_formats_keep_every_sample(response_format: ResponseFormat) -> None:
    clip = tone(10_000)
    expected = np.rint(clip * 32767).astype(np.int16)
    parts = encode_parts(create_encoder(response_format), np.split(clip, [1, 1_000]))
    np.testing.assert_array_equal(decode(response_format, b"".join(parts)), expected)


@pytest.mark.parametrize("response_format", ["mp3", "opus", "aac"])
def test_lossy_formats_sound_like_the_input(response_format: ResponseFormat) -> None:
    clip = tone(RATE)
    decoded = decode(response_format, encode_whole(response_format, clip)) / 32767
    delayed = decoded[DELAY_SAMPLES[response_format] :][:RATE]
    assert np.corrcoef(clip, delayed)[0, 1] > 0.98


@pytest.mark.parametrize(
    ("response_format", "magic"),
    [
        ("mp3", b"\xff\xf3"),  # MPEG-2 layer III, no CRC, and nothing before it
        ("aac", b"\xff\xf1"),
        ("opus", b"OggS"),
        ("flac", b"fLaC"),
        ("wav", b"RIFF\xff\xff\xff\xffWAVEfmt "),
    ],
)
def test_stream_starts_with_the_magic_bytes(response_format: ResponseFormat, magic: bytes) -> None:
    parts = encode_parts(create_encoder(response_format), [tone(960)] * 10)
    assert b"".join(parts).startswith(magic)


@pytest.mark.parametrize("response_format", CODECS)
def test_codecs_give_mono_at_the_rate_asked_for(response_format: ResponseFormat) -> None:
    with av.open(io.BytesIO(encode_whole(response_format, tone(4_800)))) as container:
        stream = container.streams.audio[0]
        rate = 48_000 if response_format == "opus" else RATE
        assert (stream.channels, stream.rate) == (1, rate)


@pytest.mark.parametrize(
    ("response_format", "rate"),
    [(name, rate) for name, row in FORMATS.items() for rate in row.sample_rates],
)
def test_every_rate_of_the_table_can_be_encoded(response_format: ResponseFormat, rate: int) -> None:
    clip = tone(rate // 4, rate)
    decoded = decode(response_format, encode_whole(response_format, clip, rate), rate)
    assert np.abs(decoded).max() > 0.6 * 32767


def test_first_wav_bytes_are_a_whole_header() -> None:
    encoder = create_encoder("wav")
    with wave.open(io.BytesIO(encoder.encode(tone(10)))) as reader:
        assert reader.getparams()[:3] == (1, 2, RATE)
        assert reader.readframes(10)[:2] == b"\x00\x00"
    assert len(encoder.encode(tone(10))) == 20


def test_whole_wav_states_its_true_length() -> None:
    data = encode_whole("wav", tone(1_234), 16_000)
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    with wave.open(io.BytesIO(data)) as reader:
        assert (reader.getnframes(), reader.getframerate()) == (1_234, 16_000)


def test_whole_flac_states_its_true_length() -> None:
    clip = tone(5_000)
    read, rate = soundfile.read(io.BytesIO(encode_whole("flac", clip)), dtype="int16")
    assert rate == RATE
    np.testing.assert_array_equal(read, np.rint(clip * 32767).astype(np.int16))


def test_an_ogg_page_holds_one_frame_of_20_ms() -> None:
    data = b"".join(encode_parts(create_encoder("opus"), [tone(RATE)]))
    granules = [
        int.from_bytes(data[at + 6 : at + 14], "little")
        for at in itertools.accumulate(
            (len(page) + 4 for page in data.split(b"OggS")[1:-1]), initial=0
        )
    ]
    audio = [granule for granule in granules if granule > 0]
    assert {b - a for a, b in itertools.pairwise(audio[:-1])} == {960}


@pytest.mark.parametrize("response_format", ALL)
def test_no_audio_makes_no_error(response_format: ResponseFormat) -> None:
    silent = create_encoder(response_format)
    header = silent.encode(np.zeros(0, np.float32)) + silent.flush()
    assert len(header) < 200


@pytest.mark.parametrize("response_format", ALL)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sample_that_is_no_number_is_an_error(
    response_format: ResponseFormat, bad: float
) -> None:
    clip = tone(2_000)
    clip[7] = bad
    with pytest.raises(EncodeError, match="finite"):
        create_encoder(response_format).encode(clip)


@pytest.mark.parametrize("response_format", ALL)
def test_what_is_too_loud_is_clipped(response_format: ResponseFormat) -> None:
    clip = np.float32(4) * tone(RATE)
    decoded = decode(response_format, encode_whole(response_format, clip))
    clipped = decode(response_format, encode_whole(response_format, np.clip(clip, -1, 1)))
    np.testing.assert_array_equal(decoded, clipped)


def test_a_rate_that_the_codec_lacks_is_an_encode_error() -> None:
    with pytest.raises(EncodeError):
        create_encoder("opus", 22_050)


@pytest.mark.parametrize("response_format", CODECS)
def test_dropped_half_way_an_encoder_frees_its_codec(response_format: ResponseFormat) -> None:
    def codec_contexts() -> int:
        return sum(type(o).__name__ == "AudioCodecContext" for o in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = codec_contexts()
        encoder = create_encoder(response_format)
        encoder.encode(tone(5_000))
        assert codec_contexts() == before + 1
        del encoder
        assert codec_contexts() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("response_format", CODECS)
def test_an_encoder_starts_no_thread(response_format: ResponseFormat) -> None:
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("threads are counted by /proc")
    threads, cpus = set(tasks.iterdir()), os.sched_getaffinity(0)
    encoder = create_encoder(response_format)
    encoder.encode(tone(5_000))
    assert set(tasks.iterdir()) <= threads
    assert os.sched_getaffinity(0) == cpus


@pytest.mark.parametrize("response_format", CODECS)
def test_encoders_in_two_threads_do_not_disturb_each_other(
    response_format: ResponseFormat,
) -> None:
    clips = [tone(RATE), -0.5 * tone(RATE)]
    expected = [decode(response_format, encode_whole(response_format, clip)) for clip in clips]
    results: dict[int, bytes] = {}

    def work(index: int) -> None:
        parts = np.array_split(clips[index], 25)
        results[index] = b"".join(encode_parts(create_encoder(response_format), parts))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(2):
        np.testing.assert_array_equal(decode(response_format, results[index]), expected[index])
