"""The page and its files, as they are served; and its words, which are equal in all languages."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from server import VERSION
from server.app import create_app
from server.catalog import Engines
from server.routes.page import STATIC, static_files
from server.settings import Settings
from server.tests.fakes import FakeEngine

Client = TestClient[Any]

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
ABOUT = {"name": "rhapsode", "version": VERSION}
MODULES = sorted((STATIC / "js").glob("*.js"))
LANGUAGES = ("en", "zh", "ja")
PANELS = ("shell", "speak", "voices", "transcribe", "status")

_ENTRY = re.compile(r'^\s*"([\w.-]+)":\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)


@pytest.fixture
def client() -> Iterator[Client]:
    settings = Settings(api_keys=("secret",))
    with TestClient(create_app(settings, Engines({"espeak-ng": FakeEngine()}))) as client:
        yield client


def words(language: str, panel: str) -> dict[str, str]:
    text = (STATIC / "js/locales" / language / f"{panel}.js").read_text(encoding="utf-8")
    return dict(_ENTRY.findall(text))


def references(text: str) -> set[str]:
    """What a file of the page names: URLs from the root."""
    urls = re.findall(r'(?:href|src)="(/[^"]*)"', text)
    return {url for url in urls if not url.startswith("//")}


def test_a_browser_gets_the_page(client: Client) -> None:
    answer = client.get("/", headers=BROWSER)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Rhapsode</title>" in answer.text


@pytest.mark.parametrize("accept", ["*/*", "application/json", "", "application/json, text/html"])
def test_a_program_still_gets_json_at_the_root(client: Client, accept: str) -> None:
    answer = client.get("/", headers={"accept": accept})
    assert answer.json() == ABOUT
    assert answer.headers["vary"] == "accept"


def test_v1_is_json_even_for_a_browser(client: Client) -> None:
    assert client.get("/v1", headers=BROWSER).json() == ABOUT


@pytest.mark.parametrize("path", ["/", "/v1", "/static/js/main.js"])
def test_what_can_be_got_can_be_asked_about(client: Client, path: str) -> None:
    answer = client.head(path, headers=BROWSER)
    assert answer.status_code == 200
    assert answer.content == b""
    assert int(answer.headers["content-length"]) == len(client.get(path, headers=BROWSER).content)


def test_the_page_allows_itself_nothing_from_elsewhere_and_nothing_inline(client: Client) -> None:
    policy = client.get("/", headers=BROWSER).headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'self'"
    for name in ("object-src", "base-uri", "form-action", "frame-ancestors"):
        assert rules[name] == "'none'"
    assert "unsafe" not in policy
    assert "http" not in policy


def test_nothing_in_the_page_is_what_its_policy_forbids() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"<style|\sstyle=|\son\w+=", page)
    for path in MODULES:
        source = path.read_text(encoding="utf-8")
        forbidden = re.search(r"\beval\(|new Function\(|innerHTML\s*=|insertAdjacentHTML", source)
        assert forbidden is None, path


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("js/main.js", "text/javascript; charset=utf-8"),
        ("css/base.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_each_file_says_what_it_is(client: Client, path: str, media_type: str) -> None:
    answer = client.get(f"/static/{path}")
    assert answer.content == (STATIC / path).read_bytes()
    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_file_that_is_known_already_is_not_sent_again(client: Client) -> None:
    first = client.get("/static/js/main.js")
    assert first.headers["cache-control"] == "no-cache"
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
        again = client.get("/static/js/main.js", headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert client.get("/static/js/main.js", headers={"if-none-match": '"other"'}).content


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/js",
        "/static/nothing.js",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/js/..%2f..%2f..%2fapp.py",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
    ],
)
def test_no_url_leads_out_of_the_folder(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_url"


def test_all_that_the_page_names_is_there(client: Client) -> None:
    for url in references((STATIC / "index.html").read_text(encoding="utf-8")):
        assert client.get(url).status_code == 200, url


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_all_that_a_module_imports_is_there(path: Path) -> None:
    for name in re.findall(r'(?:from|import\()\s*"(\./[^"]+)"', path.read_text(encoding="utf-8")):
        assert f"js/{name.removeprefix('./')}" in static_files(), name


def test_every_file_of_the_folder_is_served() -> None:
    files = {path for path in STATIC.rglob("*") if path.is_file()}
    assert {STATIC / path for path in static_files()} == files


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_the_same_words(language: str, panel: str) -> None:
    english, other = words("en", panel), words(language, panel)
    assert english
    assert set(english) == set(other)
    for key, text in other.items():
        assert text.strip(), key
        assert key.partition(".")[0] == panel
        assert placeholders(text) == placeholders(english[key]), key


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


def test_all_words_that_the_page_asks_for_exist() -> None:
    known = {key for panel in PANELS for key in words("en", panel)}
    pattern = rf'["`]((?:{"|".join(PANELS)})\.[\w.]*[\w])["`]'
    asked: set[str] = set()
    for path in (*MODULES, STATIC / "index.html"):
        asked |= set(re.findall(pattern, path.read_text(encoding="utf-8")))
    files = {key for key in asked if key.endswith((".js", ".css"))}
    assert asked - files
    assert asked - files <= known


def test_all_words_that_exist_are_asked_for() -> None:
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in (*MODULES, STATIC / "index.html")
    )
    asked = {key for panel in PANELS for key in words("en", panel) if f'"{key}"' in source}
    # `speak.state.${state}` asks for all keys of that form.
    forms = re.findall(r"`((?:[\w.]|\$\{[^}]*\})+)`", source)
    patterns = [r"\w+".join(map(re.escape, re.split(r"\$\{[^}]*\}", form))) for form in forms]
    for panel in PANELS:
        for key in words("en", panel).keys() - asked:
            assert any(re.fullmatch(pattern, key) for pattern in patterns), key
