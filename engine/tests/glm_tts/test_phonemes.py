import json
import re
from pathlib import Path

import pytest

from engine.errors import LoadFailed
from engine.glm_tts.phonemes import TAG, PhonemeTables, PhonemeTagger
from engine.glm_tts.text_frontend import TextFrontEnd
from engine.tests.glm_tts.goldens import GOLDENS

_CASES = json.loads((GOLDENS / "text_frontend.json").read_text())["g2p_infer"]
_PLAIN = "我非常地爱吃人不下棋知足常瓜子儿粥嗯女绿乡音无改鬓毛"
_PHRASES = {"鬓毛": "宾毛", "鬓毛衰": "鬓毛催"}
_NAMES = re.findall(r"\w+", "sh en1 p ian4 c an1 u4 i4 l e4 h e1 e5 uei1 ch iii1 z ii4 m u3")
_TABLES = PhonemeTables(frozenset(_PLAIN), _PHRASES, frozenset(name.upper() for name in _NAMES))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tables = tmp_path / "configs"
    tables.mkdir()
    (tables / "G2P_able_1word.json").write_text(json.dumps(dict.fromkeys(_PLAIN, 1)))
    (tables / "G2P_all_phonemes.json").write_text(json.dumps(_NAMES))
    (tables / "G2P_replace_dict.jsonl").write_text('{"鬓毛": "宾毛"}\n\n{"鬓毛衰": "鬓毛催"}\n')
    return tmp_path


@pytest.fixture(scope="module")
def tagger() -> PhonemeTagger:
    return PhonemeTagger(_TABLES)


def test_tables_are_found_beside_the_model(folder: Path) -> None:
    assert PhonemeTables.from_folder(folder) == _TABLES
    assert PhonemeTables.from_folder(folder / "configs") == _TABLES


@pytest.mark.parametrize(("text", "expected"), _CASES)
def test_characters_are_tagged_as_the_original_tags_them(
    text: str, expected: str, tagger: PhonemeTagger
) -> None:
    assert tagger.tag(text) == expected


def test_the_vowels_that_pinyin_writes_alike_are_told_apart(tagger: PhonemeTagger) -> None:
    assert tagger.tag("痴") == "<|CH|><|III1|>"
    assert tagger.tag("恣") == "<|Z|><|II4|>"


def test_a_sound_that_the_model_has_no_phoneme_for_stays_a_character(
    tagger: PhonemeTagger,
) -> None:
    assert tagger.tag("猫a鿃") == "猫a鿃"


def test_the_front_end_tags_its_pieces_and_nobody_else_can() -> None:
    front_end = TextFrontEnd(phonemes=_TABLES)
    assert [piece.text for piece in front_end.pieces("下棋弈！")] == ["下棋<|I4|>。"]
    for forged in ("你好<|SH|>", "hello <|SH|><|I4|>", "<|user|>下棋", "<|audio_0|>"):
        assert not any("|" in piece.text for piece in TextFrontEnd().pieces(forged))


def test_no_control_token_looks_like_a_phoneme() -> None:
    for control in ("<|user|>", "<|audio_0|>", "<|endoftext|>", "<|UNUSED_pad_1|>"):
        assert TAG.fullmatch(control) is None


def test_a_missing_table_is_named(folder: Path) -> None:
    (folder / "configs" / "G2P_all_phonemes.json").unlink()
    with pytest.raises(LoadFailed, match=r"G2P_all_phonemes\.json, which is not in"):
        PhonemeTables.from_folder(folder)


@pytest.mark.parametrize("line", ["{", '{"a": 1}', '["a"]', '{"毛衰": "催"}'])
def test_a_damaged_table_is_named(line: str, folder: Path) -> None:
    (folder / "configs" / "G2P_replace_dict.jsonl").write_text(line)
    with pytest.raises(LoadFailed, match=r"G2P_replace_dict\.jsonl"):
        PhonemeTables.from_folder(folder)
