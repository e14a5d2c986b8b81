"""Bundled texts are the real ones, a file's lines are read as written, and word pieces lose no word."""

import json
import string
import sys
from collections import Counter
from gzip import decompress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leakbench.bench.datasets import DATASETS, open_dataset
from leakbench.bench.datasets.texts import embedded_sentences
from leakbench.bench.embedded.rebuild import HERE, SENTENCE, checksum, sentences_of
from leakbench.bench.vocabulary import SPECIAL, vocabulary_of
from leakbench.core.configured import SettingError

PIECES = (*SPECIAL, "we", "the", "people", "##s", "a", "b", ".")


@pytest.fixture
def text(tmp_path):
    """The dataset of a file with this content."""

    def dataset(content, **settings):
        file = tmp_path / "mine.txt"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return DATASETS.build(f"text:{file}", settings)

    return dataset


def sotu(name):
    return open_dataset(DATASETS.parse(name), Path())


# --- the bundled sentences -----------------------------------------------------------------------


@pytest.mark.parametrize("file", ["bert_vocabulary.txt.gz", "sotu.csv.gz"])
def test_embedded_files_are_what_the_checksums_say(file):
    expected = json.loads((HERE / "checksums.json").read_text())
    assert checksum(decompress((HERE / file).read_bytes())) == expected[file.partition(".")[0]]


@pytest.mark.parametrize(("name", "length"), [("sotu-sample", 200), ("sotu-2k", 2000)])
def test_sentences_have_10_to_40_pieces_and_none_is_unknown(name, length):
    texts = sotu(name)
    assert (texts.shape, texts.classes, len(texts)) == ((42, 30522), 2, length)  # [CLS] and [SEP] in addition
    unknown = texts.vocabulary.ids["[UNK]"]
    for index in range(length):
        ids, _ = texts[index]
        assert ids.dtype == torch.int64
        assert 12 <= len(ids) <= 42
        assert unknown not in ids


def test_as_many_sentences_from_before_1900_as_since():
    labels = [sotu("sotu-2k")[index][1] for index in range(2000)]
    assert labels == [0, 1] * 1000
    assert [each.year >= 1900 for each in embedded_sentences()] == labels


def test_no_sentence_is_there_twice_and_every_address_is_there():
    sentences = embedded_sentences()
    assert len({each.text.lower() for each in sentences}) == 2000
    addresses = Counter((each.year, each.name) for each in sentences)
    assert len(addresses) == 233
    assert set(addresses.values()) == {8, 9, 10}
    assert len({(each.year, each.name) for each in sentences[:200]}) == 200
    assert {each.year for each in sentences} == set(range(1790, 2022)) - {1933}  # when there was none


def test_who_said_the_first_sentences():
    said = [(each.year, each.name) for each in embedded_sentences()[:6]]
    assert said == [
        (1858, "James Buchanan"), (1974, "Richard Nixon"), (1885, "Grover Cleveland"),
        (1911, "William H Taft"), (1860, "James Buchanan"), (1928, "Calvin Coolidge"),
    ]  # fmt: skip
    assert embedded_sentences()[6].text == "The Department of Agriculture has been active in the past year."


def test_the_parties_of_the_first_presidents():
    """Democrats: Buchanan, Cleveland; Republicans: Nixon, Taft, Coolidge; and Fillmore was a Whig."""
    texts = sotu("sotu-sample(label=party)")
    assert texts.classes == 3
    assert [texts[index][1] for index in range(6)] == [0, 1, 0, 1, 0, 1]
    assert (embedded_sentences()[16].name, texts[16][1]) == ("Millard Fillmore", 2)
    parties = Counter((each.party, each.camp) for each in embedded_sentences())
    assert {camp for party, camp in parties if party not in ("Democratic", "Republican")} == {2}
    assert sum(parties.values()) == 2000
    assert len(parties) == 8
    with pytest.raises(SettingError, match="label: expected one of century, party, got 'year'"):
        DATASETS.parse("sotu-2k(label=year)")


def test_words_are_those_of_the_sentence():
    texts = sotu("sotu-sample")
    words = texts.vocabulary.words(texts[0][0].tolist())
    assert " ".join(words) == "but the effects of the revulsion are now slowly but surely passing away ."


def test_shorter_texts_of_a_batch_are_padded_at_their_ends():
    texts = sotu("sotu-sample")
    ids, labels = texts.batch([0, 3, 6])
    lengths = [len(texts[index][0]) for index in (0, 3, 6)]
    assert ids.shape == (3, max(lengths))
    assert len(set(lengths)) == 3
    assert labels.tolist() == [0, 1, 0]
    for row, index, length in zip(ids, (0, 3, 6), lengths, strict=True):
        assert torch.equal(row[:length], texts[index][0])
        assert (row[length:] == texts.vocabulary.pad).all()
        assert texts.vocabulary.words(row.tolist()) == texts.vocabulary.words(row[:length].tolist())


def test_what_is_done_to_one_reading_is_not_in_the_next():
    texts = sotu("sotu-sample")
    texts[5][0].zero_()
    assert texts[5][0].any()


def test_where_sentences_are_cut():
    text = "In 1853 Mr. Everett and J. Q. Adams spoke. Was it well? I think so! THE END It ended."
    cut = list(sentences_of(text))
    assert cut == [
        "In 1853 Mr. Everett and J. Q. Adams spoke.",
        "Was it well?",
        "I think so!",
        "THE END It ended.",
    ]
    assert [bool(SENTENCE.fullmatch(each)) for each in cut] == [False, True, True, False]
    assert list(sentences_of("It was signed by Mr. Jay and by J.")) == ["It was signed by Mr. Jay and by J."]


# --- word pieces ---------------------------------------------------------------------------------


def pieces(text, longest=None):
    vocabulary = vocabulary_of()
    return [vocabulary.pieces[number] for number in vocabulary.encode(text, longest)]


def test_words_are_put_together_of_their_pieces():
    assert pieces("Embeddings!") == ["[CLS]", "em", "##bed", "##ding", "##s", "!", "[SEP]"]
    vocabulary = vocabulary_of()
    ids = [vocabulary.ids[piece] for piece in ("##s", "em", "##bed", "[MASK]", "##ding", "[PAD]")]
    assert vocabulary.words(ids) == ["##s", "embedding"]


def test_letters_of_other_languages():
    assert pieces("Caf\u00e9 \u4e2d\u56fd")[1:-1] == ["cafe", "\u4e2d", "\u56fd"]
    assert pieces("a \U0001f916 b")[1:-1] == ["a", "[UNK]", "b"]
    assert vocabulary_of().words(vocabulary_of().encode("a \U0001f916 b")) == ["a", "[UNK]", "b"]


@pytest.mark.parametrize(
    ("longest", "expected"),
    [
        (3, ["[CLS]", "we", "[SEP]"]),
        (5, ["[CLS]", "we", "the", "people", "[SEP]"]),
        (6, ["[CLS]", "we", "the", "people", ".", "[SEP]"]),
        (99, ["[CLS]", "we", "the", "people", ".", "[SEP]"]),
    ],
)
def test_texts_that_are_longer_are_cut(longest, expected):
    assert pieces("We the people.", longest) == expected


# BERT gives up on words of more than 100 letters
@given(st.lists(st.text(string.ascii_letters, min_size=1, max_size=100), max_size=8))
def test_no_word_of_plain_letters_is_lost(words):
    vocabulary = vocabulary_of()
    ids = vocabulary.encode(" ".join(words))
    assert vocabulary.words(ids) == [word.lower() for word in words]
    assert [ids[0], ids[-1]] == [vocabulary.ids["[CLS]"], vocabulary.ids["[SEP]"]]


@given(st.text(max_size=60), st.integers(3, 20))
def test_any_text_has_ids_of_the_vocabulary_and_no_more_than_are_wanted(text, longest):
    ids = vocabulary_of().encode(text, longest)
    assert 2 <= len(ids) <= longest
    assert all(0 <= number < 30522 for number in ids)


# --- the user's own texts ------------------------------------------------------------------------


def test_a_text_a_line(text):
    texts = text("We the people.\nThe people?").open(Path())
    assert (texts.shape, texts.classes, len(texts)) == ((6, 30522), 2, 2)
    assert texts.vocabulary.words(texts[1][0].tolist()) == ["the", "people", "?"]
    assert [texts[index][1] for index in (0, 1)] == [0, 0]


def test_a_label_and_a_text_a_line(text):
    texts = text("2\tWe the people.\n0\tThe people?\n").open(Path())
    assert (texts.classes, len(texts)) == (3, 2)
    assert texts.batch([0, 1])[1].tolist() == [2, 0]
    assert texts.vocabulary.words(texts[0][0].tolist()) == ["we", "the", "people", "."]
    assert text("0\tWe\n").open(Path()).classes == 2


def test_files_of_other_systems(text):
    """Windows ends lines with two characters, and its Notepad began files with a mark."""
    texts = text(b"\xef\xbb\xbf1\tWe the people.\r\n0\tThe people\r\n").open(Path())
    assert [texts[index][1] for index in (0, 1)] == [1, 0]
    assert texts.vocabulary.words(texts[1][0].tolist()) == ["the", "people"]


def test_texts_are_cut_to_the_longest_that_is_wanted(text):
    texts = text("We the people.\nWe\n", longest=4).open(Path())
    assert texts.longest == 4
    assert texts.vocabulary.words(texts[0][0].tolist()) == ["we", "the"]
    assert text("We\n", longest=64).open(Path()).longest == 3  # of the texts there are


def test_a_vocabulary_of_ones_own(text, write):
    own = write("pieces.txt", "\n".join(PIECES) + "\n")
    texts = text("We the PEOPLES. They\n", vocabulary=str(own)).open(Path())
    assert texts.shape == (8, len(PIECES))
    assert texts[0][0].tolist() == [2, 5, 6, 7, 8, 11, 1, 3]
    assert texts.vocabulary.words(texts[0][0].tolist()) == ["we", "the", "peoples", ".", "[UNK]"]


def test_the_path_of_the_short_form_may_hold_anything(write):
    file = write("my letters (1), old=new.txt", "We\n")
    dataset = DATASETS.parse(f"text:{file}")
    assert dataset.path == str(file)
    assert DATASETS.parse(str(dataset)) == dataset


def test_files_count_by_their_content(text, write):
    own = write("pieces.txt", "\n".join(PIECES))
    plain, first = text("We\n").canonical(), text("We\n", vocabulary=str(own)).canonical()
    again = text("We\n", vocabulary=str(own)).canonical()
    other = text("The people\n", vocabulary=str(own)).canonical()
    write("pieces.txt", "\n".join((*PIECES, "c")))
    changed = text("The people\n", vocabulary=str(own)).canonical()
    assert first == again
    assert len({json.dumps(each) for each in (plain, first, other, changed)}) == 4


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("We\n" * 6 + "\nWe\n", "line 7: expected a text, found an empty line"),
        ("We\n \t\nWe", "line 2: expected a text, found an empty line"),
        ("We\n\u200b\n", "line 2: expected a text, found no word in it"),
        (b"We\n\xc3\xa9\ncaf\xe9\n", "line 3: expected UTF-8, found the byte 0xe9; save it as UTF-8"),
        (b"\xef\xbb\xbfWe\n\xff", "line 2: expected UTF-8, found the byte 0xff; save it as UTF-8"),
        ("", "expected texts, one a line, found none"),
        ("\n\n", "expected texts, one a line, found none"),
        ("1\tWe\nx\tWe", "line 2: expected a whole number as the label before the tab, found 'x'"),
        ("1.5\tWe", "line 1: expected a whole number as the label before the tab, found '1.5'"),
        ("-1\tWe", "line 1: expected a whole number as the label before the tab, found '-1'"),
        ("\tWe", "line 1: expected a whole number as the label before the tab, found ''"),
        (
            "1\tWe\nWe\n",
            "line 2: expected a label and a tab before the text, as in other lines, found no tab",
        ),
        ("1\tWe\n2\t \n", "line 2: expected a text after the label, found none"),
    ],
)
def test_a_file_that_cannot_be_read(text, tmp_path, content, problem):
    with pytest.raises(SettingError) as caught:
        text(content).open(Path())
    assert str(caught.value) == f"path: {tmp_path / 'mine.txt'}: {problem}"


@pytest.mark.parametrize("name", ["text:nowhere.txt", "text:" + 300 * "a", "text:."])
def test_no_file(name):
    with pytest.raises(SettingError, match="path: expected a file of texts, found none at"):
        DATASETS.parse(name)


def test_no_path():
    with pytest.raises(SettingError, match="path: expected a value, got none"):
        DATASETS.parse("text")


@pytest.mark.parametrize("longest", [-1, 1, 2])
def test_no_room_for_a_word(text, longest):
    problem = f"longest: expected a whole number >= 3, or 0 to cut no text, got {longest}"
    with pytest.raises(SettingError, match=problem):
        text("We\n", longest=longest)


def test_a_vocabulary_that_cannot_be_used(text, write, tmp_path):
    with pytest.raises(SettingError, match="vocabulary: expected a file of word pieces, found none at 'no'"):
        text("We\n", vocabulary="no")
    lacking = write("lacking.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nwe\n")
    with pytest.raises(SettingError) as caught:
        text("We\n", vocabulary=str(lacking)).open(Path())
    expected = "expected a vocabulary with [PAD], [UNK], [CLS], [SEP], [MASK], found no [MASK]"
    assert str(caught.value) == f"vocabulary: {lacking}: {expected}"
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff")
    with pytest.raises(
        SettingError, match="binary.txt: expected a file of word pieces, one a line: "
    ) as caught:
        text("We\n", vocabulary=str(binary)).open(Path())
    assert "\n" not in str(caught.value)


def test_without_tokenizers_it_says_what_to_install(text, write, monkeypatch):
    own = write("pieces.txt", "\n".join(PIECES))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(SettingError, match=r"tokenizers for texts: pip install -e '\.\[text\]'") as caught:
        text("We\n", vocabulary=str(own)).open(Path())
    assert "\n" not in str(caught.value)
