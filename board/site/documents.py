"""Documents in Markdown as pages of the site, and what a search looks through."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from leakbench.core.errors import UserError


@dataclass(frozen=True)
class Section:
    """A heading and the text below it."""

    title: str
    anchor: str
    text: str


@dataclass(frozen=True)
class Document:
    """A page of the documentation."""

    name: str  # of its file, without the suffix
    title: str
    html: str
    sections: list[Section]


def read_documents(paths: Sequence[Path], pictures: Path) -> list[Document]:
    """The documents of some files and folders; the pictures that they show are copied.

    Args:
        paths: Markdown files, or folders of them.
        pictures: a folder for their pictures, next to which the pages will lie.

    Raises:
        UserError: there is no such file, or two have the same name.
        OSError: a picture cannot be copied.
    """
    files = [each for path in paths for each in _files(path)]
    pages = {file.resolve(): f"{file.stem}.html" for file in files}
    if len(set(pages.values())) < len(pages):
        names = [file.name for file in files]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"documents: expected one file of each name, found several {twice}")
    return [_document(file, pages, pictures) for file in files]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.md"))
    if not path.is_file():
        raise UserError(f"{path}: expected a Markdown file or a folder of them, found nothing")
    return [path]


def _document(file: Path, pages: Mapping[Path, str], pictures: Path) -> Document:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(file.read_text(encoding="utf-8"))
    _name_headings(tokens)
    for token in _flat(tokens):
        if token.type == "image":
            token.attrs["src"] = _copied(file, str(token.attrs["src"]), pictures)
        elif token.type == "link_open":
            _mend_link(token, file, pages)
    sections = list(_sections(tokens))
    title = sections[0].title if sections else file.stem
    html = markdown.renderer.render(tokens, markdown.options, {})
    html = html.replace("<table>", '<div class="wide" tabindex="0"><table>').replace(
        "</table>", "</table></div>"
    )
    return Document(file.stem, title, html, sections)


def _flat(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _flat(token.children or [])


def _name_headings(tokens: Sequence[Token]) -> None:
    """Give each heading the anchor that GitHub gives it."""
    for token, content in pairwise(tokens):
        if token.type == "heading_open":
            token.attrs["id"] = anchor_of(_plain(content))


def anchor_of(title: str) -> str:
    """`What came out?` as `what-came-out`."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _mend_link(token: Token, file: Path, pages: Mapping[Path, str]) -> None:
    """A link to another document leads to its page; one to any other file leads nowhere here."""
    target = str(token.attrs["href"])
    if re.match(r"[a-z]+:|#", target):
        return
    path, _, anchor = target.partition("#")
    page = pages.get((file.parent / path).resolve())
    if page:
        token.attrs["href"] = page + (f"#{anchor}" if anchor else "")
    else:
        del token.attrs["href"]
        token.attrs["title"] = f"in the repository: {os.path.normpath(file.parent.name + '/' + path)}"


def _copied(file: Path, source: str, pictures: Path) -> str:
    """Copy a picture; its address from the page."""
    path = file.parent / source
    if not path.is_file():
        raise UserError(f"{file}: expected the picture {source}, found no such file")
    pictures.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, pictures / path.name)
    return f"{pictures.name}/{path.name}"


def _sections(tokens: Sequence[Token]) -> Iterator[Section]:
    title, anchor, words = "", "", list[str]()
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            if title:
                yield Section(title, anchor, " ".join(words))
            title, anchor, words = _plain(tokens[number + 1]), str(token.attrs["id"]), []
        elif token.type in ("inline", "fence", "code_block") and tokens[number - 1].type != "heading_open":
            words.append(_plain(token))
    if title:
        yield Section(title, anchor, " ".join(words))


def _plain(token: Token) -> str:
    """The text of a token without its markup."""
    if token.children is None:
        return token.content
    return "".join(" " if each.type.endswith("break") else each.content for each in token.children)
