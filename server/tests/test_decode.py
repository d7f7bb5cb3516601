"""Decoding uploads: every kind we name, and everything else ends in a DecodeError."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio import AudioFrame
from av.video import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.types import Samples
from server.audio import decode as decode_module
from server.audio.decode import DecodeError, DecodeLimits, decode, decode_clip
from server.audio.encoder import encode_whole
from server.audio.formats import ResponseFormat

RATE = 16_000
PITCH_HZ = 440.0


def tone(length: int, rate: int) -> Samples:
    return (0.5 * np.sin(2 * np.pi * PITCH_HZ * np.arange(length) / rate)).astype(np.float32)


def decode_bytes(data: bytes, limits: DecodeLimits | None = None) -> Samples:
    return np.concatenate(list(decode(io.BytesIO(data), RATE, limits or DecodeLimits())))


def mux(
    container: str, codec: str, rate: int = 48_000, layout: str = "stereo", with_video: bool = False
) -> bytes:
    """Two seconds of a tone on every channel, behind a video track of one frame if asked for."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        video = output.add_stream("mpeg4", rate=10, width=64, height=64) if with_video else None
        audio = output.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(audio, av.AudioStream)
        if video is not None:
            output.mux(video.encode(VideoFrame(64, 64, "yuv420p")))
            output.mux(video.encode(None))
        planes = np.tile(tone(2 * rate, rate), (audio.channels, 1))
        frame = AudioFrame.from_ndarray(planes, "fltp", layout)
        frame.sample_rate, frame.pts = rate, 0
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    return file.getvalue()


def wav(
    pcm: bytes,
    rate: int = RATE,
    channels: int = 1,
    *,
    bits: int = 16,
    kind: int = 1,
    claimed_bytes: int | None = None,
) -> bytes:
    size = len(pcm) if claimed_bytes is None else claimed_bytes
    block = channels * bits // 8
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, channels, rate, 0, block, bits)
    return b"RIFF\xff\xff\xff\xffWAVE" + fmt + struct.pack("<4sI", b"data", size) + pcm


def pcm_tone(seconds: int = 1) -> bytes:
    return (tone(seconds * RATE, RATE) * 32767).astype("<i2").tobytes()


def assert_is_the_tone(audio: Samples, seconds: float, slack_s: float = 0.1) -> None:
    assert audio.dtype == np.float32
    assert len(audio) / RATE == pytest.approx(seconds, abs=slack_s)
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    assert np.argmax(spectrum) * RATE / len(audio) == pytest.approx(PITCH_HZ, abs=2)
    middle = audio[len(audio) // 4 : -len(audio) // 4]
    assert np.sqrt(np.square(middle).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.15)


@pytest.mark.parametrize("response_format", ["mp3", "opus", "aac", "flac", "wav"])
def test_what_we_encode_can_be_decoded(response_format: ResponseFormat) -> None:
    audio = decode_bytes(encode_whole(response_format, tone(48_000, 24_000)))
    assert_is_the_tone(audio, 2.0)


@pytest.mark.parametrize(
    ("container", "codec", "layout", "with_video"),
    [
        ("mp4", "aac", "stereo", False),
        ("ipod", "aac", "5.1", False),
        ("mov", "alac", "stereo", True),
        ("mp4", "aac", "stereo", True),
        ("webm", "libopus", "stereo", False),
        ("matroska", "flac", "mono", True),
        ("oga", "flac", "stereo", False),
        ("mp3", "libmp3lame", "stereo", False),
        ("mp2", "mp2", "stereo", False),
        ("mpeg", "mp2", "stereo", False),
        ("avi", "libmp3lame", "stereo", True),
        ("wav", "pcm_f32le", "stereo", False),
        ("wav", "pcm_s24le", "mono", False),
    ],
)
def test_audio_is_found_in_every_kind_of_file(
    container: str, codec: str, layout: str, with_video: bool
) -> None:
    data = mux(container, codec, layout=layout, with_video=with_video)
    assert_is_the_tone(decode_bytes(data), 2.0)


@pytest.mark.parametrize("response_format", ["mp3", "aac", "flac"])
def test_an_id3_tag_may_stand_before_the_audio(response_format: ResponseFormat) -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
    audio = decode_bytes(tag + encode_whole(response_format, tone(RATE, RATE), RATE))
    assert_is_the_tone(audio, 1.0, slack_s=0.15)


def test_more_padding_than_the_id3_tag_says_does_no_harm() -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(500)
    audio = decode_bytes(tag + encode_whole("mp3", tone(RATE, RATE), RATE))
    assert_is_the_tone(audio, 1.0, slack_s=0.15)


def test_blocks_are_of_half_a_second() -> None:
    sizes = [len(block) for block in decode(io.BytesIO(wav(pcm_tone(5))), RATE)]
    assert sum(sizes) == 5 * RATE
    assert all(RATE // 2 <= size < RATE for size in sizes[:-1])


def test_other_rates_can_be_asked_for() -> None:
    blocks = decode(io.BytesIO(wav(pcm_tone(2))), 24_000)
    assert sum(map(len, blocks)) == 48_000


def test_a_path_is_read_whatever_its_name_says(tmp_path: Path) -> None:
    path = tmp_path / "notes.m3u8"
    path.write_bytes(wav(pcm_tone()))
    assert_is_the_tone(np.concatenate(list(decode(path, RATE))), 1.0)


def test_a_file_is_read_from_its_start_and_left_open() -> None:
    file = io.BytesIO(wav(pcm_tone()))
    file.seek(100)
    assert sum(map(len, decode(file, RATE))) == RATE
    assert not file.closed


def test_a_streamed_wav_of_unknown_length_is_read_to_its_end() -> None:
    audio = decode_bytes(wav(pcm_tone(2), claimed_bytes=0xFFFF_FFFF))
    assert_is_the_tone(audio, 2.0, slack_s=0)


def test_a_wav_that_claims_4_gb_gives_what_it_has() -> None:
    audio = decode_bytes(wav(pcm_tone(), claimed_bytes=0xFFFF_FFF0))
    assert_is_the_tone(audio, 1.0, slack_s=0)


def test_eight_channels_are_mixed_down() -> None:
    frames = np.repeat(np.frombuffer(pcm_tone(), "<i2"), 8)
    assert_is_the_tone(decode_bytes(wav(frames.tobytes(), channels=8)), 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e30])
def test_floats_beyond_all_bounds_come_out_within_them(value: float) -> None:
    pcm = np.full(RATE, value, "<f4").tobytes()
    audio = decode_bytes(wav(pcm, kind=3, bits=32))
    assert len(audio) == RATE
    assert np.abs(audio).max() <= 1.0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"R",
        b"RIFF\xff\xff\xff\xffWAVE",
        b"Dear diary, this is no audio.\n" * 100,
        bytes(10_000),
        np.random.default_rng(1).bytes(10_000),
        b"\x89PNG\r\n\x1a\n" + bytes(1_000),
        b"fLaC",
        b"OggS" + bytes(200),
        b"ID3\x04\x00\x00\x00\x00\x00\x00" * 50,
        b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f",
        b"\x00\x00\x00\x18ftypisom" + bytes(1_000),
        b"\x1a\x45\xdf\xa3" + np.random.default_rng(2).bytes(5_000),
        b"\xff\xfb\x90\x00" + np.random.default_rng(3).bytes(100_000),
        b"\xff\xf1\x50\x80" + np.random.default_rng(4).bytes(100_000),
        b"\x00\x00\x01\xba" + np.random.default_rng(5).bytes(100_000),
        b"RIFF\xff\xff\xff\xffAVI " + np.random.default_rng(6).bytes(100_000),
        wav(b""),
        wav(pcm_tone(), rate=0),
        wav(pcm_tone(), rate=1),
        wav(pcm_tone(), rate=4_000_000_000),
        wav(pcm_tone(), channels=0),
        wav(pcm_tone(), channels=9),
        wav(pcm_tone(), bits=0),
        wav(pcm_tone(), kind=0xFFFF),
    ],
)
def test_what_is_no_audio_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_bytes(data)


def test_an_empty_file_is_called_empty() -> None:
    with pytest.raises(DecodeError, match="empty"):
        decode_bytes(b"")


def test_a_video_without_sound_is_refused() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        video = output.add_stream("mpeg4", rate=10, width=64, height=64)
        output.mux(video.encode(VideoFrame(64, 64, "yuv420p")))
        output.mux(video.encode(None))
    with pytest.raises(DecodeError, match="no audio track"):
        decode_bytes(file.getvalue())


def test_an_mp4_cut_off_before_its_index_is_refused() -> None:
    data = mux("mp4", "aac")
    with pytest.raises(DecodeError, match="damaged or incomplete"):
        decode_bytes(data[: len(data) * 9 // 10])


@pytest.mark.parametrize(("container", "codec"), [("webm", "libopus"), ("mp3", "libmp3lame")])
def test_a_recording_that_broke_off_gives_what_it_has(container: str, codec: str) -> None:
    data = mux(container, codec)
    assert_is_the_tone(decode_bytes(data[: len(data) // 2]), 1.0)


def test_a_small_file_cannot_unfold_without_end() -> None:
    bomb = encode_whole("flac", np.zeros(600 * 8_000, np.float32), 8_000)
    assert len(bomb) < 200_000
    blocks: list[Samples] = []
    with pytest.raises(DecodeError, match="longer than 60 s"):
        blocks.extend(decode(io.BytesIO(bomb), RATE, DecodeLimits(max_duration_s=60)))
    assert 55 < sum(map(len, blocks)) / RATE <= 60


@pytest.mark.parametrize(
    "limits",
    [
        DecodeLimits(max_decoded_bytes=30_000),
        DecodeLimits(max_channels=0),
        DecodeLimits(max_sample_rate=8_000),
        DecodeLimits(min_sample_rate=44_100),
    ],
)
def test_each_limit_is_kept(limits: DecodeLimits) -> None:
    assert_is_the_tone(decode_bytes(wav(pcm_tone())), 1.0)
    with pytest.raises(DecodeError):
        decode_bytes(wav(pcm_tone()), limits)


@pytest.fixture
def file_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What makes FFmpeg open a WAV file that lies in the working directory."""
    (tmp_path / "secret.wav").write_bytes(wav(pcm_tone()))
    monkeypatch.chdir(tmp_path)
    return b"ffconcat version 1.0\nfile secret.wav\n"


def test_ffmpeg_by_itself_follows_a_list_of_files(file_list: bytes) -> None:
    """Else the tests below would prove nothing."""
    with av.open(io.BytesIO(file_list), "r") as container:
        assert next(container.decode(audio=0)).samples > 0


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)])
def test_a_list_of_files_is_not_followed(file_list: bytes, tag: bytes) -> None:
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n"
    for data in (file_list, playlist, b"secret.wav"):
        with pytest.raises(DecodeError):
            decode_bytes(tag + data)


def test_no_second_file_is_opened_even_if_the_kind_is_mistaken(
    file_list: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_module, "sniff", lambda _: "concat")
    with pytest.raises(DecodeError, match="damaged or incomplete"):
        decode_bytes(file_list)


@pytest.fixture(scope="module")
def sound_files() -> list[bytes]:
    clip = tone(12_000, 24_000)
    ours = [encode_whole(name, clip) for name in ("mp3", "opus", "aac", "flac", "wav")]
    return [*ours, mux("mp4", "aac"), mux("webm", "libopus"), mux("mpeg", "mp2")]


@given(
    which=st.integers(0, 7),
    flips=st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 255)), max_size=20),
    keep=st.integers(1, 40_000),
)
@settings(max_examples=80, deadline=None)
def test_damage_ends_in_audio_or_in_a_decode_error(
    sound_files: list[bytes], which: int, flips: list[tuple[int, int]], keep: int
) -> None:
    data = bytearray(sound_files[which][:keep])
    for at, value in flips:
        data[at % len(data)] = value
    blocks: list[Samples] = []
    with suppress(DecodeError):
        blocks.extend(decode(io.BytesIO(data), RATE, DecodeLimits(max_duration_s=20)))
    assert sum(map(len, blocks)) <= 20 * RATE
    assert all(np.abs(block).max() <= 1.0 for block in blocks)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_clip_comes_in_one_piece_at_its_own_rate(rate: int) -> None:
    samples = np.sin(np.arange(2 * rate) * 0.05).astype(np.float32) / 2
    clip, clip_rate = decode_clip(io.BytesIO(encode_whole("wav", samples, rate)), DecodeLimits())
    assert clip_rate == rate
    np.testing.assert_allclose(clip, samples, atol=1e-3)


@pytest.mark.parametrize("content", [b"", b"junk" * 100])
def test_clip_that_is_no_audio_is_refused(content: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_clip(io.BytesIO(content), DecodeLimits())


def test_clip_over_the_limit_is_refused() -> None:
    long = encode_whole("flac", np.zeros(24_000 * 5, np.float32))
    with pytest.raises(DecodeError, match="longer than 2 s"):
        decode_clip(io.BytesIO(long), DecodeLimits(max_duration_s=2))
