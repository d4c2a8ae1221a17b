"""Take a picture of the status page, once it shows what is there.

    python docs/pictures/page.py "$LINK" docs/pictures/status-page.png

LINK is what `inv page` printed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

WIDTH, HEIGHT = 1120, 1060
PATIENCE = 120
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
QUIET += ("--disable-component-update", "--disable-sync", "--no-proxy-server", "--disable-lcd-text", "--hide-scrollbars")


def is_live(browser: webdriver.Chrome) -> bool:
    """Whether the page follows the machine and has heard of its containers."""
    followed = browser.find_element(By.ID, "link").text != "connecting"
    return followed and bool(browser.find_elements(By.CSS_SELECTOR, "#containers tbody tr"))


def main(link: str, target: str) -> None:
    """Open the page, wait for its containers, write a PNG."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for each in (*QUIET, f"--window-size={WIDTH},{HEIGHT}", f"--user-data-dir={profile}"):
            options.add_argument(each)
        browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            browser.get(link)
            WebDriverWait(browser, PATIENCE).until(is_live)
            browser.save_screenshot(target)
        finally:
            browser.quit()


if __name__ == "__main__":
    main(*sys.argv[1:])
