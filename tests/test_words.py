"""Reports of texts: found words compared with the true ones, and every table and figure of them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import TEXT_SCALE, garbled, sentence, settings, store, text_table
from rich.console import Console

import leakbench
from leakbench.bench.datasets import DATASETS, Recorded, open_dataset
from leakbench.bench.modalities import TEXTS
from leakbench.reports.csv_file import read_csv
from leakbench.reports.difference import differences
from leakbench.reports.export import export
from leakbench.reports.figures import write_figures
from leakbench.reports.figures.curves import draw_curves
from leakbench.reports.figures.film import draw_word_film
from leakbench.reports.figures.scores import draw_scores
from leakbench.reports.figures.strip_of_texts import draw_words
from leakbench.reports.interlinear import LETTER, LONGEST, MOST_LETTERS, Group, Line, draw_groups
from leakbench.reports.page import write_page
from leakbench.reports.page.gallery import gallery
from leakbench.reports.page.recorded import recorded_section
from leakbench.reports.protocols import along_protocols
from leakbench.reports.recorded import Update, sentences, updates_table, write_pictures
from leakbench.reports.rows import telling
from leakbench.reports.run import Run
from leakbench.reports.selection import strongest
from leakbench.reports.summary import summarize
from leakbench.reports.tables import terminal_tables
from leakbench.reports.words import marked, words_of
from leakbench.sweeps.plan import plan
from leakbench.sweeps.store import Store
from leakbench.sweeps.sweep_file import read_sweep

TRUE = "[CLS] fellow citizens of the rev ##ulsion [SEP]"


def shown(found, truth=TRUE):
    """The words with a star after each that is wrong."""
    return " ".join(word.text + "*" * (not word.right) for word in marked(found, truth))


def places(found, truth=TRUE):
    return [word.place for word in marked(found, truth)]


def test_pieces_are_put_together_and_special_ones_are_not_shown():
    assert words_of(TRUE) == ["fellow", "citizens", "of", "the", "revulsion"]
    assert words_of("[CLS] ##ing [MASK] [UNK] re ##pub ##lic [PAD]") == ["##ing", "[UNK]", "republic"]
    assert shown(TRUE) == "fellow citizens of the revulsion"
    assert places(TRUE) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("[CLS] fellow men of the rev ##ulsion [SEP]", "fellow men* of the revulsion"),
        ("[CLS] citizens fellow of the rev ##ulsion [SEP]", "citizens* fellow* of the revulsion"),
        ("[CLS] fellow citizens of the rev ##olution [SEP]", "fellow citizens of the revolution*"),
        ("[CLS] fellow citizens of the rev ##ulsion ##s", "fellow citizens of the revulsions*"),
        ("[CLS] fellow citizens of the rev and [SEP]", "fellow citizens of the rev* and*"),
        ("[CLS] fellow citizens of ##the rev ##ulsion [SEP]", "fellow citizens ofthe* revulsion"),
    ],
    ids=["another", "swapped", "another ending", "longer", "half a word", "joined"],
)
def test_with_as_many_pieces_the_same_place_counts(found, expected):
    assert shown(found) == expected


@pytest.mark.parametrize(
    ("found", "expected", "below"),
    [
        ("[CLS] citizens of the rev ##ulsion [SEP]", "citizens of the revulsion", [1, 2, 3, 4]),
        ("[CLS] my fellow citizens of the rev ##ulsion [SEP]", "my* fellow citizens of the revulsion",
         [0, 0, 1, 2, 3, 4]),
        ("[CLS] fellow citizens of the the rev ##ulsion [SEP]", "fellow citizens of the the* revulsion",
         [0, 1, 2, 3, 3, 4]),
        ("[CLS] fellow men of rev ##ulsion [SEP]", "fellow men* of revulsion", [0, 1, 2, 4]),
        ("nothing", "nothing*", [0]),
        ("", "", []),
    ],
    ids=["one less", "one more", "one twice", "another and one less", "one word", "none"],
)  # fmt: skip
def test_otherwise_those_that_both_have_in_order_are_right(found, expected, below):
    assert shown(found) in (expected, expected.replace("the the*", "the* the"))
    assert places(found) == below


def test_of_any_text_every_word_is_shown_once_below_one_that_exists():
    random = np.random.default_rng(0)
    truths = [sentence(index) for index in range(20)]
    for truth in truths:
        for share in (0.0, 0.5, 0.9):
            found = garbled(truth, share, random).split()
            for own in (" ".join(found), " ".join(found[2:]), " ".join(found + found)):
                words = marked(own, truth)
                assert [word.text for word in words] == words_of(own)
                assert {word.place for word in words} <= set(range(len(words_of(truth))))
                assert places(own, truth) == sorted(places(own, truth))


def test_words_in_another_order_are_below_the_true_ones_one_by_one():
    """An alignment would put most of them below the last."""
    assert places("revulsion the of citizens fellow") == [0, 0, 1, 2, 3]  # [CLS] is a piece, too
    assert shown("revulsion the of citizens fellow").count("*") == 4


NOISE, PRUNE, MINE = "gaussian(variance=0.1)", "prune(ratio=0.5)", "my/path/mine.py:Mine(size=2)"


def some_rows():
    """Twelve texts: without a defense 10 leak; noise hides all, pruning some, one fails."""
    random = np.random.default_rng(1)
    cells = [("none", index, 0, 0.0, 0.95 if index < 10 else 0.4) for index in range(12)]
    for name, score in ((NOISE, 0.1), (PRUNE, 0.5), (MINE, 0.35)):
        cells += [(name, index, 0, 0.1, score + 0.1 * float(random.random())) for index in range(12)]
    cells.append(("int8", 0, 0, None, None))
    return text_table(*cells)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(store(tmp_path_factory.mktemp("texts") / "run", some_rows()))


@pytest.fixture(scope="module")
def page(run):
    return write_page(run, write_figures(run)).read_text()


def printed(rows):
    console = Console(width=100, record=True, markup=False)
    for each in terminal_tables(settings(rows, TEXT_SCALE)):
        console.print(each)
    return console.export_text()


def test_the_scores_of_texts_decide(run):
    (setting,) = run.settings
    lines = setting.lines.set_index("defense")
    rows = run.rows.set_index(["defense", "index"])
    assert (lines.loc["none", "leaked"], lines.loc["none", "verdict"]) == (10, "leak")
    for name in (NOISE, PRUNE, MINE):
        own = rows.loc[name].loc[list(range(10))]
        for score in ("rouge_l", "token_accuracy", "bag_recall"):
            assert lines.loc[name, score] == pytest.approx(own[score].median())
            assert lines.loc[name, f"{score}_low"] <= lines.loc[name, score]
        assert lines.loc[name, "drop"] == pytest.approx((0.95 - own["rouge_l"]).median())
        assert lines.loc[name, "chosen"] == lines.loc[name, "rouge_l"]
    assert list(lines.loc[[NOISE, PRUNE, MINE], "verdict"]) == ["no leak", "artifacts", "artifacts"]
    assert not {"ssim", "psnr", "mse"} & set(lines)
    assert list(setting.board["defense"])[:3] == ["none", NOISE, MINE]


def test_images_have_no_column_of_words():
    from made_up import table

    (setting,) = settings(table(("none", 0, 0, 0.1, 0.95)))
    assert not [name for name in setting.lines if "words" in name]


def test_words_leak_to_any_attack_that_finds_half_of_them():
    """Here to the one that does not know their order, and so is never the strongest."""
    bag = text_table(*(("int8", index, 0, 0.1, 0.2) for index in range(4)), recall=0.9, precision=0.5)
    whole = text_table(*((name, index, 0, 0.1, 0.95 if name == "none" else 0.25)
                         for name in ("none", "int8") for index in range(4)), recall=0.49)  # fmt: skip
    rows = pd.concat([whole, bag.assign(attack="bag", attack_name="bag")], ignore_index=True)
    rows["key"] = list(map(str, range(len(rows))))
    line = summarize(rows, TEXT_SCALE).set_index("defense").loc["int8"]
    assert (line["leaked"], line["verdict"], line["words_leak"]) == (0, "no leak", 1.0)
    assert 0.5 < line["words_leak_low"] < 0.52
    assert line["by"] == "dlg 4"
    guessed = rows.assign(bag_precision=0.49)  # of twice as many words half are wrong
    assert summarize(guessed, TEXT_SCALE).set_index("defense").loc["int8", "words_leak"] == 0
    kept = rows.assign(start=(rows["attack"] == "bag").astype(int), objective=[0.1] * 8 + [0.5] * 4)
    one = kept.assign(attack="dlg")  # a start that the attacker would not keep
    assert summarize(one, TEXT_SCALE).set_index("defense").loc["int8", "words_leak"] == 0


def test_the_terminal_table_is_about_texts():
    text = " ".join(printed(some_rows()).split())
    for part in ("ROUGE-L", "words", "leaked: texts rebuilt with ROUGE-L >= 0.9", "artifacts: 0.3 or more",
                 "words leak: at least half of the words were found",
                 "2 texts excluded: not rebuilt even without a defense"):  # fmt: skip
        assert part in text
    (line,) = re.findall(r"prune\(ratio=0.5\) +0/10 .*", printed(some_rows()))
    assert line.split()[4:] == [*line.split()[4:6], "0/10".replace("10", "12"), "artifacts"]
    assert re.search(r" 0\.5\d\d +\d+% ", line)
    assert "image" not in text.replace("LOSS_IMAGE", "")
    assert "SSIM" not in text


def test_a_hidden_text_whose_label_leaks_is_said_so():
    cells = [(name, index, 0, 1.0, score) for name, score in (("none", 0.95), ("int8", 0.05))
             for index in range(20)]  # fmt: skip
    assert "text hidden, label leaks in 20 of 20: int8" in printed(
        text_table(*cells).assign(label_correct=True)
    )


def test_a_table_of_rows_has_the_scores_of_texts(run, capsys):
    assert telling(run.rows, TEXTS) == [
        "defense", "index", "status", "rouge_l", "token_accuracy", "bag_recall", "match_loss",
    ]  # fmt: skip
    assert leakbench.main(["rows", str(run.store.folder), "--where", "rouge_l > 0.9"]) == 0
    heads, _, *lines = capsys.readouterr().out.splitlines()
    assert heads.split()[-3:] == ["rouge_l", "token_accuracy", "bag_recall"]
    assert len(lines) == 10


def test_two_runs_of_texts_are_compared_by_rouge():
    before, after = (
        text_table(*((name, index, 0, 0.1, score + index / 100)
                     for name, score in (("none", 0.93), ("int8", own)) for index in range(6)))
        for own in (0.4, 0.7)
    )  # fmt: skip
    nothing = pd.DataFrame(columns=["defense", "train", "test", "model", "protocol", "recipe"])
    found = {each.defense: each for each in differences((before, after), (nothing, nothing), TEXT_SCALE)}
    assert (found["int8"].quantity, found["int8"].change) == ("ROUGE-L", "worse")
    assert found["int8"].difference == pytest.approx(0.3)


def test_csv_of_texts_comes_back_unchanged_and_exports_have_their_scores(run, tmp_path):
    markdown, latex, rows, *_ = export(run, ["markdown", "latex", "csv"], tmp_path)
    pd.testing.assert_frame_equal(read_csv(rows), run.rows)
    line = run.settings[0].board.set_index("defense").loc[PRUNE]
    scores = f"{line['rouge_l']:.3f} | {line['token_accuracy']:.3f} | {line['bag_recall']:.3f}"
    text = markdown.read_text()
    assert f"| {PRUNE} | 0/10 | 0-28 | {scores} | {100 * line['words_leak']:.0f} | 0/12 |" in text
    assert "| ROUGE-L | token accuracy | recall of words | words leak, % | label |" in text
    assert "image" not in text
    assert "SSIM" not in text
    lines = [each for each in latex.read_text().splitlines() if each.endswith(r"\\")]
    assert {each.count(" & ") for each in lines} == {13}
    assert "words leak: share of texts of which at least half" in text


def test_points_of_texts_have_the_axes_of_shares():
    best = strongest(some_rows(), TEXT_SCALE)
    panels = draw_scores(best, TEXT_SCALE).axes
    assert [panel.get_xlabel() for panel in panels] == ["ROUGE-L", "token accuracy", "recall of words"]
    assert {panel.get_xscale() for panel in panels} == {"linear"}
    assert {panel.get_xlim() for panel in panels} == {(-0.1, 1.05)}


def test_curves_of_texts_are_of_wrong_tokens(run):
    best = strongest(run.rows, TEXT_SCALE)
    figure = draw_curves(best, run.store.curves(best["key"]), TEXTS)
    above, below = figure.axes[0], figure.axes[len(figure.axes) // 2]
    assert (above.get_yscale(), below.get_yscale()) == ("log", "linear")
    assert below.get_ylabel() == "share of wrong tokens"
    assert "n = 12 texts" in figure.get_suptitle()


def texts_in(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_the_strip_has_each_true_text_and_below_it_what_was_found(run):
    figure = draw_words(run.store, strongest(run.rows, run.scale), run.scale)
    texts = texts_in(figure)
    assert [text for text in texts if text.startswith("text ")] == ["text 0", "text 1", "text 2", "text 3"]
    drawn = " ".join(" ".join(texts).split())
    assert texts[0].endswith("n = 12 texts")
    for index in range(4):
        for word in words_of(sentence(index)):
            assert word in drawn
    assert len([text for text in texts if text.startswith("ROUGE-L 0.")]) == 4 * 4
    assert "[CLS]" not in drawn
    assert sum(len(each.get_segments()) for each in figure.axes[0].collections) > 20


def test_many_defenses_leave_room_for_fewer_texts(tmp_path):
    cells = [(f"prune(ratio=0.{level})", index, 0, 0.1, 0.5) for level in range(10, 21) for index in range(4)]
    made = store(tmp_path / "run", text_table(*cells))
    texts = texts_in(draw_words(made, strongest(made.rows(), TEXT_SCALE), TEXT_SCALE))
    assert [text for text in texts if text.startswith("text ")] == ["text 0", "text 1"]


def test_the_film_has_the_words_at_each_step(run):
    best = strongest(run.rows, run.scale)
    texts = texts_in(draw_word_film(run.store, best))
    assert [text for text in texts if text in ("none", NOISE, PRUNE, MINE)] == ["none", NOISE, PRUNE, MINE]
    assert texts.count("step 5") == texts.count("step 0") == texts.count("step 10") >= 4
    without = [replace_snapshots(each) for each in run.store.traces(best["key"]).values()]
    assert draw_word_film(Traces(run.store, without), best) is None


def replace_snapshots(trace):
    return replace(trace, snapshots={})


class Traces:
    """A store whose traces have no snapshots, as those of attacks in closed form."""

    def __init__(self, store, traces):
        self.originals = store.originals
        self.traces = lambda keys: dict(zip(keys, traces, strict=False))


LONG = " ".join(["unconstitutionally"] * 3 + ["states"] * 30)


def test_words_are_below_their_places_in_the_colour_of_wrong_ones():
    group = Group("a text", "[CLS] we the people [SEP]", [Line("int8", "[CLS] we a people [SEP]", "end")])
    sheet = draw_groups("title", [group])
    rows = {text.get_text().strip(): text for text in sheet.panel.texts}
    assert rows["we the people"].get_position()[0] == rows["we     people"].get_position()[0]
    wrong = rows["a"]
    assert wrong.get_text() == "   a"  # below `the`
    assert wrong.get_color() != rows["we     people"].get_color()
    (rule,) = [each.get_segments() for each in sheet.panel.collections]
    (begin, end), left = rule[0][:, 0], wrong.get_position()[0]
    assert (begin - left, end - left) == pytest.approx((3 * LETTER, 4 * LETTER))


BAG = " ".join(f"a{number}" for number in range(60))


@pytest.mark.parametrize(
    "found", [LONG, BAG, "[CLS] $5 cost $6 [SEP]", "##" + "x" * 200, "日本 ☃", "[SEP]", ""]
)
def test_any_text_fits_and_nothing_overlaps(found):
    """Warnings are errors here, and the font has not every letter; `$` begins no formula."""
    sheet = draw_groups("title", [Group("text", f"[CLS] {LONG} [SEP]", [Line("none", found)])])
    sheet.figure.set_dpi(160)
    sheet.figure.canvas.draw()
    width = sheet.width
    for text in sheet.panel.texts:
        box = text.get_window_extent().transformed(sheet.panel.transData.inverted())
        assert 0 <= box.x0 <= box.x1 <= width, text.get_text()
        assert len(text.get_text()) <= MOST_LETTERS + 1 + LONGEST
    tops = [text.get_position()[1] for text in sheet.panel.texts if text.get_text() == "original"]
    assert len(tops) == len(set(tops)) >= 3


def test_words_that_are_too_many_for_their_place_go_on_below_the_next():
    group = Group("text", "[CLS] we go on [SEP]", [Line("bag", "we b c d e f g h i j k l m n o go")])
    sheet = draw_groups("title", [group])
    lines = [text.get_text() for text in sheet.panel.texts]
    assert lines[2:4] == ["original", "we   go on"]
    assert lines[5].split() == ["we", "go"]
    assert lines[6].split() == list("bcdefghijklmno")
    assert lines[6].startswith("   b c  d e f g h i")


def test_lines_are_about_as_long():
    sheet = draw_groups("title", [Group("text", " ".join(["word"] * 18), [Line("none", "")])])
    lines = [text.get_text() for text in sheet.panel.texts if text.get_text().startswith("word")]
    assert [len(line.split()) for line in lines] == [9, 9]  # not 16 and 2


def test_a_title_with_dollars_is_no_formula():
    groups = [Group("f.py:Mine($a, $b)", "we", [Line("Mine($a, $b)", "we")])]
    draw_groups("title", groups).figure.canvas.draw()


def test_the_gallery_shows_words_at_every_step(run):
    found = gallery(run.store, run.settings[0], room=100)
    assert found.steps == ["step 0", "step 5", "step 10", "end"]
    best = run.settings[0].best
    own = best[(best["defense"] == MINE) & (best["index"] == 3)]
    column = [each.title for each in found.columns].index("text 3")
    (film,) = next(row for row in found.rows if row.defense == MINE).cells[column]
    trace = run.store.traces(own["key"])[own["key"].iloc[0]]
    frames = [trace.snapshots[0][0], trace.snapshots[5][0], trace.snapshots[10][0], trace.reconstruction[0]]
    assert found.columns[column].original == " ".join(words_of(sentence(3)))
    assert film.frames == [marked(each, sentence(3)) for each in frames]


def test_the_page_of_texts_has_words_and_no_pictures_of_them(run, page):
    assert "Without a defense, 10 of 12 texts leak (55% to 95%)." in page
    assert "A leak is a reconstruction with ROUGE-L 0.9 or more; artifacts begin at 0.3." in page
    for heading in ("ROUGE-L", "Words leak", "Token accuracy", "Recall of words"):
        assert f'<button type="button">{heading}</button>' in page
    first = " ".join(words_of(sentence(0)))
    assert f"<dt>original</dt><dd>{first}</dd>" in page
    assert page.count("<mark>") > 100
    assert page.count('src="data:image/png') == 2  # the figures
    body = re.sub(r"<style>.*?</style>|<script>.*?</script>|data:image/png;base64,\S+", "", page, flags=re.S)
    body = re.sub(r"<mark>.*?</mark>|LOSS_IMAGE_DISAGREE|scikit-image", "", body)  # random words, names
    assert not re.search(r"\bimages?\b|SSIM|PSNR", body)
    line = run.settings[0].board.set_index("defense").loc[PRUNE]
    assert f'data-value="{line["rouge_l"]}"' in page
    assert f'data-value="{line["words_leak"]}"' in page


def test_pieces_that_look_like_markup_are_text(tmp_path, monkeypatch):
    monkeypatch.setattr("made_up.garbled", lambda *_about: "[CLS] <b> & [SEP]")
    made = store(tmp_path / "run", text_table(("none", 0, 0, 0.1, 0.95)))
    assert "<mark>&lt;b&gt;</mark> <mark>&amp;</mark>" in write_page(Run(made), []).read_text()


UPDATE = Update(
    round=1, client="a", images=2, defense="none", attack="rows", reason="", of_norm=1e-9, labels=[1, 0],
    ssim=0.95, verdict="leak", rebuilt=["[CLS] we ##a [SEP]", "[CLS] may go [SEP]"],
    originals=["[CLS] we [SEP]", "[CLS] may stay [SEP]"],
)  # fmt: skip


def test_recorded_updates_of_texts_are_words(tmp_path):
    (path,) = write_pictures([UPDATE], tmp_path)
    assert (path.name, path.read_text()) == ("round-1-a.txt", "we\nwea\nmay stay\nmay go\n")
    assert next(sentences([UPDATE], TEXT_SCALE)).startswith("1 of 1 update was rebuilt (ROUGE-L 0.9")
    unknown = replace(UPDATE, verdict="", ssim=np.nan, originals=[])
    assert "the texts that an attack found match" in next(sentences([unknown], TEXT_SCALE))
    heads = [str(column.header) for column in updates_table([UPDATE], TEXT_SCALE).columns]
    assert heads == ["update", "texts", "closest", "of norm", "labels", "ROUGE-L", "verdict"]
    (path,) = write_pictures([unknown], tmp_path)
    assert path.read_text() == "wea\nmay go\n"


def test_the_page_shows_recorded_texts_beside_the_true_ones(tmp_path):
    run = Run(store(tmp_path / "run", text_table(("none", 0, 0, 0.1, 0.95))))
    run.__dict__["updates"] = [UPDATE, replace(UPDATE, client="b", verdict="", ssim=np.nan, originals=[])]
    run.manifest["recorded"] = []
    known, unknown = recorded_section(run).updates
    assert [[word.right for word in text] for text in known.rebuilt] == [[False], [True, False]]
    assert [[word.right for word in text] for text in unknown.rebuilt] == [[True], [True, True]]
    page = write_page(run, []).read_text()
    assert "<p><mark>wea</mark></p><p>may <mark>go</mark></p>" in page
    assert "<p>we</p><p>may stay</p>" in page
    assert '<th scope="col">Texts</th>' in page
    assert '<th scope="col">ROUGE-L</th><th scope="col">Verdict</th>' in page


def test_along_the_settings_of_a_protocol_texts_have_their_score():
    parts = [
        text_table(*(("none", index, 0, 0.1, 0.3 * steps) for index in range(3))).assign(
            protocol=f"fedavg(local_steps={steps})", protocol_name="fedavg",
            protocol_settings=f'{{"local_steps": {steps}}}',
        )
        for steps in (1, 2, 3)
    ]  # fmt: skip
    found = along_protocols(settings(pd.concat(parts, ignore_index=True), TEXT_SCALE))
    lines = found["local_steps"]
    assert list(lines["rouge_l"]) == pytest.approx([0.3, 0.6, 0.9])


def test_list_and_doctor_tell_texts_from_images(capsys, tmp_path):
    assert leakbench.main(["list"]) == 0
    text = capsys.readouterr().out
    images, texts = (
        text.partition("\ndatasets of images\n")[2].partition("\nmodels\n")[0].split("\ndatasets of texts\n")
    )
    assert "\n  recorded " in images
    assert "\n  recorded " in texts  # its settings decide
    for dataset in set(DATASETS) - {Recorded}:
        assert (f"\n  {dataset.name} " in f"\n{texts}") == (dataset.modality is TEXTS)
        assert (f"\n  {dataset.name} " in f"\n{images}") == (dataset.modality is not TEXTS)
    assert "text:FILE" in texts
    assert "folder:PATH" in images
    assert leakbench.main(["doctor", "--data-root", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "found   sotu-sample: 200 texts of at most 42 tokens, 2 classes\n" in text
    assert "expected a value" not in text


def test_what_a_text_takes_on_disk_is_at_least_what_is_stored():
    source = open_dataset(DATASETS.parse("sotu-sample"), Path())
    longest = max(len(sentence(index).encode()) for index in range(200))
    assert longest <= source.stored_bytes <= 20 * longest
    assert open_dataset(DATASETS.parse("mnist-sample"), Path()).stored_bytes == 2 * 28 * 28


def test_progress_of_a_sweep_of_texts_tells_of_their_score(run):
    sweep, problems = read_sweep(run.store.folder.with_name("made_up.yaml"))
    assert not problems
    todo = plan(sweep, {})
    assert todo.measure == "rouge_l"
    assert todo.summary([0.2, 0.4, 0.9]) == "median ROUGE-L of all starts 0.400"


def test_what_was_not_stored_of_a_text_is_run_again(run, tmp_path):
    """As of images: a row whose true text was lost is forgotten."""
    made = store(tmp_path / "run", text_table(*(("none", index, 0, 0.1, 0.95) for index in range(2))))
    for path in (made.folder / "originals.parquet").rglob("*.parquet"):
        path.unlink()
    again = Store.existing(made.folder)
    with again.lock():
        assert again.rows().empty


def test_authors_of_attacks_on_texts_find_what_they_need():
    assert leakbench.TEXTS is TEXTS
    assert issubclass(leakbench.Texts, type(open_dataset(DATASETS.parse("sotu-sample"), Path())))
    assert leakbench.IMAGES.name == "images"
