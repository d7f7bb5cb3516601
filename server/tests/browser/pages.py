"""The page from outside: what is looked at, how long is waited, what the server says meanwhile."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

import httpx
from playwright.sync_api import Page

from compat_tests.waiting import wait_for

KEY = "secret-of-the-tests"
MOVABLE = "engine.tests.fake:MovableTone"
"""An engine that can leave its device."""

TABS = ("speak", "voices", "transcribe", "status")
Theme = Literal["light", "dark"]
Language = Literal["en", "zh", "ja"]

LIMIT_S = 20.0

_LOCALES: Mapping[Language, str] = {"en": "en-GB", "zh": "zh-CN", "ja": "ja-JP"}


class Server(NamedTuple):
    """One that runs, and what it wants to hear of who asks."""

    base_url: str
    headers: Mapping[str, str] = {}

    def get(self, path: str) -> Any:
        """The JSON of an answer."""
        answer = httpx.get(f"{self.base_url}{path}", headers=dict(self.headers), timeout=LIMIT_S)
        return answer.raise_for_status().json()


class View(NamedTuple):
    """What somebody sees the page with."""

    width: int = 1440
    height: int = 900
    theme: Theme = "light"
    language: Language = "en"

    @property
    def locale(self) -> str:
        return _LOCALES[self.language]


SCREEN = View()
PHONE = View(width=390, height=844)


class OpenPage(Protocol):
    """Opens one tab of the page. Of what `forgiven` is part of, the page may complain."""

    def __call__(
        self, tab: str, view: View = SCREEN, at: Server | None = None, forgiven: str | None = None
    ) -> Page: ...


def until(page: Page, expression: str, within_s: float = LIMIT_S) -> None:
    """Wait until the expression is true in the page, whose policy forbids it to do so itself.

    Raises:
        TimeoutError: it did not become true.
    """
    wait_for(lambda: bool(page.evaluate(expression)), within_s, expression)


def overflow(page: Page) -> list[str]:
    """What stands beyond the right edge, and cannot be scrolled to within a part of the page."""
    found: list[str] = page.evaluate("""() => {
        const width = document.documentElement.clientWidth;
        const wide = [...document.querySelectorAll("body *")].filter((node) => {
            const { right, width: own } = node.getBoundingClientRect();
            return own > 0 && right > width + 1 && !node.closest(".table-wrap, .visually-hidden");
        });
        const names = wide.map((node) => `${node.tagName}#${node.id}.${node.className}`);
        return document.documentElement.scrollWidth > width ? ["the page", ...names] : names;
    }""")
    return found
