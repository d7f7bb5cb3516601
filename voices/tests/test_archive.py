"""An exported voice may come from anybody: it is whole, or refused."""

from __future__ import annotations

import warnings
import zipfile
from io import BytesIO

import msgspec
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from voices import archive, flac
from voices.errors import BadArchive, CorruptVoice, TooLarge
from voices.names import new_voice_id
from voices.profile import VoiceProfile
from voices.tests.samples import RATE, REPORT, noise

PCM = flac.to_pcm16(noise(0.05))
RECORDING = flac.encode(PCM, RATE)
PROFILE = VoiceProfile(
    id=new_voice_id(),
    name="Anna",
    owner="key",
    created_at=1,
    sample_digest=flac.digest(PCM, RATE),
    sample_rate=RATE,
    duration_s=0.05,
    size_bytes=len(RECORDING),
    report=REPORT,
)
LIMIT = 1 << 20
WHOLE = {
    "profile.json": msgspec.json.encode(PROFILE),
    "prompt.flac": RECORDING,
    "features/glm-tts.safetensors": b"\1\2\3",
}


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return file.getvalue()


def as_flac(samples: np.ndarray, subtype: str = "PCM_16") -> bytes:
    file = BytesIO()
    soundfile.write(file, samples, RATE, format="FLAC", subtype=subtype)
    return file.getvalue()


def test_archive_is_the_same_for_the_same_voice_and_names_no_owner() -> None:
    features = {"b": b"2", "a": b"1"}
    data = archive.pack(PROFILE, RECORDING, features)
    assert data == archive.pack(PROFILE, RECORDING, dict(sorted(features.items())))
    unpacked = archive.unpack(data, LIMIT)
    assert unpacked.profile == replace(PROFILE, owner=None)
    assert unpacked.features == features
    np.testing.assert_array_equal(unpacked.prompt.samples, flac.to_samples(PCM))


def test_archive_that_somebody_packed_again_is_read() -> None:
    assert archive.unpack(zipped(WHOLE), LIMIT).features == {"glm-tts.safetensors": b"\1\2\3"}


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"profile.json": WHOLE["profile.json"]},
        {"prompt.flac": RECORDING},
        WHOLE | {"../evil": b""},
        WHOLE | {"/etc/passwd": b""},
        WHOLE | {"features/../../evil": b""},
        WHOLE | {"features/a/b": b""},
        WHOLE | {"features/.hidden": b""},
        WHOLE | {"features/": b""},
        WHOLE | {"setup.py": b""},
        WHOLE | {f"features/{number}": b"" for number in range(64)},
        WHOLE | {"profile.json": b"{}"},
        WHOLE | {"profile.json": b"[" * 100_000},
        WHOLE | {"profile.json": b"\xff"},
        WHOLE | {"prompt.flac": b""},
        WHOLE | {"prompt.flac": b"RIFF" + RECORDING},
        WHOLE | {"prompt.flac": RECORDING[: len(RECORDING) // 2]},
        WHOLE | {"prompt.flac": flac.encode(PCM[1:], RATE)},
        WHOLE | {"prompt.flac": flac.encode(PCM, 48_000)},
        WHOLE | {"prompt.flac": as_flac(np.stack([PCM, PCM], axis=1))},
        WHOLE | {"prompt.flac": as_flac(PCM, "PCM_24")},
        WHOLE | {"prompt.flac": flac.encode(np.zeros(61 * RATE, np.int16), RATE)},
    ],
)
def test_archive_that_is_not_a_whole_voice_is_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(BadArchive) as caught:
        archive.unpack(zipped(files), LIMIT)
    assert caught.value.param == "file"


def test_archive_with_two_files_of_one_name_is_refused() -> None:
    file = BytesIO(zipped(WHOLE))
    with zipfile.ZipFile(file, "a") as out, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out.writestr("profile.json", b"{}")
    with pytest.raises(BadArchive, match="two of one name"):
        archive.unpack(file.getvalue(), LIMIT)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archive_in_an_unusual_packing_is_refused(compression: int) -> None:
    with pytest.raises(BadArchive, match="packed"):
        archive.unpack(zipped(WHOLE, compression), LIMIT)


def test_small_archive_of_much_data_is_refused_before_it_is_inflated() -> None:
    bomb = zipped(WHOLE | {"features/zeros": bytes(LIMIT)})
    assert len(bomb) < LIMIT // 20
    with pytest.raises(TooLarge) as caught:
        archive.unpack(bomb, LIMIT)
    assert caught.value.param == "file"


def test_archive_that_lies_about_its_size_is_refused() -> None:
    bomb = bytearray(zipped({"features/zeros": bytes(10 * LIMIT)}))
    size = (10 * LIMIT).to_bytes(4, "little")
    while (at := bomb.find(size)) >= 0:
        bomb[at : at + 4] = (100).to_bytes(4, "little")
    with pytest.raises(BadArchive):
        archive.unpack(bytes(bomb), LIMIT)


@given(st.data())
def test_damaged_archive_is_whole_all_the_same_or_refused(data: st.DataObject) -> None:
    spoilt = bytearray(archive.pack(PROFILE, RECORDING, {"a": b"1"}))
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(spoilt)) | st.just(len(spoilt)))
    try:
        unpacked = archive.unpack(bytes(spoilt[:cut]), LIMIT)
    except (BadArchive, TooLarge):
        return
    assert unpacked.profile.name == "Anna"
    np.testing.assert_array_equal(unpacked.prompt.samples, flac.to_samples(PCM))


@given(st.binary(max_size=200))
def test_bytes_of_no_archive_are_refused(data: bytes) -> None:
    with pytest.raises(BadArchive):
        archive.unpack(data, LIMIT)


@given(st.data())
def test_damaged_audio_is_decoded_or_called_so(data: st.DataObject) -> None:
    spoilt = bytearray(RECORDING)
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    try:
        pcm, _ = flac.decode(bytes(spoilt))
    except CorruptVoice:
        return
    assert pcm.dtype == np.int16
    assert pcm.ndim == 1


@given(
    st.lists(st.integers(-32768, 32767), min_size=1, max_size=5000), st.sampled_from([8000, 192000])
)
def test_audio_survives_the_store_to_the_last_bit(values: list[int], rate: int) -> None:
    pcm = np.array(values, dtype=np.int16)
    again, its_rate = flac.decode(flac.encode(pcm, rate))
    np.testing.assert_array_equal(again, pcm)
    np.testing.assert_array_equal(flac.to_pcm16(flac.to_samples(pcm)), pcm)
    assert its_rate == rate
    assert flac.digest(again, rate) == flac.digest(pcm, rate)


def test_audio_at_a_rate_that_no_recording_has_is_refused() -> None:
    file = BytesIO()
    soundfile.write(file, np.zeros(10, np.int16), 655_350, format="FLAC", subtype="PCM_16")
    with pytest.raises(CorruptVoice, match="sample rate"):
        flac.decode(file.getvalue())
