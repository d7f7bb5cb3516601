"""What lies in deploy/ is true: it loads, it names what exists, and the image's steps work."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from deploy.tests.clean_root import DOCKERFILE, OnlyForRoot, Seen, clean_root
from deploy.tests.recipe import stages
from engine.types import DeviceMemory, WorkerStatus
from server.metrics import RequestTotals, engine_metrics, queue_metrics, server_metrics
from server.schemas.requests import RequestEntry
from server.settings import load_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted((DEPLOY / "docker").iterdir())
UNIT = DEPLOY / "systemd/rhapsode.service"


@pytest.fixture(scope="module")
def seen() -> Seen:
    """The image's command line in a clean root, with this Python's dependencies: no network."""
    try:
        return clean_root(borrow=True)
    except OnlyForRoot as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return tree


def test_the_health_check_fails_until_the_server_is_ready(seen: Seen) -> None:
    assert seen.served.health_before != 0
    assert seen.served.ready_s > 0


def test_the_server_needs_no_root_and_writes_nothing_but_its_volumes(seen: Seen) -> None:
    assert seen.served.user_id != 0
    assert seen.written == []


def test_a_stream_outlives_sigterm_and_the_server_ends_well(seen: Seen) -> None:
    assert seen.served.pcm_bytes > 1_000_000
    assert seen.served.drained_pcm_bytes == seen.served.pcm_bytes
    assert seen.served.exit_code == 0


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_pinned_non_root_and_in_exec_form(path: Path) -> None:
    build, final = stages(path)
    for stage in (build, final):
        name, _, tag = stage.base.partition(":")
        assert "/" not in name
        assert re.search(r"\d", tag), "the tag is no version"
    assert final.last("USER") == "10001:10001"
    assert final.command() == ["rhapsode", "serve"]
    assert "/ready" in final.health_command()[-1]
    assert final.last("STOPSIGNAL") == "SIGTERM"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_all_that_an_image_copies_is_in_its_context(path: Path) -> None:
    build, final = stages(path)
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    for step in build.all("COPY"):
        for name in step.split()[:-1]:
            assert (ROOT / name).exists()
            assert f"!{name}" in kept
    assert all(step.startswith("--from=build ") for step in final.all("COPY"))


def test_the_package_has_no_torch_unless_it_is_asked_for() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    base = text.partition("\ndependencies = [")[2].partition("]")[0]
    assert "litestar" in base
    assert "torch" not in base
    assert "[glm]" not in DOCKERFILE.read_text()


@pytest.mark.parametrize("with_all", [False, True])
def test_every_key_of_the_production_configuration_loads(tmp_path: Path, with_all: bool) -> None:
    text = (DEPLOY / "rhapsode.toml").read_text()
    if with_all:
        text = re.sub(r"(?m)^#(?=[a-z])", "", text)
    path = tmp_path / "rhapsode.toml"
    path.write_text(text)
    settings = load_settings(path, {})
    assert settings.engines["glm-tts"].devices == (("cuda:0", "cuda:1") if with_all else None)


def test_stop_timeouts_are_longer_than_a_drain(compose: dict[str, Any]) -> None:
    drain_s = load_settings(DEPLOY / "rhapsode.toml", {}).drain_s
    (stop_s,) = re.findall(r"(?m)^TimeoutStopSec=(\d+)$", UNIT.read_text())
    assert int(stop_s) > drain_s
    for name in ("rhapsode-cpu", "rhapsode-gpu"):
        assert int(compose["services"][name]["stop_grace_period"].removesuffix("s")) > drain_s


def test_compose_names_only_files_volumes_and_secrets_that_exist(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert (DEPLOY / source).exists() if source[0] == "." else source in compose["volumes"]
        for secret in service.get("secrets", ()):
            default = compose["secrets"][secret]["file"].partition(":-")[2].removesuffix("}")
            assert (DEPLOY / default).is_file()
        if build := service.get("build"):
            assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
        else:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])


def test_every_service_is_in_a_profile_and_read_only(compose: dict[str, Any]) -> None:
    profiles = {name: each["profiles"] for name, each in compose["services"].items()}
    assert profiles == {
        "rhapsode-cpu": ["cpu"],
        "rhapsode-gpu": ["gpu"],
        "prometheus": ["watch"],
        "grafana": ["watch"],
    }
    for service in compose["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_volumes_lie_where_the_images_keep_voices_models_and_cache(compose: dict[str, Any]) -> None:
    for name, dockerfile in (
        ("rhapsode-cpu", "Dockerfile.cpu"),
        ("rhapsode-gpu", "Dockerfile.cuda"),
    ):
        final = stages(DEPLOY / "docker" / dockerfile)[-1]
        env = final.environment()
        mounts = {each.split(":")[1] for each in compose["services"][name]["volumes"]}
        data = f"{env['XDG_DATA_HOME']}/rhapsode"
        assert {data, f"{data}/models", f"{env['XDG_CACHE_HOME']}/rhapsode"} < mounts
        assert env.get("TRITON_CACHE_DIR", "/var/cache/rhapsode").startswith("/var/cache/rhapsode")


def test_prometheus_scrapes_where_the_server_answers(compose: dict[str, Any]) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    host, _, port = target.partition(":")
    for name in ("rhapsode-cpu", "rhapsode-gpu"):
        service = compose["services"][name]
        assert host in service["networks"]["default"]["aliases"]
        assert service["ports"][0].endswith(f":{port}")
    secret = Path(job["authorization"]["credentials_file"])
    assert secret.name in compose["services"]["prometheus"]["secrets"]


def rendered_metrics() -> dict[str, str]:
    """Name and kind of all that /metrics has."""
    memory = DeviceMemory("cpu", used_bytes=1, total_bytes=2, free_bytes=1)
    worker = WorkerStatus(
        residence="resident", device="cpu", memory=memory, idle_s=0.0, jobs=0, restarts=0, wakes=0,
        wake_s=0.0, error=None,
    )  # fmt: skip
    totals = RequestTotals()
    totals.began("speech")
    totals.ended(
        RequestEntry(
            id="1", task="speech", created_at=1, model="m", engine="e", voice="v", format="pcm",
            status="done", error=None, ttfa_s=0.1, audio_s=1.0, rtf=0.1, underrun_s=0.0, wall_s=1.0,
        ),
        None,
    )  # fmt: skip
    text = engine_metrics({"e": (worker,)}) + queue_metrics({}) + totals.text() + server_metrics()
    return dict(re.findall(r"(?m)^# TYPE (\w+) (\w+)$", text))


def queried_metrics() -> set[str]:
    dashboard = json.loads((DEPLOY / "grafana/dashboards/rhapsode.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return {name for query in queries for name in re.findall(r"\brhapsode_\w+", query)}


def test_every_metric_that_the_dashboard_asks_for_is_rendered() -> None:
    rendered = rendered_metrics()
    names = {name for name, kind in rendered.items() if kind != "histogram"}
    names |= {f"{name}_bucket" for name, kind in rendered.items() if kind == "histogram"}
    assert queried_metrics() - names == set()


def test_every_metric_that_is_rendered_has_a_panel() -> None:
    queried = {name.removesuffix("_bucket") for name in queried_metrics()}
    assert set(rendered_metrics()) - queried == set()


def test_dashboard_asks_the_datasource_that_is_provisioned() -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    dashboard = json.loads((DEPLOY / "grafana/dashboards/rhapsode.json").read_text())
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}


def linter(name: str) -> str:
    """Where it is, beside this Python or on the path; the test is skipped without it."""
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    if (program := beside or shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed: make deploy fetches it")
    return program


def run_clean(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_hadolint_finds_nothing() -> None:
    run_clean(linter("hadolint"), *DOCKERFILES)


def test_yamllint_finds_nothing() -> None:
    rules = "{extends: default, rules: {document-start: disable, line-length: {max: 100}}}"
    run_clean(linter("yamllint"), "--strict", "-d", rules, DEPLOY)


def test_docker_compose_accepts_every_profile() -> None:
    docker = linter("docker")
    has_compose = subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
    if has_compose.returncode != 0:
        pytest.skip("docker has no compose here")
    run_clean(docker, "compose", "-f", DEPLOY / "compose.yaml", "--profile", "*", "config", "-q")


@pytest.mark.parametrize("drop_in", [False, True])
def test_systemd_verifies_the_unit(tmp_path: Path, drop_in: bool) -> None:
    program = tmp_path / "rhapsode"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/rhapsode/bin/rhapsode", str(program)))
    if drop_in:
        (folder := tmp_path / "rhapsode.service.d").mkdir()
        shutil.copy(DEPLOY / "systemd/gpu.conf", folder)
    run_clean(linter("systemd-analyze"), "verify", "--man=no", unit)
