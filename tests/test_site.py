"""The leaderboard as a static site: what it says, and how it behaves in a browser."""

import json
import re

import pandas as pd
import pytest
from browsing import contrast, watched
from running import inside
from test_board import DEFENSE, HERE, protocols  # noqa: F401

from leakbench.board.benchmark import read_benchmark
from leakbench.board.draws import agreement, by_draw
from leakbench.board.entry import Entry
from leakbench.board.lines import contenders, leaderboard, part_lines
from leakbench.board.site.documents import anchor_of, read_documents
from leakbench.core.errors import UserError

pytestmark = pytest.mark.usefixtures("without_rehearsal")
GUIDE = """# A guide

Read [the other](OTHER.md#two-words) and [the code](../code.py), or <b>not</b>.

![a dot](images/dot.png)

| a | b |
|---|---|
| 1 | `zebra` |
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory, protocols):  # noqa: F811
    """A folder with entries and documents."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "clamp.py").write_text(DEFENSE)
    for defense in ("none", "float16", "clamp.py"):
        assert inside(folder, "submit", defense, *HERE, "--authors", "A. <Author>") == 0
    (folder / "docs/images").mkdir(parents=True)
    (folder / "docs/images/dot.png").write_bytes(b"a picture")
    (folder / "docs/GUIDE.md").write_text(GUIDE)
    (folder / "docs/OTHER.md").write_text("# Other\n\n## Two words\n\nAbout quaggas.\n")
    assert inside(folder, "site", "--protocol", "v9", "--docs", "docs") == 0
    return folder


@pytest.fixture(scope="module")
def site(home):
    return home / "site"


@pytest.fixture(scope="module")
def entries(home):
    return [Entry.read(each) for each in sorted((home / "entries").iterdir())]


def cells(text):
    """The rows of the table of a page, each as the texts of its cells."""
    body = re.search(r"<tbody>(.*?)</tbody>", text, re.DOTALL)[1]
    rows = re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    parts = [re.findall(r"<t[dh].*?</t[dh]>", row, re.DOTALL) for row in rows]
    return [[" ".join(re.sub(r"<[^>]*>", " ", each).split()) for each in row] for row in parts]


def test_the_table_is_that_of_the_entries(site, entries):
    lines = leaderboard(part_lines(contenders(entries), read_benchmark("v9"))).to_dict("records")
    shown = cells((site / "index.html").read_text())
    assert [row[1].rpartition(":")[2] for row in shown] == [
        line["defense"].rpartition(":")[2] for line in lines
    ]
    assert shown[0][:2] == ["\N{EN DASH}", "none"]
    assert [row[0] for row in shown[1:]] == ["1", "2"]
    for row, line in zip(shown, lines, strict=True):
        assert row[2].startswith(f"{line['score']:.3f}")
        assert row[3].startswith(f"{line['leaked']}/{line['victims']} ")


def test_a_page_of_a_defense_names_attacks_and_how_to_check_it(site, entries):
    text = (site / "defenses/clamp.html").read_text()
    own = next(each for each in entries if each.about.name == "clamp")
    assert "leakbench verify board/entries/clamp" in text
    assert "A. &lt;Author&gt;" in text
    assert own.about.keys_sha256[:16] in text
    assert "class Clamp(Defense)" in text  # its code
    assert [row[0] for row in cells(text)] == ["digits", "two draws", "sentences"]
    assert "linear 2" in cells(text)[0][4]


def test_pictures_are_of_the_victims_and_of_what_was_found(site, entries):
    text = (site / "defenses/float16.html").read_text()
    section = re.search(r'<section id="digits".*?</section>', text, re.DOTALL)[0]
    assert section.count(", the original") == 2
    assert section.count("as rebuilt by") == 2
    sentence = re.search(r'<div class="sentence">.*?</div>', text, re.DOTALL)[0]
    true, found = re.findall(r"</small> (.*?)</p>", sentence)
    assert true == found  # float16 hides no word


def test_documents_link_to_each_other(site):
    text = (site / "docs/GUIDE.html").read_text()
    assert '<a href="OTHER.html#two-words">the other</a>' in text
    assert '<h2 id="two-words">' in (site / "docs/OTHER.html").read_text()
    assert "&lt;b&gt;not&lt;/b&gt;" in text
    assert 'title="in the repository: code.py"' in text
    assert (site / "docs/images/dot.png").read_bytes() == b"a picture"


def test_the_index_holds_each_section(site):
    text = (site / "search-index.js").read_text()
    pages = json.loads(text.removeprefix("const PAGES = ").removesuffix(";\n"))
    assert {
        "title": "Two words",
        "text": "About quaggas.",
        "page": "Other",
        "url": "docs/OTHER.html#two-words",
    } in pages
    assert any("zebra" in each["text"] for each in pages)
    assert {"defenses/none.html", "defenses/float16.html", "defenses/clamp.html"} <= {
        each["url"] for each in pages
    }


def test_anchors_are_those_of_github():
    assert anchor_of("What came out? `make sweep`, once") == "what-came-out-make-sweep-once"


def test_no_page_leads_nowhere(site):
    for page in site.rglob("*.html"):
        for target in re.findall(r'(?:href|src)="([^"]*)"', page.read_text()):
            path, _, anchor = target.partition("#")
            if not re.match(r"data:|https:", target):
                found = (page.parent / path).resolve() if path else page
                assert found.is_file(), f"{page.name}: {target}"
                assert not anchor or f'id="{anchor}"' in found.read_text(), f"{page.name}: {target}"


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (
            lambda folder: None,
            "{folder}/guide.md: expected a Markdown file or a folder of them, found nothing",
        ),
        (
            lambda folder: (folder / "guide.md").write_text("![x](no.png)"),
            "{folder}/guide.md: expected the picture no.png, found no such file",
        ),
    ],
)  # fmt: skip
def test_wrong_documents_are_named(tmp_path, prepare, message):
    prepare(tmp_path)
    with pytest.raises(UserError) as error:
        read_documents([tmp_path / "guide.md"], tmp_path / "images")
    assert str(error.value) == message.format(folder=tmp_path)


def test_two_documents_of_one_name_are_refused(tmp_path, write):
    one, other = write("a/GUIDE.md", "# A"), write("b/GUIDE.md", "# B")
    with pytest.raises(UserError, match="expected one file of each name, found several GUIDE.md"):
        read_documents([one, other], tmp_path / "images")


def test_a_folder_without_entries_is_refused(tmp_path, capsys):
    assert inside(tmp_path, "site", "nothing", "--protocol", "v9") == 2
    assert capsys.readouterr().err == (
        "nothing: expected a folder of entries of protocol v9, found none; `leakbench submit` makes one\n"
    )


def test_draws_are_compared_defense_by_defense(entries):
    scores = by_draw(contenders(entries), read_benchmark("v9"))
    assert set(scores["part"]) <= {"two draws"}
    assert "none" not in set(scores["defense"])
    rows = entries[-1].trials
    assert set(rows.loc[rows["part"] == "two draws", "model_seed"]) == {0, 1}


def test_equal_orders_agree_and_opposite_ones_do_not():
    defenses = list("abcdefgh")
    scores = pd.DataFrame(
        [
            {"defense": name, "part": "p", "model_seed": seed, "score": value}
            for seed in (0, 1, 2)
            for name, value in zip(defenses, range(8) if seed < 2 else range(8, 0, -1), strict=True)
        ]
    )
    found = {(each.first, each.second): each for each in agreement(scores)}
    assert found[0, 1].correlation.rho == pytest.approx(1)
    assert found[0, 2].correlation.rho == pytest.approx(-1)
    assert found[0, 1].defenses == 8
    assert str(found[0, 1]) == "p, draws 0 and 1 of the weights: rank correlation 1.000 (1.000-1.000)"


@pytest.fixture
def page(browser, site):
    """The first page, opened; in the end there must be no error, and no request to another place."""
    with watched(browser, site / "index.html") as (opened, requests):
        yield opened
        assert [url for url in requests if not url.startswith(("data:", site.as_uri()))] == []


def test_the_search_finds_a_section_by_keyboard(page):
    page.keyboard.press("/")
    page.keyboard.type("quaggas")
    assert page.locator("#status").text_content() == "1 sections found"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/docs/OTHER.html#two-words")
    page.keyboard.press("/")
    page.keyboard.type("float16")
    page.locator("#found a").first.click()
    page.wait_for_url("**/defenses/float16.html")


def test_escape_closes_the_search(page):
    page.locator("#search").fill("words")
    assert page.locator("#found a").count() >= 1
    page.keyboard.press("Escape")
    assert not page.locator("#found").is_visible()


def test_the_table_sorts_and_filters(page):
    names = page.locator(".leaderboard tbody tr:visible th")
    page.get_by_role("button", name="Sent", exact=True).press("Enter")
    assert names.first.inner_text() == "float16"
    page.locator("#words").fill("cla")
    assert names.count() == 1
    assert page.locator("#shown").inner_text() == "1 of 3 shown"


@pytest.mark.parametrize("path", ["index.html", "defenses/clamp.html", "docs/GUIDE.html"])
@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_sticks_out(page, site, path, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((site / path).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_in_light_and_dark(page, scheme):
    page.emulate_media(color_scheme=scheme)
    paper = page.locator("body").evaluate("each => getComputedStyle(each).backgroundColor")
    for place in ("body", "small", "main a", ".rank", "footer", ".lead"):
        ink = page.locator(place).first.evaluate("each => getComputedStyle(each).color")
        assert contrast(ink, paper) >= 4.5, place


def test_every_picture_and_field_has_a_name(page):
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    for each in page.get_by_role("searchbox").all():
        assert each.evaluate("field => field.labels.length") == 1
    for each in page.locator(".chart a").all():
        assert each.get_attribute("aria-label")
