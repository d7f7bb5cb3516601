"""Text -> PCM and PCM -> text. Knows no HTTP, no containers, no files of users."""
