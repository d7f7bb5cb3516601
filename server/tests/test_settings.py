from pathlib import Path

import pytest

from engine.registry import PLUGINS
from server.settings import Settings, SettingsError, load_settings


def test_defaults_stand_when_nothing_is_set() -> None:
    assert load_settings(None, {}) == Settings()


def test_command_line_beats_environment_beats_file(tmp_path: Path) -> None:
    file = tmp_path / "rhapsode.toml"
    file.write_text('port = 1\nhost = "file"\nlog_level = "ERROR"\n[limits]\ninput_chars = 7\n')
    environ = {"RHAPSODE_PORT": "2", "RHAPSODE_HOST": "env", "HOME": "/"}
    settings = load_settings(file, environ, [("port", "3")])
    assert (settings.port, settings.host, settings.log_level) == (3, "env", "ERROR")
    assert settings.limits.input_chars == 7
    assert settings.limits.json_bytes == Settings().limits.json_bytes


def test_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("port = 1234")
    assert load_settings(None, {"RHAPSODE_CONFIG": str(file)}).port == 1234


def test_nested_keys_and_lists_come_from_the_environment() -> None:
    environ = {
        "RHAPSODE_LIMITS__INPUT_CHARS": "9",
        "RHAPSODE_API_KEYS": "one, two,",
        "RHAPSODE_OPEN_CATALOG": "false",
    }
    settings = load_settings(None, environ)
    assert settings.limits.input_chars == 9
    assert settings.api_keys == ("one", "two")
    assert settings.open_catalog is False


def test_options_of_an_engine_come_from_the_command_line() -> None:
    settings = load_settings(None, {}, [("engines.espeak-ng.options.chunk_ms", "20")])
    assert settings.running["espeak-ng"].options == {"chunk_ms": "20"}


def test_our_engines_run_beside_others_unless_disabled(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        'speech_engines = ["my.engine:Make"]\n[engines."my.engine:Make"]\ndevices = ["cuda:0"]\n'
    )
    assert list(load_settings(file, {}).running) == [*PLUGINS, "my.engine:Make"]
    off = [("engines.espeak-ng.enabled", "false")]
    assert "espeak-ng" not in load_settings(file, {}, off).running


@pytest.mark.parametrize(
    ("toml", "environ", "says"),
    [
        ("prot = 1", {}, "unknown field `prot`"),
        ("[limits]\ninput = 1", {}, "limits"),
        ("port = 'x'", {}, "port"),
        ("port = 70000", {}, "port must be within"),
        ("[limits]\ninput_chars = 0", {}, "input_chars must be 1 or more"),
        ("[engines.nope]\n", {}, "unknown engine 'nope'"),
        ("[engines.espeak-ng.options]\nchunk = 1", {}, "unknown field `chunk`"),
        ("[engines.espeak-ng.options]\nchunk_ms = 1", {}, "chunk_ms must be within"),
        ("[engines.espeak-ng]\ndevices = []", {}, "devices"),
        ("speech_engines = ['none']", {}, "none of 'none' is among the engines"),
        (
            "[engines.espeak-ng]\nenabled = false\n[engines.glm-tts]\nenabled = false",
            {},
            "none of 'glm-tts', 'espeak-ng' is among the engines",
        ),
        ("port = ", {}, "is not TOML"),
        ("", {"RHAPSODE_PROT": "1"}, "RHAPSODE_PROT: unknown key 'prot'"),
        ("", {"RHAPSODE_LIMITS__X": "1"}, "RHAPSODE_LIMITS__X: unknown key 'x'"),
        ("", {"RHAPSODE_PORT__X": "1"}, "RHAPSODE_PORT__X"),
        ("", {"RHAPSODE_PORT": "many"}, "port"),
    ],
)
def test_bad_setting_stops_the_start_with_one_line_that_names_it(
    tmp_path: Path, toml: str, environ: dict[str, str], says: str
) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(toml)
    with pytest.raises(SettingsError) as stopped:
        load_settings(file, environ)
    assert says in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*none\.toml"):
        load_settings(tmp_path / "none.toml", {})
