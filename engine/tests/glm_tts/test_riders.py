"""A job that waits for the device may draw tokens in the steps of others: nobody hears that."""

import numpy as np
import pytest

from engine.glm_tts.pipeline import GlmTts
from engine.glm_tts.renderer import Flight
from engine.tests.glm_tts.test_pipeline import LONG, Speaker, engine, request
from engine.types import Samples


@pytest.fixture(scope="module", params=[5, 0], ids=["look-ahead", "no look-ahead"])
def glm(request: pytest.FixtureRequest) -> GlmTts:
    return engine(block_tokens=(10, 20), look_ahead_tokens=(request.param,))


def speech(glm: GlmTts, text: str, ahead: int) -> tuple[Samples, int]:
    """A job's audio, and the most tokens that it had beyond those its next block needs."""
    speaker = Speaker(glm)
    speaker.start(1, request(text))
    job, most = speaker.jobs[1], 0
    while speaker.step():
        for _ in range(ahead):
            if job.aside is not None:
                glm.step(job.aside, [job], speaker._take)
                most = max(most, -job.current.lacking)
    return speaker.speech(1), most


@pytest.mark.parametrize("ahead", [1, 3, 50])
def test_tokens_beyond_a_block_change_no_bit_of_it(glm: GlmTts, ahead: int) -> None:
    alone, _ = speech(glm, LONG, 0)
    with_others, most = speech(glm, LONG, ahead)
    assert most > 0
    np.testing.assert_array_equal(with_others, alone)


def test_a_job_takes_part_aside_only_while_it_waits_and_has_not_ended(glm: GlmTts) -> None:
    speaker = Speaker(glm)
    speaker.start(1, request(LONG))
    job = speaker.jobs[1]
    seen = set()
    while speaker.step():
        ended = job.piece is not None and job.current.has_ended
        seen.add((job.stage, job.aside, ended))
    assert {aside for stage, aside, _ in seen if stage in ("admit", "prefill", "decode")} <= {None}
    assert ("render", "decode", False) in seen
    assert all(aside is None for _, aside, ended in seen if ended)


def test_first_blocks_take_the_others_lane_while_theirs_is_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    glm = engine(max_batch=4)
    speaker = Speaker(glm)
    monkeypatch.setattr(Flight, "is_over", lambda _: False)
    room = []
    for job_id in (1, 2):
        speaker.start(job_id, request(LONG))
        job = speaker.jobs[job_id]
        while job.stage != "first":
            glm.step(job.stage or "", [job], speaker._take)
        glm.step("first", [job], speaker._take)
        room.append([glm.max_batch(stage) for stage in ("first", "render")])
    assert room == [[4, 4], [0, 0]]
    monkeypatch.undo()
    while speaker.step():
        pass
    np.testing.assert_allclose(speaker.speech(1), speaker.speech(2), atol=1e-4)
