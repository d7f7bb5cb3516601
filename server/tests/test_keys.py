"""API keys: names, hashes, the file, and the command that adds to it."""

import logging
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from server.app import create_app
from server.catalog import Engines
from server.cli import main
from server.keys import add_key, digest_of, read_keyring
from server.settings import KeyLimits, KeySettings, Settings, SettingsError, load_settings
from server.tests.fake_voices import recording
from server.tests.fakes import FakeEngine

HELLO = {"model": "tts-1", "voice": "low", "input": "one two"}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def client_of(settings: Settings) -> TestClient[Any]:
    return TestClient(create_app(settings, Engines({"espeak-ng": FakeEngine()})))


def test_a_key_that_is_added_is_let_in_and_its_name_is_logged(
    keys_file: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["keys", "add", "ada", "--file", str(keys_file)]) == 0
    key = capsys.readouterr().out.strip()
    with client_of(Settings(keys_file=str(keys_file))) as client, caplog.at_level(logging.INFO):
        assert client.post("/v1/audio/speech", json=HELLO).status_code == 401
        answer = client.post("/v1/audio/speech", json=HELLO, headers=bearer(key))
    assert answer.status_code == 200
    assert "key=ada" in caplog.text
    assert key not in caplog.text


def test_the_file_holds_no_key_and_only_its_owner_reads_it(keys_file: Path) -> None:
    key = add_key(keys_file, "ada")
    assert keys_file.read_text() == f"ada:{digest_of(key)}\n"
    assert keys_file.stat().st_mode & 0o777 == 0o600


def test_keys_of_all_sources_are_let_in_together(keys_file: Path) -> None:
    keys_file.write_text("# of the team\n\n")
    filed = add_key(keys_file, "filed")
    settings = load_settings(
        None,
        {
            "RHAPSODE_API_KEYS": "sk-plain,sk-other",
            "RHAPSODE_KEYS_FILE": str(keys_file),
            "RHAPSODE_KEYS__HASHED__HASH": digest_of("sk-hashed"),
        },
    )
    keyring = read_keyring(settings)
    given = ("sk-plain", "sk-other", filed, "sk-hashed", "sk-none", "", digest_of(filed))
    found = [key.name if (key := keyring.find(each)) else None for each in given]
    assert found == ["key-1", "key-2", "filed", "hashed", None, None, None]


def test_a_keys_own_limits_stand_above_those_of_all() -> None:
    settings = Settings(
        api_keys=("one", "two"),
        key_limits=KeyLimits(requests_per_minute=60, chars_per_minute=1000),
        keys={"key-2": KeySettings(requests_per_minute=5, chars_per_minute=0, batch=True)},
    )
    one, two = read_keyring(settings).keys
    assert one.limits == settings.key_limits
    assert two.limits == KeyLimits(requests_per_minute=5, chars_per_minute=0)
    assert (one.is_batch, two.is_batch) == (False, True)


def test_who_has_no_key_sees_no_voice_that_a_key_keeps() -> None:
    with client_of(Settings(api_keys=("one",))) as client:
        made = client.post(
            "/v1/audio/voices",
            headers=bearer("one"),
            data={"name": "Ada", "prompt_text": "one two three"},
            files={"audio_sample": ("a.wav", recording())},
        )
        assert made.status_code == 200
        callers: list[dict[str, str]] = [{}, bearer("wrong"), bearer("one")]
        lists = [client.get("/v1/audio/voices", headers=each).json() for each in callers]
    seen = [[voice["name"] for voice in each["uploaded_voices"]] for each in lists]
    assert seen == [[], [], ["Ada"]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "holds no API key"),
        ("ada", "64 hex digits"),
        ("ada:sk-plain", "64 hex digits"),
        (f"Ada:{'0' * 64}", "a key's name"),
        (f"ada:{'0' * 64}\nada:{'1' * 64}", "'ada' is there twice"),
        (f"ada:{'0' * 64}\nbob:{'0' * 64}", "'bob' is there twice"),
        (None, "cannot read"),
    ],
)
def test_a_file_that_cannot_be_right_stops_the_start(
    keys_file: Path, content: str | None, says: str
) -> None:
    if content is not None:
        keys_file.write_text(content)
    with pytest.raises(SettingsError, match=says) as refused:
        read_keyring(Settings(keys_file=str(keys_file)))
    assert "sk-plain" not in str(refused.value)


def test_limits_of_a_key_that_is_not_there_stop_the_start() -> None:
    with pytest.raises(SettingsError, match=r"keys\.bob: no key has this name"):
        read_keyring(Settings(api_keys=("one",), keys={"bob": KeySettings()}))


def test_a_name_is_added_once(keys_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_key(keys_file, "ada")
    before = keys_file.read_text()
    assert main(["keys", "add", "ada", "--file", str(keys_file)]) == 1
    assert "has a key 'ada' already" in capsys.readouterr().err
    assert main(["keys", "add", "a:b", "--file", str(keys_file)]) == 1
    assert main(["keys", "add", "ada"]) == 1
    assert keys_file.read_text() == before


def test_a_key_follows_a_last_line_without_an_end(keys_file: Path) -> None:
    keys_file.write_text(f"old:{'0' * 64}")
    add_key(keys_file, "new")
    names = [key.name for key in read_keyring(Settings(keys_file=str(keys_file))).keys]
    assert names == ["old", "new"]
