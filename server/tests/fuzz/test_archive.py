"""Exported voices that anybody may have made: read whole, or refused."""

import io
import warnings
import zipfile
from contextlib import suppress

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from server.tests.fuzz.bounds import in_little_memory, soon
from server.tests.fuzz.effort import tries
from server.tests.fuzz.seeds import sounds, spoiled
from voices import archive, flac
from voices.errors import BadArchive, TooLarge
from voices.profile import VoiceProfile
from voices.tests.samples import RATE, REPORT, noise

LIMIT = 1 << 20
PCM = flac.to_pcm16(noise(0.05))
RECORDING = flac.encode(PCM, RATE)
PROFILE = VoiceProfile(
    id="voice_01M81YRPB97155A0FZWME4T4D9",
    name="Anna",
    created_at=1,
    sample_digest=flac.digest(PCM, RATE),
    sample_rate=RATE,
    duration_s=0.05,
    size_bytes=len(RECORDING),
    report=REPORT,
)
FEATURES = {"glm-tts.safetensors": b"\1\2\3" * 20}
NAMES = st.sampled_from(("profile.json", "prompt.flac", "features/a", "../a", "/a", "a\\b", ""))


def zipped(files: list[tuple[str, bytes]], method: int) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as out:
        warnings.simplefilter("ignore", UserWarning)  # two files of one name
        for name, data in files:
            out.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


WHOLE = archive.pack(PROFILE, RECORDING, FEATURES)
DEFLATED = zipped(
    [("profile.json", msgspec.json.encode(PROFILE)), ("prompt.flac", RECORDING)],
    zipfile.ZIP_DEFLATED,
)


def is_read_or_refused(data: bytes) -> None:
    with soon(), suppress(BadArchive, TooLarge):
        unpacked = archive.unpack(data, LIMIT)
        assert sum(map(len, unpacked.features.values())) <= LIMIT
        assert not any("/" in name or ".." in name for name in unpacked.features)


def test_seeds_are_read() -> None:
    assert archive.unpack(WHOLE, LIMIT).features == FEATURES
    assert archive.unpack(DEFLATED, LIMIT).profile.name == "Anna"


def test_spoiled_archive_is_read_or_refused() -> None:
    @tries(120)
    @given(spoiled((WHOLE, DEFLATED)))
    @example(DEFLATED[:50] + b"\xff" * 8 + DEFLATED[58:])
    @example(WHOLE[:-1])
    def check(data: bytes) -> None:
        is_read_or_refused(data)

    with in_little_memory():
        check()


def test_archive_of_anything_is_read_or_refused() -> None:
    contents = st.one_of(
        st.binary(max_size=100),
        spoiled((msgspec.json.encode(PROFILE),)),
        spoiled((RECORDING, *sounds().values())),
    )
    methods = st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))

    @tries(100)
    @given(st.lists(st.tuples(NAMES, contents), max_size=4), methods)
    @example([("profile.json", b"[" * 10_000), ("prompt.flac", RECORDING)], zipfile.ZIP_STORED)
    def check(files: list[tuple[str, bytes]], method: int) -> None:
        is_read_or_refused(zipped(files, method))

    with in_little_memory():
        check()
