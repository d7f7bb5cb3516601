"""A Whisper of random weights for the server to load: it makes words up, by the real code."""

import subprocess
from pathlib import Path

from compat_tests.process import PYTHON, ROOT

_WRITE = """
import pathlib, sys
from engine.tests.tiny_whisper import write_tiny_whisper
write_tiny_whisper(pathlib.Path(sys.argv[1]))
"""


def tiny_whisper(folder: Path) -> str:
    """Write the model, in the server's environment, and give the TOML of a server that uses it.

    Args:
        folder: Must not exist.
    """
    subprocess.run([PYTHON, "-c", _WRITE, str(folder)], cwd=ROOT, check=True)
    return f"""
[engines.whisper.options]
model = "{folder}"
[engines.pocketsphinx]
enabled = false
"""
