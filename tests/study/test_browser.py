"""A whole study in a real browser: three readers, three languages, a crash, and a withdrawal."""

import contextlib
import shutil
import time

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUESTIONNAIRE = {"qualification": "MD", "experience_years": "11", "graduated_years": "14",
                 "weekly_readings": "30"}  # fmt: skip
CHOICES = {"gender": "man", "age_band": "45-54", "speciality": "cardiac surgeon"}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt install chromium)")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def open_page(browser, link, language, **options):
    """The practice page of a reader, through invitation, consent and questionnaire."""
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(60_000)
    page.goto(link)
    page.click(f"main button[value={language}]")
    page.check("[name=agree]")
    page.click("main button.primary")
    for name, value in QUESTIONNAIRE.items():
        page.fill(f"[name={name}]", value)
    for name, value in CHOICES.items():
        page.select_option(f"[name={name}]", value)
    page.click("main button.primary")
    page.wait_for_selector("#rating")
    return page


def is_saved(page, count):
    """Wait until the progress bar says so; its value is the server's count."""
    page.wait_for_selector(f"progress[value='{count}']", state="attached")


def rate(page, key):
    page.wait_for_selector(".keys:not([hidden])", state="attached")  # the script runs
    page.evaluate("document.querySelector('img.main').decode()")
    page.evaluate("new Promise(requestAnimationFrame)")
    page.keyboard.press(key)
    page.keyboard.press("Enter")


def finish(page, key="Digit3"):
    while page.locator("#rating").count():
        token = page.get_attribute("[name=tasks]", "value")
        rate(page, key)
        page.wait_for_selector(f"[name=tasks][value='{token}']", state="detached")
        page.wait_for_selector("#rating, [name=comment]")
    page.fill("[name=comment]", "—")
    page.click("main button.primary")
    page.wait_for_selector("h1")


@pytest.mark.slow
def test_a_study_of_three_readers_in_a_browser(browser, serve):
    server, links, rows = serve(readers=3, per_source=1, size=256)
    pages = [
        open_page(browser, link, language, **options)
        for link, language, options in zip(
            links,
            ("ru", "kk", "uz"),
            ({}, {"viewport": {"width": 360, "height": 740}, "has_touch": True}, {}),
            strict=True,
        )
    ]
    errors = []
    for page in pages:
        page.on("pageerror", lambda error: errors.append(error))
    for page in pages:
        is_saved(page, 0)
        time.sleep(0.1)
        rate(page, "Digit4")
        page.wait_for_selector(".notice", state="detached")  # practice is over
    assert rows("SELECT count(*) FROM rating") == [(3,)]

    # By touch on a narrow screen, which does not scroll sideways.
    narrow = pages[1]
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 360
    narrow.tap(".scale label:nth-child(5)")
    narrow.tap(".ticks label:nth-child(2)")
    narrow.tap("#save")
    is_saved(narrow, 1)

    # The server is killed: the page says that nothing was saved, and keeps the answer.
    page = pages[0]
    server.kill()
    rate(page, "Numpad2")
    page.wait_for_selector("#error:not([hidden])")
    assert "Не сохранено" in page.inner_text("#error")
    assert page.is_checked(".scale input[value='2']")
    server.start()
    page.click("#save")
    is_saved(page, 1)
    assert rows("SELECT count(*) FROM rating WHERE score = 2") == [(1,)]

    # A double click, Back, and a second tab: one rating.
    page.keyboard.press("Digit5")
    page.dblclick("#save")
    is_saved(page, 2)
    with contextlib.suppress(Exception):
        page.go_back(timeout=5000)
    page.goto(f"{server.place}/rate")
    is_saved(page, 2)
    second = page.context.new_page()
    second.set_default_timeout(60_000)
    second.goto(f"{server.place}/rate")
    rate(second, "Digit1")
    is_saved(second, 3)
    rate(page, "Digit1")
    is_saved(page, 3)
    assert rows("SELECT count(*) FROM rating") == [(7,)]

    # One withdraws; the others finish, one of them on another computer.
    pages[2].click("footer a")
    pages[2].check("[value=withdraw]")
    pages[2].click("button.danger")
    pages[2].wait_for_selector("h1")
    finish(page)
    elsewhere = browser.new_context().new_page()
    elsewhere.set_default_timeout(60_000)
    elsewhere.goto(links[1])
    elsewhere.click("main button[value=kk]")
    is_saved(elsewhere, 1)
    finish(elsewhere)
    assert elsewhere.inner_text("h1") == "Рақмет"
    assert rows("SELECT state FROM reader ORDER BY id") == [("done",), ("done",), ("withdrawn",)]
    ((unknown, least),) = rows("SELECT sum(ms IS NULL), min(ms) FROM rating")
    assert (unknown, least > 0) == (0, True)
    assert errors == []


@pytest.mark.slow
def test_an_image_that_was_not_loaded_is_not_rated(browser, serve):
    _, links, rows = serve(readers=1, per_source=1)
    page = open_page(browser, links[0], "en")
    page.context.route("**/image/*.png", lambda route: route.abort())
    page.reload()
    page.wait_for_selector("#error:not([hidden])")
    page.keyboard.press("Digit4")
    page.keyboard.press("Enter")
    page.wait_for_selector("#error:not([hidden])")
    assert "could not be loaded" in page.inner_text("#error")
    page.context.unroute("**/image/*.png")
    page.reload()
    rate(page, "Digit4")
    page.wait_for_selector(".notice", state="detached")
    assert rows("SELECT count(*) FROM rating") == [(1,)]


@pytest.mark.slow
def test_the_page_rates_without_javascript(browser, serve):
    _, links, rows = serve(readers=1, per_source=1)
    page = open_page(browser, links[0], "en", java_script_enabled=False)
    page.click(".scale label:nth-child(2)")
    page.check("[name^=walls_not_visible]")
    page.click("#save")
    page.wait_for_selector("progress[max='4']")
    assert rows("SELECT score, walls_not_visible, ms FROM rating") == [(2, 1, None)]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_the_contrast_of_wcag_aa(browser, serve, scheme):
    _, links, _ = serve(readers=1, per_source=1)
    page = open_page(browser, links[0], "en")
    if scheme == "light":
        page.click("footer a")
        page.wait_for_selector("button.danger")
    low = page.evaluate(CONTRAST)
    assert low == []


CONTRAST = """() => {
  const channel = (v) => (v /= 255, v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    let ground = element;
    while (ground.parentElement) {
      const colour = parse(getComputedStyle(ground).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) break;
      ground = ground.parentElement;
    }
    const colours = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
    const [a, b] = colours.map((text) => light(parse(text)));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${element.tagName} ${ratio.toFixed(2)} ${element.textContent}`);
  }
  return low;
}"""
