"""Measures how long the page of a run takes to open, sort and filter, in a headless Chromium.

`python benchmarks/page.py runs/NAME/report.html`; each time ends with the frame that shows the result.
"""

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROUNDS = 9
SHOWN = "() => new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))"
SORTED = """() => {
  const began = performance.now();
  document.querySelectorAll(".leaderboard thead button")[3].click();
  return new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now() - began))));
}"""
FILTERED = """() => {
  const began = performance.now();
  const field = document.querySelector(".words");
  field.value = "prune";
  field.dispatchEvent(new Event("input"));
  return new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now() - began))));
}"""


def times(page: Page, file: Path) -> dict[str, float]:
    """The milliseconds for opening, sorting and filtering in one visit."""
    page.goto(file.resolve().as_uri())
    return {
        "open": page.evaluate(SHOWN),  # since the start of the visit
        "sort": page.evaluate(SORTED),
        "filter": page.evaluate(FILTERED),
    }


def main() -> int:
    """Print the medians as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--browser", default="chromium-headless-shell")
    options = parser.parse_args()
    program = shutil.which(options.browser)
    if program is None or not options.page.is_file():
        print(f"expected a page and a browser, found no {options.page if program else options.browser}")
        return 2
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=program, args=["--no-sandbox"])
        visits = [times(browser.new_page(), options.page) for _ in range(ROUNDS)]
        version = browser.version
        browser.close()
    medians = {f"{name}_ms": round(statistics.median(each[name] for each in visits)) for name in visits[0]}
    size = round(options.page.stat().st_size / 1e6, 1)
    print(json.dumps({"page_mb": size, **medians, "chromium": version, "n": ROUNDS}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
