"""The playground in a real Chromium, on the service that `plumbline serve` starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from plumbline_serve.demo import exhibits
from tests.services import RunningService
from tests.web.conftest import program

pytestmark = pytest.mark.ray
WAIT_MS = 60_000
FIRST = exhibits()[0]


@contextmanager
def opened(url: str) -> Iterator[Page]:
    """The page; at the end there must be nothing in the browser's console."""
    said: list[str] = []
    chromium = program("chromium", "chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server"]
        )
        page = running.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url)
        yield page
        running.close()
    assert not said


def test_it_answers_and_says_what_is_no_image(service: RunningService, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with opened(service.url) as page:
        absent = next(word for word in FIRST.wrong.split() if word not in FIRST.right.split())
        expect(page.locator(".verdict")).to_have_text(f"✗ Does not show: {absent}.", timeout=WAIT_MS)
        page.locator("#file").set_input_files([str(tmp_path / "broken.png"), str(FIRST.path)])
        page.locator("#text").fill(FIRST.right)
        page.locator("#send").click()
        expect(page.locator("article.problem .verdict")).to_contain_text("Cannot be scored", timeout=WAIT_MS)
        expect(page.locator("article:not(.problem) .verdict")).to_have_text("✓ Shows the prompt.", timeout=WAIT_MS)
