"""The embedded recogniser: pocketsphinx and its own English model, for when there is no Whisper."""
