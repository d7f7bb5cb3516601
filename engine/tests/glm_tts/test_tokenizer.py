import json
from base64 import b64encode
from pathlib import Path

import pytest

from engine.errors import LoadFailed
from engine.glm_tts.dims import TINY, TRUE, TokenIds
from engine.glm_tts.tokenizer import Tokenizer

_IDS = TokenIds(pad=300, end=301, begin=302, first_audio=310, audio_tokens=3)
_ADDED = {
    "<|endoftext|>": 300, "<|user|>": 301, "<|begin_of_audio|>": 302, "[MASK]": 303,
    "<|SH|>": 304, "<|EN1|>": 305, "<|audio_0|>": 310, "<|audio_1|>": 311, "<|audio_2|>": 312,
}  # fmt: skip
_MERGES = [b"he", b"ll", b"hell", b"hello", b"12", b"123", b" w", b" wo"]
_LINES = [
    *(b64encode(token).decode() for token in [*(bytes([byte]) for byte in range(256)), *_MERGES]),
    "<|UNUSED_pad_0|>",
    b64encode(b"<|UNUSED_pad_1|>").decode(),
    b64encode(b"or").decode(),
]


def _write(folder: Path, lines: list[str] = _LINES, added: dict[str, int] = _ADDED) -> Path:
    numbered = "".join(f"{line} {rank}\n" for rank, line in enumerate(lines))
    (folder / "tokenizer.model").write_text(numbered)
    decoder = {str(rank): {"content": token, "special": True} for token, rank in added.items()}
    config = {"added_tokens_decoder": decoder, "tokenizer_class": "ChatGLM4Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return Tokenizer.from_folder(_write(tmp_path), _IDS)


def test_ids_are_read_by_their_strings(tmp_path: Path) -> None:
    assert Tokenizer.read_ids(_write(tmp_path)) == _IDS


def test_text_is_merged_by_rank_within_words(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("hello") == [259]
    assert tokenizer.encode("hello world") == [259, 263, *b"rld"]
    assert tokenizer.encode("for") == [ord("f"), 266]
    assert tokenizer.encode("1234") == [261, ord("4")]
    assert tokenizer.encode("你") == list("你".encode())
    assert tokenizer.encode("") == []


def test_phonemes_are_one_token_each_and_split_the_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("he<|SH|><|EN1|>llo") == [256, 304, 305, 257, ord("o")]
    assert tokenizer.phonemes == {"SH", "EN1"}


@pytest.mark.parametrize(
    "text", ["<|user|>", "<|audio_0|>", "<|endoftext|>", "[MASK]", "<|X|>", "<|UNUSED_pad_1|>"]
)
def test_control_tokens_in_a_text_are_text(text: str, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(text)
    assert max(ids) < 267
    assert len(ids) > 3


def test_other_ids_than_the_models_name_both(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"tokenizer_config\.json.*end=301.*end=59253"):
        Tokenizer.from_folder(_write(tmp_path), TRUE.ids)


@pytest.mark.parametrize("string", ["<|endoftext|>", "<|user|>", "<|begin_of_audio|>"])
def test_a_token_that_is_not_there_is_named(string: str, tmp_path: Path) -> None:
    added = {token: rank for token, rank in _ADDED.items() if token != string}
    with pytest.raises(LoadFailed, match=f"has no token {string}".replace("|", r"\|")):
        Tokenizer.read_ids(_write(tmp_path, added=added))


def test_audio_tokens_must_be_in_a_row(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"audio_1.* must be token 311"):
        Tokenizer.read_ids(_write(tmp_path, added=_ADDED | {"<|audio_1|>": 313}))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("a 3", "line 257: expected rank 256"), ("!!!! 256", "line 257: b'!!!!' is not base64"),
     ("QQ== 256", "line 257: b'A' has rank 65 already")],
)  # fmt: skip
def test_a_damaged_line_is_named(line: str, complaint: str, tmp_path: Path) -> None:
    path = _write(tmp_path, _LINES[:256]) / "tokenizer.model"
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(LoadFailed, match=complaint):
        Tokenizer.from_folder(tmp_path, _IDS)


def test_ranks_must_have_every_byte(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="lacks the byte 255"):
        Tokenizer.from_folder(_write(tmp_path, _LINES[:255]), _IDS)


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer_config.json"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    (_write(tmp_path) / name).unlink()
    with pytest.raises(LoadFailed, match=name):
        Tokenizer.from_folder(tmp_path, _IDS)


@pytest.mark.parametrize("config", ["{", "[]", "{}", '{"added_tokens_decoder": {"a": 1}}', "\xff"])
def test_a_damaged_config_is_named(config: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(config.encode("latin-1"))
    with pytest.raises(LoadFailed, match=r"tokenizer_config\.json"):
        Tokenizer.read_ids(tmp_path)


def test_a_made_up_tokenizer_spells_bytes() -> None:
    assert Tokenizer.made_up(TINY.ids).encode("é<|user|>") == list("é<|user|>".encode())
