"""The pictures of the page: the same images under every defense, and a choice of the attack."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browsing import contrast, watched
from made_up import store, table, text_table
from PIL import Image

import leakbench.reports.page
from leakbench.reports.figures.strip import draw_strip
from leakbench.reports.page import write_page
from leakbench.reports.page.gallery import MOST_COLUMNS, gallery, worst_victims
from leakbench.reports.run import Run

STYLE = (Path(leakbench.reports.page.__file__).parent / "template" / "base.css").read_text()
IMAGES = 5
DLG = {"none": 0.99, "prune(ratio=0.5)": 0.1, "int8": 0.5}
ADAPTIVE = {"prune(ratio=0.5)": 0.95, "int8": 0.3}  # not needed without a defense
NOTHING = ["\N{EN DASH}", "why"]
LONG = "other(with_a_long_setting=1234567890, and_another=0.001)"


def attacked(make=table):
    """Two attacks on five images, of which image 2 failed under int8, whatever the attack; 4 leaks most."""
    parts = []
    for attack, scores in (("dlg", DLG), (LONG, ADAPTIVE)):
        cells = [
            (name, index, 0, *((None, None) if (name, index) == ("int8", 2) else (0.1, score + index / 500)))
            for name, score in scores.items()
            for index in range(IMAGES)
        ]
        own = make(*cells).assign(attack=attack, attack_name=attack.partition("(")[0])
        parts.append(own.assign(key=attack + own["key"]))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(store(tmp_path_factory.mktemp("gallery") / "run", attacked()))


@pytest.fixture(scope="module")
def found(run):
    return gallery(run.store, run.settings[0], room=100)


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))) / 255


def strongest_of(tries):
    (own,) = [each for each in tries if each.strongest]
    return own


def test_the_columns_are_the_images_that_leak_most_over_all_defenses(run, found):
    best = run.settings[0].best
    totals = best.groupby("index")["ssim"].sum().sort_values(ascending=False)
    assert [each.title for each in found.columns] == [f"image {index}" for index in totals.index]
    assert totals.index[-1] == 2  # as it failed under int8
    assert found.not_shown == 0
    few = gallery(run.store, run.settings[0], room=2 * len(DLG))
    assert [each.title for each in few.columns] == ["image 4", "image 3"]
    assert few.not_shown == IMAGES - 2
    assert len(gallery(run.store, run.settings[0], room=1).columns) == 1


def test_an_image_has_one_column_whatever_the_number_of_weights():
    rows = table(("none", 0, 0, 0.1, 0.9), ("none", 1, 0, 0.1, 0.8), ("none", 0, 0, 0.1, 0.7)).assign(
        model_seed=[0, 0, 1]
    )
    victims = worst_victims(rows, MOST_COLUMNS)
    assert list(zip(victims["index"], victims["model_seed"], strict=True)) == [(0, 0), (1, 0)]


def test_every_defense_has_the_same_images_in_the_same_columns(run, found):
    best = run.settings[0].best.set_index(["defense", "index"])
    traces = run.store.traces(best["key"])
    assert [row.defense for row in found.rows] == list(run.settings[0].board["defense"])
    assert found.rows[0].defense == "none"
    for row in found.rows:
        assert len(row.cells) == len(found.columns)
        for column, tries in zip(found.columns, row.cells, strict=True):
            place = (row.defense, int(column.title.split()[1]))
            own = strongest_of(tries)
            if place in best.index:
                assert own.attack == best.loc[place, "attack"].partition("(")[0]
                assert (own.score, own.leaked) == (best.loc[place, "ssim"], best.loc[place, "leaked"])
                picture = traces[best.loc[place, "key"]].reconstruction[0].transpose(1, 2, 0)
                np.testing.assert_allclose(pixels(own.frames)[:, -16:], picture, atol=0.003)


def test_a_victim_that_failed_is_an_empty_cell_with_its_reason(found):
    column = [each.title for each in found.columns].index("image 2")
    cells = next(row for row in found.rows if row.defense == "int8").cells
    assert [(own.count, own.reason) for own in cells[column]] == [(0, "why"), (0, "why")]
    assert strongest_of(cells[column]).attack == "dlg"
    others = [own for number, cell in enumerate(cells) if number != column for own in cell]
    assert all(own.count for own in others)


def test_an_attack_that_was_not_needed_says_so(found):
    for tries in found.rows[0].cells:
        assert [(own.attack, own.reason) for own in tries] == [("dlg", ""), ("other", "not needed")]


def test_a_film_shows_the_way_and_ends_with_what_the_attacker_keeps(run, found):
    assert found.steps == ["step 0", "step 5", "step 10", "end"]
    own = strongest_of(found.rows[0].cells[0])
    frames = pixels(own.frames)
    best = run.settings[0].best
    key = best[(best["defense"] == "none") & (best["index"] == 4)]["key"].iloc[0]
    trace = run.store.traces([key])[key]
    assert own.count == 4
    assert frames.shape == (16, 4 * 16, 3)
    np.testing.assert_allclose(frames[:, :16], trace.snapshots[0][0].transpose(1, 2, 0), atol=0.003)
    np.testing.assert_allclose(frames[:, -16:], trace.reconstruction[0].transpose(1, 2, 0), atol=0.003)


def test_without_room_for_all_films_the_other_attacks_keep_their_end(run, found):
    assert found.complete
    small = gallery(run.store, run.settings[0], room=3 * len(DLG))  # 3 images: 9 films of dlg, 6 of the other
    assert not small.complete
    tries = [own for row in small.rows for cell in row.cells for own in cell if own.count]
    assert {(own.strongest, own.count) for own in tries} == {(True, 4), (False, 1)}


@pytest.fixture(scope="module")
def path(run):
    return write_page(run, [])


@pytest.fixture
def page(browser, path):
    with watched(browser, path) as (opened, _):
        yield opened


def cells(page, defense):
    """For each column the attacks that are shown."""
    row = page.locator(f".films[data-defense='{defense}']")
    return [
        [own.get_attribute("data-attack") for own in cell.locator(".try:visible").all()]
        for cell in row.locator("td").all()
    ]


def test_the_first_row_is_the_original(page, found):
    head = page.locator(".matrix thead tr")
    assert head.nth(0).locator("th").all_inner_texts() == [each.title for each in found.columns]
    pictures = head.nth(1).locator("img")
    assert [each.get_attribute("src") for each in pictures.all()] == [each.original for each in found.columns]


def test_the_attack_is_chosen_with_the_keyboard(page):
    assert cells(page, "int8") == [["dlg"]] * IMAGES
    assert cells(page, "prune(ratio=0.5)") == [["other"]] * IMAGES
    choice = page.get_by_label("Show", exact=False).and_(page.locator("select"))
    choice.focus()
    choice.press("ArrowDown")  # dlg
    assert choice.input_value() == "dlg"
    assert cells(page, "prune(ratio=0.5)") == [["dlg"]] * IMAGES
    choice.press("ArrowDown")  # the other
    assert cells(page, "none") == [["other"]] * IMAGES  # not needed
    choice.press("ArrowDown")  # dlg next to the strongest
    assert cells(page, "prune(ratio=0.5)") == [["dlg", "other"]] * IMAGES
    assert cells(page, "none") == [["dlg"]] * IMAGES
    first = page.locator(".films[data-defense='prune(ratio=0.5)'] td").first.locator(".try")
    assert first.nth(0).bounding_box()["x"] < first.nth(1).bounding_box()["x"]
    choice.press("Home")
    assert cells(page, "prune(ratio=0.5)") == [["other"]] * IMAGES


def test_a_leak_is_told_without_colours(page):
    none, int8 = (
        page.locator(f".films[data-defense='{each}'] .try:visible").first for each in ("none", "int8")
    )
    outline = "each => getComputedStyle(each).outlineStyle"
    assert "leak" in none.inner_text()
    assert none.locator(".film").evaluate(outline) == "solid"
    assert "leak" not in int8.inner_text()
    assert int8.locator(".film").evaluate(outline) == "none"


def test_an_empty_cell_has_a_dash_and_its_reason(page):
    assert page.locator(".films[data-defense='int8'] td").last.inner_text().split() == NOTHING


def test_on_a_phone_the_matrix_scrolls_and_names_stay(page):
    page.set_viewport_size({"width": 375, "height": 812})
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    matrix, name = page.locator(".matrix"), page.locator(".films th").first
    before = name.bounding_box()["x"]
    assert matrix.evaluate("each => { each.scrollLeft = 150; return each.scrollLeft; }") > 50
    assert name.bounding_box()["x"] == before
    assert matrix.get_attribute("tabindex") == "0"  # so that the arrow keys scroll it


def test_a_row_of_originals_stays_in_view(page):
    page.locator(".matrix").evaluate("each => { each.scrollTop = 200; }")
    box, row = (page.locator(each).first.bounding_box() for each in (".matrix", ".matrix thead"))
    assert row["y"] == pytest.approx(box["y"], abs=1)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_the_colours_can_be_read(mode):
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.S)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", light if mode == "light" else dark))
    for ink in ("ink", "faint", "link", "leak", "artifacts", "none", "wrong"):
        for ground in ("paper", "tint"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["paper"], colours["leak"]) >= 4.5  # the word `leak`


def test_texts_are_grouped_with_the_same_defenses_below_each(browser, tmp_path):
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    run = Run(store(tmp_path / "run", attacked(text_table)))
    opened.goto(write_page(run, []).as_uri())
    groups = opened.locator(".gallery section")
    assert groups.count() == IMAGES
    for group in groups.all():
        assert group.locator("dt").all_inner_texts() == ["original", *run.settings[0].board["defense"]]
        assert group.locator(".films .try:visible").count() == len(DLG)
    assert groups.last.get_attribute("aria-label") == "text 2"
    failed = groups.last.locator(".films[data-defense='int8'] .try:visible")
    assert failed.inner_text().split() == NOTHING
    opened.close()


def texts_and_frames(setting, run):
    figure = draw_strip(run.store, setting.best, setting.kept, setting.scale)
    (panel,) = figure.axes
    return [each.get_text() for each in panel.texts], panel.patches


def test_the_strip_shows_dlg_above_the_strongest_and_frames_leaks(run):
    setting = run.settings[0]
    texts, frames = texts_and_frames(setting, run)
    first = setting.kept[setting.kept["index"] < 4]
    dlg = first[(first["attack"] == "dlg")]
    best = setting.best[setting.best["index"] < 4]
    assert texts.count("DLG") == texts.count("strongest attack") == 4
    for row in dlg.itertuples():
        assert f"SSIM {row.ssim:.2f}" in texts
    for row in best.itertuples():
        assert f"SSIM {row.ssim:.2f}\n{row.attack_name}" in texts
    assert len(frames) == (dlg["ssim"] >= 0.9).sum() + (best["ssim"] >= 0.9).sum()
    assert "framed: a leak, SSIM 0.9 or more" in texts


def test_the_strip_of_one_attack_has_one_row(tmp_path):
    rows = attacked()
    run = Run(store(tmp_path / "run", rows[rows["attack"] == "dlg"]))
    texts, frames = texts_and_frames(run.settings[0], run)
    assert "DLG" not in texts
    assert "SSIM 0.99" in texts
    assert len(frames) == 4  # without a defense


def test_it_prints_all_rows(page):
    page.emulate_media(media="print")
    assert page.locator("select.attack").is_hidden()
    assert page.locator(".matrix").evaluate("each => each.scrollHeight <= each.clientHeight + 1")
