"""Runs an engine in a process of its own, and schedules it. Knows no plug-in by name."""
