"""Takes book/_static/screenshot.png, what the README and links show: the built first page at round 1.

    make book && python tools/screenshot.py
"""

import os
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
SIZE = {"width": 1100, "height": 740}  # narrow enough to do without the page's own table of contents


def main() -> None:
    chromium = os.environ.get("METALIB_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    page_file = ROOT / "_build/html/book/intro.html"
    if not chromium or not page_file.exists():
        raise SystemExit("needs Chromium, and the built book: make book")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(page_file.as_uri())
        page.locator(".metalib-landing .mg-option").first.wait_for()
        page.screenshot(path=ROOT / "book/_static/screenshot.png")
        browser.close()


if __name__ == "__main__":
    main()
