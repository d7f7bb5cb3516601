"""Text to the ids of the language model: byte pair encoding, from the checkpoint's own files."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from engine.errors import LoadFailed
from engine.glm_tts.dims import TokenIds
from engine.glm_tts.phonemes import TAG

_RANKS = "tokenizer.model"
_CONFIG = "tokenizer_config.json"
_UNUSED = re.compile(rb"<\|UNUSED_pad_\d+\|>")
_AUDIO = re.compile(r"<\|audio_(\d+)\|>")
_TAGS = re.compile(f"({TAG.pattern})")
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class _AddedToken(Struct):
    content: str


class _Config(Struct):
    added_tokens_decoder: dict[int, _AddedToken]


class Tokenizer:
    """Encodes text. The only added tokens that it knows in a text are phonemes.

    So no text makes a control or audio token: "<|user|>" is spelt like any other word.

    Attributes:
        ids: Of the tokens with a meaning of their own.
        phonemes: Names of the phonemes that have a token.
    """

    def __init__(
        self,
        encode_words: Callable[[str], list[int]],
        phoneme_ids: Mapping[str, int],
        ids: TokenIds,
    ) -> None:
        self._encode_words = encode_words
        self._phoneme_ids = phoneme_ids
        self.ids = ids
        self.phonemes = frozenset(tag[2:-2] for tag in phoneme_ids)

    @classmethod
    def from_folder(cls, folder: Path, ids: TokenIds) -> Tokenizer:
        """Read `tokenizer.model` and `tokenizer_config.json`.

        Raises:
            LoadFailed: a file is missing or damaged, or states other ids.
        """
        import tiktoken

        added = _added_tokens(folder / _CONFIG)
        if (stated := _ids(added, folder / _CONFIG)) != ids:
            raise LoadFailed(f"{folder / _CONFIG} states {stated}, the model expects {ids}")
        encoding = tiktoken.Encoding(
            "glm-tts", pat_str=_WORDS, mergeable_ranks=_ranks(folder / _RANKS), special_tokens={}
        )
        phoneme_ids = {string: token for string, token in added.items() if TAG.fullmatch(string)}
        return cls(encoding.encode_ordinary, phoneme_ids, ids)

    @classmethod
    def made_up(cls, ids: TokenIds) -> Tokenizer:
        """One without files, for random weights: bytes are tokens 0 to 255."""
        return cls(lambda text: list(text.encode()), {}, ids)

    @staticmethod
    def read_ids(folder: Path) -> TokenIds:
        """The ids that the folder's `tokenizer_config.json` states.

        Raises:
            LoadFailed: it is missing or damaged, or lacks one.
        """
        return _ids(_added_tokens(folder / _CONFIG), folder / _CONFIG)

    def encode(self, text: str) -> list[int]:
        """Ids of a piece; nothing is put before or after it.

        Args:
            text: Without lone surrogates. A tag of a phoneme that has no token is ordinary text.
        """
        ids: list[int] = []
        for part in _TAGS.split(text):
            phoneme = self._phoneme_ids.get(part)
            ids += self._encode_words(part) if phoneme is None else [phoneme]
        return ids


def _ids(added: Mapping[str, int], path: Path) -> TokenIds:
    def token(string: str) -> int:
        if string not in added:
            raise LoadFailed(f"{path} has no token {string}")
        return added[string]

    first = token("<|audio_0|>")
    audio = {int(match[1]): added[match[0]] for match in map(_AUDIO.fullmatch, added) if match}
    for code in range(len(audio)):
        if audio.get(code) != first + code:
            raise LoadFailed(f"{path}: <|audio_{code}|> must be token {first + code}")
    return TokenIds(
        pad=token("<|endoftext|>"),
        end=token("<|user|>"),
        begin=token("<|begin_of_audio|>"),
        first_audio=first,
        audio_tokens=len(audio),
    )


def _added_tokens(path: Path) -> dict[str, int]:
    try:
        config = msgspec.json.decode(_read(path), type=_Config)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise LoadFailed(f"{path}: {exc}") from exc
    added = {token.content: id_ for id_, token in config.added_tokens_decoder.items()}
    if len(added) != len(config.added_tokens_decoder):
        raise LoadFailed(f"{path} gives one token several ids")
    return added


def _ranks(path: Path) -> dict[bytes, int]:
    """Rank of each byte string; the strings of unused ranks are in no text and left out."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(_read(path).splitlines(), 1):
        where = f"{path}, line {number}"
        string, _, rank = line.partition(b" ")
        if rank.strip() != b"%d" % (number - 1):
            raise LoadFailed(f"{where}: expected rank {number - 1}, found {line!r}")
        token = string if _UNUSED.fullmatch(string) else _decode(string, where)
        if token in ranks:
            raise LoadFailed(f"{where}: {token!r} has rank {ranks[token]} already")
        if not _UNUSED.fullmatch(token):
            ranks[token] = number - 1
    if lacking := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise LoadFailed(f"{path} lacks the byte {lacking[0]}")
    return ranks


def _decode(string: bytes, where: str) -> bytes:
    try:
        return b64decode(string, validate=True)
    except Base64Error as exc:
        raise LoadFailed(f"{where}: {string!r} is not base64") from exc


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise LoadFailed(f"{path}: {exc.strerror}") from exc
