"""The status page in a real browser, headless: it loads, what happens appears by itself, and nothing is on its console."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from cofferdam.page.engine import Engine
from servers.pages import HOSTILE, Page, container, refusal

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PATIENCE = 120
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
QUIET += ("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-proxy-server")
# Where a look at the page is wanted: screenshots go there.
SCREENSHOTS = os.environ.get("COFFERDAM_SCREENSHOTS")

pytestmark = [
    pytest.mark.skipif(
        not (BROWSER and DRIVER), reason="no chromium with chromium-driver here: apt-get install chromium chromium-driver"
    ),
    pytest.mark.timeout(900),
    # selenium's own child process, on a slow machine
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for each in (*QUIET, f"--user-data-dir={profile}"):
            options.add_argument(each)
        driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        driver.set_page_load_timeout(PATIENCE)
        yield driver
        driver.quit()


@pytest.fixture
def page(browser) -> Iterator[Page]:
    made = Page()
    browser.get_log("browser")
    size(browser, 1280, 1000)
    yield made
    browser.get("about:blank")
    made.close()


def size(browser, width: int, height: int, scheme: str = "light") -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def appears(browser, selector: str, words: str) -> None:
    wait = WebDriverWait(browser, PATIENCE)
    find = f"return (document.querySelector({selector!r}) || document.createElement('p')).textContent"
    wait.until(lambda driver: words in driver.execute_script(find), f"`{words}` does not appear in {selector}")


def opened(browser, page: Page) -> None:
    browser.get(page.server.url)
    appears(browser, "#link", "live")


def screenshot(browser, name: str) -> None:
    if SCREENSHOTS:
        browser.save_screenshot(str(Path(SCREENSHOTS) / f"{name}.png"))


def console(browser) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def test_it_loads_by_its_link_and_what_happens_appears(browser, page):
    opened(browser, page)
    assert browser.current_url == f"http://{page.server.host}{page.root}", "the token stays in no address"
    assert browser.title == "box · Cofferdam"
    appears(browser, "#containers", "100000")
    page.source.set(engine=Engine((container("web"), container("db", 1))))
    appears(browser, "#containers tbody", "165536")
    page.source.set(denied=(refusal(1),))
    appears(browser, "#denied tbody", "host-namespace")
    page.source.set(denied=(refusal(2, "device"), refusal(1)))
    appears(browser, "#denied tbody tr", "device")
    appears(browser, "#news", "Denied: device, cofferdam containers can't share")
    assert console(browser) == []


def test_reload_and_a_second_window_go_on_with_the_cookie(browser, page):
    opened(browser, page)
    browser.refresh()
    appears(browser, "#link", "live")
    assert browser.execute_script("return document.cookie") == "", "no script reads it"
    assert [(each["httpOnly"], each["sameSite"], each["path"]) for each in browser.get_cookies()] == [(True, "Strict", page.root)]
    assert console(browser) == []


def test_nothing_of_the_machine_runs_in_the_browser(browser, page):
    opened(browser, page)
    page.source.set(
        engine=Engine((container(HOSTILE),)), denied=(refusal(1, HOSTILE, reason=HOSTILE),), facts=((HOSTILE, HOSTILE),)
    )
    for section in ("#containers", "#denied", "#instance"):
        appears(browser, section, HOSTILE)
    assert browser.title == "box · Cofferdam"
    assert browser.find_elements(By.CSS_SELECTOR, "main img, main script") == []
    assert console(browser) == []


def test_the_policy_of_the_page_stops_what_would_be_inline(browser, page):
    """The second line of defence, were a text ever taken for HTML."""
    opened(browser, page)
    browser.execute_script("document.getElementById('news').innerHTML = arguments[0]", HOSTILE)
    WebDriverWait(browser, PATIENCE).until(lambda _: any("Content Security Policy" in line for line in console(browser)))
    assert browser.title == "box · Cofferdam"


def test_it_says_that_the_instance_has_ended(browser, page):
    opened(browser, page)
    page.source.set(alive=False)
    appears(browser, "#link", "instance box has ended, and this page with it")
    page.thread.join(PATIENCE)
    assert page.ended is True
    assert console(browser) == []


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_nothing_is_wider_than_the_window(browser, page, width):
    long = "x" * 200
    refused = refusal(1, "restricted-mount", reason=long, request="", image=f"registry.example.com/{long}", container="f" * 64)
    page.source.set(engine=Engine((container("web"), container(long, 1, "exited (137)"))), denied=(refused, refusal(0)))
    size(browser, width, 900)
    opened(browser, page)
    appears(browser, "#denied", "restricted-mount")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    screenshot(browser, f"width-{width}")


LUMINANCE = """
const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = color => { const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map(channel);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = element => { for (; element; element = element.parentElement) {
  const color = getComputedStyle(element).backgroundColor; if (!color.endsWith(", 0)")) return color; } return "rgb(255, 255, 255)"; };
return [...document.querySelectorAll("h1, h1 span, h2, .count, p, dt, dd, th, td, caption, .state, code, a")]
  .filter(e => e.textContent.trim()).map(e => {
    const [a, b] = [luminance(getComputedStyle(e).color), luminance(ground(e))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), e.tagName + "." + e.className]; }).filter(([ratio]) => ratio < 4.5);
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(browser, page, scheme):
    stopped = container("old", 0, "exited (0)")
    page.source.set(engine=Engine((container("web"), stopped), problem="a problem"), denied=(refusal(2, "device"), refusal(1)))
    size(browser, 1280, 1100, scheme)
    opened(browser, page)
    appears(browser, "#denied", "device")
    appears(browser, "#containers", "a problem")
    screenshot(browser, f"scheme-{scheme}")
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(18, 23, 26)") == (scheme == "dark")
    assert browser.execute_script(LUMINANCE) == []


def test_tables_have_headers_and_the_keyboard_gets_through(browser, page):
    page.source.set(denied=(refusal(1),))
    opened(browser, page)
    appears(browser, "#denied", "host-namespace")
    for table in browser.find_elements(By.TAG_NAME, "table"):
        heads = table.find_elements(By.CSS_SELECTOR, "thead th[scope=col]")
        assert table.find_elements(By.CSS_SELECTOR, "tbody th[scope=row]") and table.find_elements(By.TAG_NAME, "caption")
        for row in table.find_elements(By.CSS_SELECTOR, "tbody tr"):
            assert len(row.find_elements(By.CSS_SELECTOR, "th, td")) == len(heads)
    browser.switch_to.active_element.send_keys("\ue004")
    first = browser.switch_to.active_element
    assert (first.get_attribute("class"), first.is_displayed()) == ("skip", True)
    first.send_keys("\ue007")
    assert browser.switch_to.active_element.get_attribute("id") == "denied-heading"
