"""What is counted where no request's ledger is at hand: in the whole process, since it started."""

from __future__ import annotations

from collections import Counter

refusals: Counter[str] = Counter()
"""Answers with 429, by the setting that they ran into; "engine": a worker had no room."""

ended_connections: Counter[str] = Counter()
"""Connections that the server ended, by the setting whose limit they passed."""
