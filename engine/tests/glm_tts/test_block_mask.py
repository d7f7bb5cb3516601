from __future__ import annotations

import pytest
import torch

from engine.glm_tts.block_mask import block_limits, legacy_block_frames
from engine.glm_tts.dims import Rates
from engine.tests.glm_tts.goldens import golden

VECTORS = golden("block_masks")
TABLES = [name.removesuffix(".row_limit") for name in VECTORS if name.endswith(".row_limit")]


def sizes_of(table: str) -> list[int]:
    return [int(size) for size in table.split("_")[1:]]


@pytest.mark.parametrize("table", TABLES)
def test_limits_as_the_original(table: str) -> None:
    frames = int(VECTORS[f"{table}.n"])
    wanted = VECTORS[f"{table}.row_limit"].long()
    assert torch.equal(block_limits(sizes_of(table), frames), wanted)


def test_limits_give_the_originals_dense_mask() -> None:
    visible = torch.arange(20) < block_limits([2, 4, 8], 20)[:, None]
    assert torch.equal(visible, VECTORS["bl_2_4_8.dense20"].bool())


def test_limits_of_less_than_the_first_block_end_with_the_clip() -> None:
    assert block_limits([100, 200], 7).tolist() == [7] * 7


def test_legacy_blocks_as_the_original() -> None:
    frames = [legacy_block_frames(int(tokens)) for tokens in VECTORS["tokens"]]
    assert frames == VECTORS["token_to_mel_frames"].tolist()


def test_frames_of_a_clip_as_the_original() -> None:
    table = VECTORS["feat_len_table"].tolist()
    assert [Rates().frames(tokens) for tokens in range(len(table))] == table
