"""GLM-TTS: zero-shot voice cloning. Text -> speech tokens -> mel -> 24 kHz."""
