"""Transcripts as plain text and as subtitles."""

from server.formatters.subtitles import SrtFormatter, VttFormatter, as_srt, as_vtt
from server.formatters.text import as_text

__all__ = ["SrtFormatter", "VttFormatter", "as_srt", "as_text", "as_vtt"]
