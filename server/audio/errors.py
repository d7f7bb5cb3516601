"""What can go wrong between PCM and bytes."""

from __future__ import annotations


class EncodeError(RuntimeError):
    """The audio cannot be encoded: the samples are not numbers, or the codec failed."""


class DecodeError(ValueError):
    """The upload is not audio that we read. The message is for the person who sent it."""
