"""The playground in a real browser, on a real service: what people see, do and are told."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from plumbline_serve.demo import exhibits
from plumbline_serve.settings.access import AuthSettings
from tests.keys import add_key
from tests.web.conftest import Served

Scheme: TypeAlias = Literal["light", "dark"]
WIDTHS = {"desktop": (1280, 900), "phone": (320, 640)}
WAIT_MS = 60_000
FIRST = exhibits()[0]
ACTIVE = "(each => each.id || each.className || each.tagName)(document.activeElement)"


@pytest.fixture
def opened(browser: Browser, service: Served) -> Iterator[Callable[..., Page]]:
    """Opens the page; at the end there must be nothing in the browser's console."""
    pages: list[Page] = []
    said: list[str] = []

    def open_page(
        url: str = service.url, *, kind: str = "desktop", scheme: Scheme = "light", quiet: bool = True
    ) -> Page:
        width, height = WIDTHS[kind]
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=kind == "phone"
        )
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        if quiet:
            page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert not said


@pytest.fixture
def answered(opened: Callable[..., Page]) -> Callable[..., Page]:
    """The page once its first example is answered."""

    def open_page(*arguments: str, **options: str) -> Page:
        page = opened(*arguments, **options)
        expect(page.locator(".verdict")).to_be_visible(timeout=WAIT_MS)
        return page

    return open_page


@pytest.fixture
def twins(gallery: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two files of the same image."""
    again = tmp_path / "again.png"
    again.write_bytes((gallery / "red_circle.png").read_bytes())
    return gallery / "red_circle.png", again


def choose(page: Page, *paths: Path) -> None:
    page.locator("#file").set_input_files([str(path) for path in paths])


def test_it_opens_with_an_answer_that_names_the_wrong_word(answered: Callable[..., Page]) -> None:
    page = answered()
    absent = next(word for word in FIRST.wrong.split() if word not in FIRST.right.split())
    expect(page.locator(".verdict")).to_have_text(f"✗ Does not show: {absent}.")
    expect(page.locator("#text")).to_have_value(FIRST.wrong)
    expect(page.locator("#demo")).to_be_visible()
    word = page.locator(".word.misaligned")
    expect(word).to_contain_text(absent)
    tip = word.locator(".tip")
    assert tip.evaluate("each => each.offsetWidth") <= 1
    word.focus()
    expect(tip).to_contain_text("not shown")
    assert tip.evaluate("each => each.offsetWidth") > 20


def test_an_example_is_one_click_and_a_stale_answer_is_greyed(answered: Callable[..., Page]) -> None:
    page = answered()
    page.get_by_role("button", name=FIRST.right).first.click()
    expect(page.locator(".verdict")).to_have_text("✓ Shows the prompt.")
    page.locator("#text").fill("a blue star")
    expect(page.locator("#stale")).to_have_text("The inputs have changed since: score again.")
    assert "grayscale" in page.locator(".cards").evaluate("each => getComputedStyle(each).filter")
    page.locator("#text").press("Control+Enter")
    expect(page.locator(".verdict")).to_contain_text("Does not show")
    expect(page.locator("#stale")).to_be_empty()


def test_several_images_are_ranked_and_filtered_live(answered: Callable[..., Page], gallery: Path) -> None:
    page = answered()
    choose(page, gallery / "green_star.png", gallery / "red_circle.png", gallery / "three_diamonds.png")
    page.locator("#text").fill("a red circle")
    page.locator("#send").click()
    expect(page.locator("article h3")).to_have_count(3)
    expect(page.locator("article h3").first).to_have_text("1. red_circle.png")
    page.get_by_text("Filter: accept or reject").click()
    slider = page.get_by_role("slider", name="vqascore")
    slider.focus()
    for _ in range(5):
        slider.press("PageUp")
    expect(page.locator("#filter [role=status]")).to_have_text("1 of 3 accepted")
    expect(page.locator("article").first.locator(".decision")).to_have_text("✓ accept")
    expect(page.locator("article").last.locator(".decision")).to_contain_text("✗ reject: vqascore")


def test_several_images_are_compared_as_a_set(
    answered: Callable[..., Page], gallery: Path, twins: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    page = answered()
    told, different = page.locator("#set"), (gallery / "green_star.png", twins[0])
    expect(told).to_be_empty()
    choose(page, *different, twins[1], tmp_path / "broken.png")
    page.locator("#send").click()
    expect(told.get_by_role("region", name="All images together")).to_be_visible()
    expect(told.locator(".score")).to_contain_text("Different images among 3, in effect")
    assert 1 < float(told.locator(".value").inner_text()) < 2.01
    expect(told.locator(".verdict")).to_have_text("~ The same image:")
    expect(told.locator(".same li")).to_have_text(["red_circle.png", "again.png"])
    expect(told).to_contain_text("Left out, for they cannot be used: broken.png.")
    told.get_by_text("Details").focus()
    page.keyboard.press("Enter")
    expect(told.locator("dl")).to_contain_text("Vendi score by order1: ")
    page.locator("#text").fill("another")
    assert "grayscale" in told.evaluate("each => getComputedStyle(each).filter")
    choose(page, *different)
    page.locator("#send").click()
    expect(told.locator(".verdict")).to_contain_text("✓ No two are near-duplicates")
    choose(page, different[0])
    page.locator("#send").click()
    expect(page.locator("article h3")).to_have_text(["green_star.png"])
    expect(told).to_be_empty()


def test_a_file_that_is_no_image_is_said_to_be_beside_one_that_is(
    answered: Callable[..., Page], gallery: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    page = answered()
    choose(page, tmp_path / "broken.png", gallery / "red_circle.png")
    page.locator("#text").fill("a red circle")
    page.locator("#send").click()
    expect(page.locator("article.problem .verdict")).to_contain_text("Cannot be scored")
    expect(page.locator("article:not(.problem) .verdict")).to_have_text("✓ Shows the prompt.")


def test_a_key_is_asked_for_and_its_field_opens(opened: Callable[..., Page], key_service: tuple[Served, str]) -> None:
    served, key = key_service
    page = opened(served.url, quiet=False)  # the browser says of each 401 that there was one
    expect(page.locator("#scorers")).to_contain_text("asks for an API key")
    expect(page.locator("#key")).to_be_focused()
    page.locator("#key").fill(key)
    page.locator("#key").press("Tab")
    expect(page.locator(".verdict")).to_contain_text("Does not show")
    page.get_by_text("Copy as code").click()
    expect(page.locator("#code-panel")).to_contain_text("Bearer $PLUMBLINE_API_KEY")


def test_a_key_that_is_not_known_and_one_for_other_things_are_told_apart(
    opened: Callable[..., Page], serve: Callable[..., Served], tmp_path: Path
) -> None:
    add_key(tmp_path / "keys.yaml", "other", scopes=("decide",))
    page = opened(serve(auth=AuthSettings(keys_file=tmp_path / "keys.yaml")).url, quiet=False)
    expect(page.locator("#scorers")).to_contain_text("asks for an API key")
    for key, sentence in (("nobody's", "does not know the key"), ("other", "score")):
        page.locator("#key").fill(key)
        page.locator("#send").click()
        expect(page.locator("article.problem")).to_contain_text(sentence)
        expect(page.locator("article.problem")).not_to_contain_text("asks for an API key")


def test_an_example_of_a_service_that_is_gone_says_so(answered: Callable[..., Page]) -> None:
    page = answered(quiet=False)
    page.route("**/gallery/**", lambda route: route.abort())
    page.get_by_role("button", name="a green star").click()
    expect(page.locator("article.problem")).to_contain_text("does not answer. Is it still running?")


def test_a_page_without_its_examples_scores(browser: Browser, service: Served, gallery: Path) -> None:
    page = browser.new_page()
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.route("**/gallery/captions.json", lambda route: route.fulfill(status=503, body="busy"))
    page.goto(service.url)
    expect(page.locator("#examples")).to_have_text("The examples could not be loaded.")
    choose(page, gallery / "red_circle.png")
    page.locator("#send").click()
    expect(page.locator(".verdict")).to_have_text("✓ Good by qualiclip.", timeout=WAIT_MS)
    unasked = "Without a prompt clipscore, fclipscore, vqascore cannot answer."
    expect(page.locator("#answer .note")).to_have_text(unasked)
    page.close()
    assert failed == []


def test_a_scorer_that_needs_what_the_page_does_not_send_cannot_be_ticked(browser: Browser, service: Served) -> None:
    def with_questions(route: Route) -> None:
        body = route.fetch().json()
        body["scorers"].append({**body["scorers"][0], "id": "questions", "needs": ["image", "questions"]})
        route.fulfill(json=body)

    page = browser.new_page()
    page.route("**/v1/scorers", with_questions)
    page.goto(service.url)
    box = page.get_by_role("checkbox", name=re.compile("^questions .* It needs questions"))
    expect(box).to_be_disabled(timeout=WAIT_MS)
    expect(box).not_to_be_checked()
    expect(page.locator(".verdict")).to_contain_text("Does not show", timeout=WAIT_MS)
    page.close()


def test_a_screen_reader_hears_sentences_and_the_focus_stays(
    answered: Callable[..., Page], gallery: Path, twins: tuple[Path, Path]
) -> None:
    page = answered()
    told = page.locator("#told")
    expect(told).to_have_text(re.compile(r"^red_circle\.png: Does not show: \w+\.$"))
    assert page.locator("#answer, #set").locator("[role=status], [aria-live], output").count() == 0
    choose(page, gallery / "green_star.png", *twins)
    page.locator("#text").fill("a red circle")
    page.locator("#send").press("Enter")
    expect(told).to_have_text(
        "3 images are scored. Best by vqascore: red_circle.png. Shows the prompt. "
        "Different images among 3, in effect: 1.88. Groups of the same or nearly the same: 1."
    )
    expect(page.locator("#send")).to_be_focused()
    for remove in range(3):
        del remove
        page.locator(".remove").first.click()
    page.locator("#send").press("Enter")
    expect(told).to_have_text("No image. Choose an image first.")
    expect(page.locator("#file")).to_be_focused()


def test_nothing_says_that_no_file_is_chosen_where_one_is(answered: Callable[..., Page]) -> None:
    page = answered()
    expect(page.locator("#chosen li")).to_have_count(1)
    box = page.locator("#file").bounding_box()
    assert box is not None
    assert max(box["width"], box["height"]) <= 1  # the browser's own field knows nothing of examples, drops and pastes
    page.locator("#file").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.locator("#drop").evaluate("each => getComputedStyle(each).outlineStyle") == "solid"


def test_a_service_that_is_gone_is_said_to_be(opened: Callable[..., Page], serve: Callable[..., Served]) -> None:
    served = serve()
    page = opened(served.url, quiet=False)
    expect(page.locator(".verdict")).to_be_visible()
    served.stop()
    page.locator("#send").click()
    expect(page.locator("article.problem")).to_contain_text("does not answer. Is it still running?")


@pytest.mark.parametrize("kind", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_is_accessible(
    answered: Callable[..., Page], axe: str, twins: tuple[Path, Path], kind: str, scheme: str
) -> None:
    page = answered(kind=kind, scheme=scheme)
    choose(page, *twins)
    page.locator("#send").click()
    expect(page.locator("#set .same li")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for summary in page.locator("#set summary, #filter summary, #copy summary, #real-weights summary").all():
        summary.click()
    page.evaluate(axe)
    found = page.evaluate("axe.run(document)")
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []
    assert len(found["passes"]) > 20
    page.locator("#text").fill("another")
    assert page.evaluate("axe.run(document, {runOnly: ['color-contrast']})")["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_on_a_phone_the_answer_scrolls_into_view(answered: Callable[..., Page]) -> None:
    page = answered(kind="phone")
    expect(page.locator("#answer-section")).not_to_be_in_viewport()
    page.locator("#send").click()
    expect(page.locator("#answer-section")).to_be_in_viewport()
    expect(page.locator("#answer-title")).to_be_in_viewport()


def test_everything_is_reached_by_keyboard(answered: Callable[..., Page]) -> None:
    page = answered()
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate(ACTIVE))
    assert {"file", "text", "send", "example", "SUMMARY", "remove"} <= seen
    assert [each for each in seen if each.startswith("word")]


@pytest.mark.parametrize("name", ["curl", "Python", "JSON reply"])
def test_the_code_to_copy_runs_and_gives_the_same_scores(
    answered: Callable[..., Page], gallery: Path, name: str
) -> None:
    page = answered()
    page.get_by_text("Copy as code").click()
    page.get_by_role("tab", name="JSON reply").click()
    shown = json.loads(page.locator("#code-panel").inner_text())["results"][0]["scores"]
    page.get_by_role("tab", name=name).click()
    code = page.locator("#code-panel").inner_text()
    if name == "JSON reply":
        return
    command = ["sh", "-c", code] if name == "curl" else [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=gallery, capture_output=True, text=True, timeout=120, check=True)
    for scorer, score in shown.items():
        assert re.search(rf"{scorer}\W+({{\"value\":)?{re.escape(repr(score['value']))[:8]}", ran.stdout), ran.stdout


def test_the_reference_offers_a_file_and_its_first_click_is_answered(
    opened: Callable[..., Page], service: Served
) -> None:
    page = opened(f"{service.url}/docs")
    page.locator("#operations-scoring-score .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")
    page.locator("#operations-scoring-score").get_by_label("Request content type").select_option("multipart/form-data")
    expect(page.locator("#operations-scoring-score input[type=file]")).to_have_count(1)
    expect(page.locator("#operations-scoring-score textarea").first).to_contain_text("part")
