"""The page of a run: what it contains, and how it behaves in a browser."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from browsing import contrast, watched
from made_up import store, table, text_table
from PIL import Image

import leakbench
from leakbench.reports.figures import write_figures
from leakbench.reports.figures.tradeoff import pareto
from leakbench.reports.leaderboard import leaderboard
from leakbench.reports.names import short_names
from leakbench.reports.page import write_page
from leakbench.reports.page.shown import data_uri
from leakbench.reports.run import Run
from leakbench.sweeps.records import Record
from leakbench.sweeps.tables import TRAININGS

MINE = "my/path/mine.py:Mine(size=2)"


def some_rows():
    """Twelve images: without a defense 10 leak; noise hides all, pruning some, one fails."""
    random = np.random.default_rng(1)
    cells = [("none", index, 0, 0.0, 0.95 if index < 10 else 0.3) for index in range(12)]
    for name, ssim in (("gaussian(std=0.1)", 0.1), ("prune(ratio=0.5)", 0.5), (MINE, 0.3)):
        cells += [(name, index, 0, 0.1, ssim + 0.1 * float(random.random())) for index in range(12)]
    cells.append(("int8", 0, 0, None, None))
    return table(*cells)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return store(tmp_path_factory.mktemp("page") / "run", some_rows())


@pytest.fixture(scope="module")
def path(run):
    return write_page(Run(run), write_figures(Run(run)))


@pytest.fixture(scope="module")
def text(path):
    return path.read_text()


def test_the_numbers_of_the_table_are_those_of_the_rows(run):
    lines = leaderboard(run.rows(), run.rows(TRAININGS), run.scale).set_index("defense")
    rows = run.rows()
    usable = set(rows[(rows["defense"] == "none") & (rows["ssim"] >= 0.9)]["index"])
    own = rows[(rows["defense"] == MINE) & rows["index"].isin(usable)]
    assert lines.loc[MINE, "ssim"] == own["ssim"].median()
    assert lines.loc[MINE, "mse"] == own["mse"].median()
    assert (lines.loc[MINE, "leaked"], lines.loc[MINE, "images"]) == (0, 10)
    assert (lines.loc[MINE, "sent_bytes"], lines.loc[MINE, "sent"]) == (1000, 1)
    assert list(lines.index) == ["none", "gaussian(std=0.1)", MINE, "prune(ratio=0.5)", "int8"]


def test_the_page_holds_the_numbers_of_the_table(run, text):
    lines = leaderboard(run.rows(), run.rows(TRAININGS), run.scale)
    for line in lines.to_dict("records"):
        assert f'title="{line["defense"]}"' in text
        if line["images"]:
            assert f'data-value="{line["ssim"]}"' in text
            assert f"{line['leaked']}/{line['images']}" in text


def test_the_verdict_is_at_the_top(text):
    assert "Without a defense, 10 of 12 images leak (55% to 95%)." in text
    assert "Mine(size=2): hides less than a known defense of similar accuracy." in text


@pytest.mark.parametrize(
    ("ssims", "sentences"),
    [
        ({"prune(ratio=0.5)": 0.1, "int8": 0.95}, ["Defenses that hide them (1 of 2): prune(ratio=0.5)."]),
        ({"int8": 0.95}, ["No defense hides them."]),
    ],
)
def test_without_a_new_defense_it_says_which_hide(tmp_path, ssims, sentences):
    cells = [(name, i, 0, 0.1, ssim) for name, ssim in ({"none": 0.95} | ssims).items() for i in range(3)]
    text = write_page(Run(store(tmp_path / "run", table(*cells))), []).read_text()
    for sentence in sentences:
        assert sentence in text


def test_where_nothing_leaks_nothing_is_said_about_a_defense(tmp_path):
    made = store(tmp_path / "run", table(("none", 0, 0, 0.1, 0.2), ("int8", 0, 0, 0.1, 0.1)))
    assert "So nothing can be said about any defense." in write_page(Run(made), []).read_text()


def test_a_run_without_a_single_result_has_a_page(tmp_path):
    made = store(tmp_path / "run", table(("none", 0, 0, None, None), ("int8", 0, 0, None, None)))
    text = write_page(Run(made), write_figures(Run(made))).read_text()
    assert "2 of them failed" in text


def test_a_change_from_a_training_that_failed_is_not_a_number(tmp_path):
    made = store(tmp_path / "run", table(("none", 0, 0, 0.1, 0.95), ("int8", 0, 0, 0.1, 0.1)))
    row = dict.fromkeys(TRAININGS.dtypes) | {"key": "a", "train": "a", "test": "b", "seed": 0, "seconds": 1.0}
    row |= {"model": "lenet", "protocol": "fedsgd", "recipe": "r", "family": "x", "device": "cpu"}
    row |= {"hardware": "AVX2", "torch_version": "2", "reason": "", "defense": "int8", "status": "converged"}
    made.append([Record("trainings", row | {"accuracy": 0.5})])
    made.append([Record("trainings", row | {"key": "b", "defense": "none", "status": "error"})])
    text = write_page(Run(made), []).read_text()
    assert "50.0 %" in text
    assert "nan" not in text.partition("<tbody>")[2].partition("</tbody>")[0]


def test_how_to_repeat_a_quick_run_says_quick_twice(tmp_path):
    made = store(tmp_path / "run", table(("none", 0, 0, 0.1, 0.95)))
    made.note("trainings", 3)
    made.note("options", "--quick")
    text = write_page(Run(made), []).read_text()
    file = made.manifest()["file"]
    assert f"leakbench sweep {file} --quick\nleakbench utility {file} --quick<" in text


def test_nothing_on_the_page_is_elsewhere(text):
    links = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', text)
    for link in (a or b for a, b in links):
        assert link.startswith(("data:", "#")), link[:80]


def test_what_a_user_wrote_is_not_taken_for_markup(text):
    assert "# &lt;b&gt; &amp; &#34;quotes&#34;" in text


def test_large_pictures_become_smaller():
    content = base64.b64decode(data_uri([np.zeros((1, 300, 200))]).partition(",")[2])
    assert max(Image.open(io.BytesIO(content)).size) <= 64


def test_names_are_short_where_that_tells_them_apart():
    assert short_names(["none", "a/b.py:C(x=1)", "prune(ratio=0.5)"]) == {
        "none": "none", "a/b.py:C(x=1)": "C(x=1)", "prune(ratio=0.5)": "prune(ratio=0.5)",
    }  # fmt: skip
    both = ["a.py:C", "b.py:C"]
    assert short_names(both) == dict(zip(both, both, strict=True))


def test_no_other_defense_beats_those_on_the_front():
    points = pd.DataFrame(
        {"accuracy": [0.9, 0.9, 0.8, 0.7, 0.95], "ssim": [0.5, 0.4, 0.4, 0.1, 0.9]}, index=list("abcde")
    )
    assert list(pareto(points).index) == ["d", "b", "e"]


def test_the_command_writes_it(run, capsys):
    assert leakbench.main(["report", str(run.folder)]) == 0
    assert capsys.readouterr().out == f"{run.folder / 'report.html'}\n"


@pytest.mark.long
def test_a_page_of_many_trials_can_be_sent_by_mail(tmp_path):
    cells = [("none", index, 0, 0.0, 0.95) for index in range(200)]
    for level in range(24):
        cells += [(f"prune(ratio=0.{level + 10})", index, 0, 0.1, level / 30) for index in range(200)]
    made = store(tmp_path / "run", table(*cells), size=32, steps=(0, 10))
    assert len(made.rows()) == 5000
    assert write_page(Run(made), write_figures(Run(made))).stat().st_size < 15e6


@pytest.fixture
def page(browser, path):
    """The page, opened; in the end there must be no error, and no request to another place."""
    with watched(browser, path) as (opened, requests):
        yield opened
        assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]


def names(page):
    return page.locator(".leaderboard tbody tr:visible th").all_inner_texts()


def test_a_column_heading_sorts_and_sorts_back(page):
    heading = page.get_by_role("columnheader", name="SSIM")
    heading.get_by_role("button").click()
    ascending = ["gaussian(std=0.1)", "Mine(size=2)", "prune(ratio=0.5)", "none"]
    assert names(page) == [*ascending, "int8"]  # which has no value
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").click()
    assert names(page) == [*ascending[::-1], "int8"]
    assert heading.get_attribute("aria-sort") == "descending"
    page.get_by_role("columnheader", name="Defense").get_by_role("button").press("Enter")
    assert names(page)[0] == "none"  # as it was
    assert heading.get_attribute("aria-sort") is None


def test_the_filter_shows_some_in_the_table_and_in_the_gallery(page):
    page.get_by_role("searchbox").fill("LEAK prune")
    assert names(page) == []  # pruning leaves artifacts
    page.get_by_role("searchbox").fill("prune")
    assert names(page) == ["prune(ratio=0.5)"]
    assert page.locator(".films:visible th").all_inner_texts() == ["prune(ratio=0.5)"]
    assert page.locator(".found").inner_text() == "1 of 5 shown"
    page.get_by_role("searchbox").fill("")
    assert len(names(page)) == 5


def test_the_slider_moves_all_pictures(page):
    film = page.locator(".film").first
    at_end = film.screenshot()
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext") == "step 0"
    assert film.screenshot() != at_end
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "step 5"
    slider.press("End")
    assert film.screenshot() == at_end


def test_every_picture_and_field_has_a_name(page):
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    assert page.locator(".film:not([aria-label])").count() == 0
    for role in ("slider", "searchbox"):
        assert page.get_by_role(role).evaluate("field => field.labels.length") == 1


@pytest.mark.parametrize("width", [375, 1200])
def test_nothing_sticks_out(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_in_light_and_dark(page, scheme):
    page.emulate_media(color_scheme=scheme)
    paper = page.locator("body").evaluate("each => getComputedStyle(each).backgroundColor")
    for place in ("body", "small", "a", "td.leak", "td.artifacts", "td.no-leak", "figcaption"):
        ink = page.locator(place).first.evaluate("each => getComputedStyle(each).color")
        assert contrast(ink, paper) >= 4.5, place


@pytest.fixture
def page_of_texts(browser, tmp_path):
    cells = [
        (name, index, 0, 0.1, score) for name, score in (("none", 0.95), ("int8", 0.4)) for index in (0, 1)
    ]
    path = write_page(Run(store(tmp_path / "run", text_table(*cells))), [])
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    opened.goto(path.as_uri())
    yield opened
    opened.close()


def test_the_slider_shows_the_words_of_a_step(page_of_texts):
    shown = page_of_texts.locator(".frames p:visible")
    assert shown.count() == 4
    at_end = shown.all_inner_texts()
    slider = page_of_texts.get_by_role("slider")
    slider.focus()
    slider.press("Home")
    assert shown.count() == 4
    assert all(one != other for one, other in zip(shown.all_inner_texts(), at_end, strict=True))
    slider.press("End")
    assert shown.all_inner_texts() == at_end


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_wrong_words_can_be_read_and_told_without_colours(page_of_texts, scheme):
    page_of_texts.emulate_media(color_scheme=scheme)
    look = "each => [getComputedStyle(each).color, getComputedStyle(each).textDecorationLine]"
    ink, line = page_of_texts.locator("mark:visible").first.evaluate(look)
    paper = page_of_texts.locator("body").evaluate("each => getComputedStyle(each).backgroundColor")
    assert contrast(ink, paper) >= 4.5
    assert line == "underline"


@pytest.mark.parametrize("width", [375, 1200])
def test_no_text_sticks_out(page_of_texts, width):
    page_of_texts.set_viewport_size({"width": width, "height": 900})
    assert page_of_texts.evaluate("document.documentElement.scrollWidth") <= width


def test_the_columns_of_texts_can_be_sorted(page_of_texts):
    page_of_texts.get_by_role("columnheader", name="Words leak").get_by_role("button").click()
    assert names(page_of_texts) == ["int8", "none"]


def test_it_prints_without_its_controls(page):
    page.emulate_media(media="print")
    assert page.get_by_role("searchbox").is_hidden()
    assert page.get_by_role("slider").is_hidden()
    assert page.locator(".leaderboard").is_visible()
