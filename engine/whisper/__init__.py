"""faster-whisper: accurate transcription with a model that is on disk or can be fetched.

`models` is light, and may be imported where no model runs; the rest lives in the worker.
"""
