"""Is this a recording to clone a voice from? Measures it, says what is wrong, trims and levels it.

Speech is told from pauses by level alone, in frames of 20 ms: the line between them lies a third of
the way up from the quietest tenth of the frames to the loudest twentieth, and never more than 35 dB
under the latter. The estimate of the SNR needs a pause or two; digital silence counts as one.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from voices.errors import PromptRefused
from voices.flac import MAX_SAMPLE_RATE, Pcm16, to_pcm16, to_samples
from voices.profile import CheckedPrompt, PromptReport, Samples
from voices.prosody import measure_prosody

with warnings.catch_warnings():
    # audioop is deprecated where it is still part of Python, and pydub looks for an ffmpeg that
    # raw PCM does not need.
    warnings.simplefilter("ignore")
    from pydub import AudioSegment
    from pydub.silence import detect_leading_silence

MIN_DURATION_S, MAX_DURATION_S = 3.0, 30.0
ADVISED_DURATION_S = 10.0
MIN_SAMPLE_RATE, ADVISED_SAMPLE_RATE = 8_000, 24_000
LEVEL_DBFS = -20.0
"""What speech is brought to, as far as its peaks let it."""
PEAK_DBFS = -1.0

_GIVEN_MAX_S = 120.0  # more is refused unheard: silence around a prompt is seconds, not minutes
_KEPT_SILENCE_MS = 100
_SILENT_DBFS, _QUIET_DBFS = -60.0, -40.0
_CLIPPED_WARNED, _CLIPPED_REFUSED = 0.0005, 0.05
_SILENCE_WARNED = 0.5
_SNR_WARNED_DB = 15.0
_SNR_MAX_DB = 96.0  # of 16-bit PCM
_FRAME_S = 0.02
_SPEECH_RANGE_DB = 35.0
_FLAT_TOP_SAMPLES = 3
_FULL_SCALE = 0.999
_NO_POWER = 1e-12  # -120 dBFS


class _Loudness(Struct, frozen=True):
    """How loud a recording is, and where the line between speech and pause lies."""

    level_dbfs: float
    threshold_dbfs: float
    snr_db: float
    silence_share: float


def check_prompt(samples: Samples, sample_rate: int) -> CheckedPrompt:
    """Measure a recording, cut the silence around it and bring it to a common level.

    Takes about 30 ms for 10 s of audio. Any thread.

    Args:
        samples: float32 mono [T], as it was recorded: not resampled upwards.
        sample_rate: Hz; it is kept.
    Raises:
        PromptRefused: nothing to clone a voice from; the message says why.
    """
    _refuse_unheard(samples, sample_rate)
    peak_dbfs = _decibels(np.max(np.abs(samples)) ** 2)
    if peak_dbfs < _SILENT_DBFS:
        raise PromptRefused("the recording is silent")
    clipped_share = _clipped_share(samples)
    if clipped_share > _CLIPPED_REFUSED:
        raise PromptRefused(
            f"the recording is clipped ({clipped_share:.0%} of it is cut off at full scale): "
            "record it at a lower level"
        )
    given = _loudness(samples, sample_rate)
    pcm, start_s, end_s = _trimmed(to_pcm16(samples), sample_rate, given.threshold_dbfs)
    duration_s = len(pcm) / sample_rate
    _check_duration(duration_s)
    gain_db = min(LEVEL_DBFS - given.level_dbfs, PEAK_DBFS - peak_dbfs)
    levelled = to_samples(_pcm(_segment(pcm, sample_rate).apply_gain(gain_db)))
    report = PromptReport(
        duration_s=duration_s,
        given_duration_s=len(samples) / sample_rate,
        peak_dbfs=peak_dbfs,
        level_dbfs=given.level_dbfs,
        clipped_share=clipped_share,
        silence_share=_loudness(levelled, sample_rate).silence_share,
        snr_db=given.snr_db,
        trimmed_start_s=start_s,
        trimmed_end_s=end_s,
        gain_db=gain_db,
        prosody=measure_prosody(levelled, sample_rate),
    )
    report = _with_warnings(report, sample_rate)
    return CheckedPrompt(levelled, sample_rate, report)


def _refuse_unheard(samples: Samples, sample_rate: int) -> None:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise PromptRefused(
            f"the sample rate is {sample_rate} Hz; "
            f"it must be within {MIN_SAMPLE_RATE} and {MAX_SAMPLE_RATE}"
        )
    duration_s = len(samples) / sample_rate
    if not MIN_DURATION_S <= duration_s <= _GIVEN_MAX_S:
        _check_duration(duration_s)
    if not np.isfinite(samples).all():
        raise PromptRefused("the recording has samples that are not finite numbers")


def _check_duration(duration_s: float) -> None:
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        raise PromptRefused(
            f"the recording lasts {duration_s:.1f} s without the silence around it; "
            f"give {MIN_DURATION_S:.0f} to {MAX_DURATION_S:.0f} s of speech, "
            f"best {MIN_DURATION_S:.0f} to {ADVISED_DURATION_S:.0f}"
        )


def _with_warnings(report: PromptReport, sample_rate: int) -> PromptReport:
    short, long = f"{MIN_DURATION_S:.0f}", f"{ADVISED_DURATION_S:.0f}"
    warned = {
        f"{report.duration_s:.1f} s is long: {short} to {long} s are copied more faithfully": (
            report.duration_s > ADVISED_DURATION_S
        ),
        f"{sample_rate} Hz has no high frequencies: record at {ADVISED_SAMPLE_RATE} Hz or more": (
            sample_rate < ADVISED_SAMPLE_RATE
        ),
        f"{report.clipped_share:.2%} of the samples are clipped: record at a lower level": (
            report.clipped_share > _CLIPPED_WARNED
        ),
        f"speech is quiet ({report.level_dbfs:.0f} dBFS): speak closer to the microphone": (
            report.level_dbfs < _QUIET_DBFS
        ),
        f"speech is only {report.snr_db:.0f} dB over the noise: the voice will sound like it": (
            report.snr_db < _SNR_WARNED_DB
        ),
        f"{report.silence_share:.0%} of the recording is pauses": (
            report.silence_share > _SILENCE_WARNED
        ),
    }
    return replace(report, warnings=tuple(text for text, is_so in warned.items() if is_so))


def _loudness(samples: Samples, sample_rate: int) -> _Loudness:
    frame = round(_FRAME_S * sample_rate)
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    levels = 10 * np.log10(power + _NO_POWER)
    quiet, loud = np.percentile(levels, [10, 95])
    threshold = max(quiet + (loud - quiet) / 3, loud - _SPEECH_RANGE_DB)
    is_speech = levels >= threshold
    speech, noise = power[is_speech].mean(), power[levels <= quiet].mean()
    return _Loudness(
        level_dbfs=_decibels(speech),
        threshold_dbfs=float(threshold),
        snr_db=min(_decibels((speech - noise) / (noise + _NO_POWER)), _SNR_MAX_DB),
        silence_share=float(np.mean(~is_speech)),
    )


def _clipped_share(samples: Samples) -> float:
    """Samples in flat tops: several in a row at full scale, as one alone is a mere peak."""
    is_full = np.abs(samples) >= _FULL_SCALE
    edges = np.flatnonzero(np.diff(is_full, prepend=False, append=False))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= _FLAT_TOP_SAMPLES].sum() / len(samples))


def _trimmed(pcm: Pcm16, sample_rate: int, threshold_dbfs: float) -> tuple[Pcm16, float, float]:
    """The PCM from just before its first loud moment to just after its last; seconds cut away."""
    segment = _segment(pcm, sample_rate)
    start, end = (
        max(0, detect_leading_silence(each, threshold_dbfs) - _KEPT_SILENCE_MS)
        for each in (segment, segment.reverse())
    )
    first, last = start * sample_rate // 1000, len(pcm) - end * sample_rate // 1000
    return pcm[first:last], first / sample_rate, (len(pcm) - last) / sample_rate


def _segment(pcm: Pcm16, sample_rate: int) -> AudioSegment:
    return AudioSegment(pcm.tobytes(), sample_width=2, frame_rate=sample_rate, channels=1)


def _pcm(segment: AudioSegment) -> Pcm16:
    return np.frombuffer(segment.raw_data, dtype=np.int16)


def _decibels(power: float | np.floating[npt.NBitBase]) -> float:
    return float(10 * np.log10(max(power, _NO_POWER)))
