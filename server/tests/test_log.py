"""The two forms of a log line."""

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.log import Fields, JsonFormatter
from server.log import quoted

HOSTILE = 'a "b"\n{"event": "forged"}\u2028\ud800\x00 x=y'


def line_of(template: str, *args: object, **record: Any) -> dict[str, Any]:
    made = logging.LogRecord("room", logging.INFO, "a.py", 1, template, args, record.get("info"))
    text = JsonFormatter().format(made)
    assert "\n" not in text
    line: dict[str, Any] = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    return line


def lines_of(program: str) -> list[dict[str, Any]]:
    """What a process of its own writes to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_fields_of_a_line_keep_their_names_and_types() -> None:
    line = line_of("event=died engine=%s status=%d after_s=%.1f key=%s", "e", -9, 1.25, None)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "logger": "room",
        "event": "died",
        "engine": "e",
        "status": -9,
        "after_s": 1.25,
        "key": None,
    }


def test_json_and_text_tell_the_same_facts() -> None:
    facts = Fields({"event": "speech", "voice": "a b", "rtf": 0.1, "nothing": None})
    assert str(facts) == 'event=speech voice="a b" rtf=0.1'
    line = line_of("%s", facts)
    assert {name: line[name] for name in ("event", "voice", "rtf")} == {
        "event": "speech",
        "voice": "a b",
        "rtf": 0.1,
    }
    assert "nothing" not in line


def test_hostile_value_stays_in_its_field() -> None:
    assert line_of("event=refused path=%s", quoted(HOSTILE))["path"] == HOSTILE
    assert line_of("event=refused path=%s", HOSTILE)["path"] == HOSTILE
    assert line_of("%s", Fields({"event": "speech", "voice": HOSTILE}))["voice"] == HOSTILE


def test_value_of_a_client_is_cut_in_both_forms() -> None:
    assert line_of("path=%s", quoted("x" * 1000))["path"] == "x" * 200
    assert str(quoted("x" * 1000)) == "x" * 200


def test_number_that_json_does_not_know_is_text() -> None:
    line = line_of("rtf=%s other=%s", float("nan"), float("-inf"))
    assert (line["rtf"], line["other"]) == ("nan", "-inf")


def test_words_of_others_are_the_message() -> None:
    assert line_of("Started server process [%d]", 7)["message"] == "Started server process [7]"
    assert line_of("at 100%")["message"] == "at 100%"
    assert line_of("flow: clips=%d again", 2)["message"] == "flow: clips=2 again"


def test_traceback_is_one_field() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        line = line_of("event=step_failed request_id=%s", "req_1", info=sys.exc_info())
    assert (line["event"], line["request_id"]) == ("step_failed", "req_1")
    assert line["traceback"].startswith("Traceback (most recent call last)")
    assert HOSTILE in line["traceback"]


@given(st.text(st.characters(), max_size=50), st.floats())
def test_any_value_makes_one_valid_line(text: str, number: float) -> None:
    assert line_of("event=any text=%s number=%s", text, number)["text"] == text


def test_exceptions_that_nobody_caught_are_lines_too() -> None:
    lines = lines_of(
        "import threading; from server.log import log_to_stderr\n"
        "log_to_stderr('INFO', 'json')\n"
        "def fail(): raise ValueError('two\\nlines')\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()\n"
        "fail()"
    )
    assert [line["event"] for line in lines] == ["thread_crashed", "crashed"]
    assert all("two\nlines" in line["traceback"] for line in lines)


@pytest.mark.parametrize(("chosen", "begins"), [("json", "{"), ("text", "20")])
def test_workers_inherit_the_form(chosen: str, begins: str) -> None:
    (line,) = lines_of(
        "import json, subprocess, sys; from server.log import log_to_stderr\n"
        f"log_to_stderr('INFO', {chosen!r})\n"
        "inner = 'import logging; from engine.runtime.log import log_as_parent_does as begin; '\n"
        'inner += \'begin("INFO"); logging.info("event=begun")\'\n'
        "done = subprocess.run([sys.executable, '-c', inner], capture_output=True, check=True)\n"
        "print(json.dumps({'line': done.stderr.decode()}), file=sys.stderr)",
    )
    assert line["line"].startswith(begins)
    assert "begun" in line["line"]


def test_worker_names_the_request_that_a_line_concerns() -> None:
    lines = lines_of(
        "import asyncio; from engine.config import PoolConfig, WorkerConfig\n"
        "from engine.runtime.pool import EnginePool; from engine.types import SynthesisRequest\n"
        "from server.log import log_to_stderr; log_to_stderr('ERROR', 'json')\n"
        "async def main():\n"
        "    worker = WorkerConfig(engine='engine.tests.fake:ToneSynthesizer')\n"
        "    pool = EnginePool([worker], PoolConfig())\n"
        "    pool.start()\n"
        "    try: [_ async for _ in pool.synthesize(SynthesisRequest(text='break'), 'req_7')]\n"
        "    finally: await pool.stop()\n"
        "asyncio.run(main())"
    )
    failed, crashed = lines
    assert (failed["logger"], failed["event"]) == ("engine.runtime.loop", "step_failed")
    assert failed["request_id"] == "req_7"
    assert failed["traceback"].endswith("RuntimeError: a bug")
    assert crashed["event"] == "crashed"
