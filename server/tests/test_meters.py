import pytest

from server.meters import Player


def test_player_that_is_fed_in_time_hears_no_silence() -> None:
    player = Player()
    player.starts(10.0, audio_s=1.0)
    player.gets(asked_at=10.0, now=10.9, audio_s=1.0)
    player.gets(asked_at=10.9, now=11.9, audio_s=1.0)
    assert player.underrun_s == 0.0


def test_late_chunks_are_silence_and_shift_what_follows() -> None:
    player = Player()
    player.starts(10.0, audio_s=1.0)
    player.gets(asked_at=10.0, now=11.5, audio_s=1.0)
    assert player.underrun_s == pytest.approx(0.5)
    player.gets(asked_at=11.5, now=12.4, audio_s=0.5)
    assert player.underrun_s == pytest.approx(0.5)
    player.gets(asked_at=12.4, now=13.25, audio_s=0.5)
    assert player.underrun_s == pytest.approx(0.75)


def test_client_that_reads_late_makes_its_own_silence() -> None:
    player = Player()
    player.starts(10.0, audio_s=1.0)
    player.gets(asked_at=100.0, now=100.01, audio_s=1.0)
    assert player.underrun_s == pytest.approx(0.01)


def test_nothing_counts_before_the_first_byte() -> None:
    player = Player()
    player.gets(asked_at=0.0, now=5.0, audio_s=1.0)
    assert player.underrun_s == 0.0
