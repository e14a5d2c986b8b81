"""What tests of pages in a browser need."""

import re
import shutil
from contextlib import contextmanager

import numpy as np
import pytest

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def browsers():
    """A browser for `yield from`; skips the test where none is installed."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as api:
        program = api.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield program
        program.close()


@contextmanager
def watched(browser, path):
    """The page of a file, opened, and the addresses that it requests; in the end there must be no error."""
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    problems, requests = [], []
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(path.as_uri())
    yield opened, requests
    assert problems == []
    opened.close()


def contrast(one, other):
    """Of two colours `rgb(r, g, b)` or `#rrggbb`: WCAG 2.2, relative luminance."""
    lights = []
    for text in (one, other):
        parts = [number / 255 for number in _numbers(text)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        lights.append(float(np.dot(linear, [0.2126, 0.7152, 0.0722])) + 0.05)
    return max(lights) / min(lights)


def _numbers(colour):
    if colour.startswith("#"):
        return list(bytes.fromhex(colour[1:]))
    return [int(each) for each in re.findall(r"\d+", colour)[:3]]
