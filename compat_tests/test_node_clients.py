"""The SDKs for Node: their own tests, in clients/, run against the server."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from compat_tests.conftest import API_KEY, ForeignServer
from compat_tests.process import ServerProcess

CLIENTS = Path(__file__).parent / "clients"
NODE = shutil.which("node")


@pytest.mark.skipif(
    NODE is None or not (CLIENTS / "node_modules").is_dir(),
    reason="needs node and the packages in clients/: `make compat` installs them",
)
@pytest.mark.parametrize("client", ["openai", "ai-sdk"])
def test_a_node_client_works(server: ServerProcess | ForeignServer, client: str) -> None:
    run = subprocess.run(
        [str(NODE), "--test", "--test-reporter=spec", f"{client}.test.mjs"],
        cwd=CLIENTS,
        env={**os.environ, "BASE_URL": server.base_url, "OPENAI_API_KEY": API_KEY},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
