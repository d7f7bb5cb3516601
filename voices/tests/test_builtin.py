import numpy as np
import pytest

from voices.builtin import builtin_samples, builtin_voices
from voices.prompt_check import check_prompt

NAMES = [
    *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable"),
    *("marin", "nova", "onyx", "sage", "shimmer", "verse"),
]


def test_each_name_of_openai_has_a_voice() -> None:
    assert sorted(builtin_voices()) == NAMES
    assert len({voice.sample_digest for voice in builtin_voices().values()}) == len(NAMES)
    assert len({voice.id for voice in builtin_voices().values()}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_voice_is_whole_and_a_good_prompt(name: str) -> None:
    voice = builtin_voices()[name]
    samples, sample_rate = builtin_samples(voice)
    assert len(samples) == round(voice.duration_s * sample_rate)
    assert check_prompt(samples, sample_rate).report.warnings == ()
    assert voice.prompt_text
    assert float(np.abs(samples).max()) > 0.1
