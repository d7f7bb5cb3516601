from engine.glm_tts.history import History


def test_a_first_piece_gets_the_original_prompt() -> None:
    assert History([1, 2], [10, 11, 12]).prompt_for([3]) == ([1, 2], [10, 11, 12])


def test_later_pieces_get_all_that_was_said() -> None:
    history = History([1], [10])
    history.add([2, 3], [20])
    history.add([4], [])
    assert history.prompt_for([5]) == ([1, 2, 3, 4], [10, 20])


def test_the_oldest_pieces_are_forgotten_but_never_the_original_prompt() -> None:
    history = History([1], [10] * 4, max_speech_tokens=12)
    history.add([2], [20] * 4)
    history.add([3], [30] * 4)
    # Four tokens of speech each: one more piece and two old ones are twelve.
    assert history.prompt_for([4]) == ([1, 3], [10] * 4 + [30] * 4)
    assert history.prompt_for([5] * 100) == ([1], [10] * 4)


def test_the_pace_is_judged_before_anything_is_forgotten() -> None:
    history = History([1], [10] * 2, max_speech_tokens=14)
    history.add([2], [20] * 10)
    history.add([3], [30] * 3)
    # 15 tokens for 3 texts are 5 each: 15 + 5 is too much, 5 + 5 is not; at the pace of what is
    # left, 2.5, no other choice is made, but at that of the forgotten piece, 10, it would be.
    assert history.prompt_for([4]) == ([1, 3], [10] * 2 + [30] * 3)


def test_without_a_prompt_nothing_is_estimated() -> None:
    assert History([], []).prompt_for([1, 2]) == ([], [])


def test_two_jobs_share_nothing() -> None:
    first, second = History([1], [2]), History([1], [2])
    first.add([3], [4])
    assert second.prompt_for([5]) == ([1], [2])
