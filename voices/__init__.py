"""What a person gave us: voices to clone, and consents. Arrays and files; no HTTP, no engine."""
