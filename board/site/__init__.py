"""The leaderboard as a static site: one folder, which needs no server."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

from leakbench.bench.verdicts import Scale
from leakbench.board.benchmark import Benchmark
from leakbench.board.entry import Entry
from leakbench.board.lines import contenders
from leakbench.board.site.chart import chart
from leakbench.board.site.documents import Document, read_documents
from leakbench.board.site.overview import overview
from leakbench.board.site.profile import Profile, profiles
from leakbench.reports.flags import MEANINGS
from leakbench.reports.utility import epsilon_text

READERS = {  # the document that each kind of reader begins with: its name and the link to it
    "FOR_DEFENSE_AUTHORS": "I have a defense",
    "FOR_ATTACK_AUTHORS": "I have an attack",
    "FOR_FEDERATIONS": "I run a federation",
}


def write_site(
    entries: Sequence[Entry], benchmark: Benchmark, documents: Sequence[Path], folder: Path, data_root: Path
) -> Path:
    """Write the site of some entries; returns its first page.

    Args:
        entries: all of that protocol.
        benchmark: the protocol.
        documents: Markdown files, or folders of them.
        folder: of the site; files of the same names are overwritten.
        data_root: folder of the datasets that are not bundled.

    Raises:
        UserError: a document cannot be read.
        OSError: a file cannot be written.
    """
    for each in ("defenses", "docs"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    pages = read_documents(documents, folder / "docs/images")
    known = profiles(contenders(entries), benchmark, data_root)
    shown = overview(benchmark, known)
    names = {page.name for page in pages}
    readers = {name: text for name, text in READERS.items() if name in names}
    environment = _environment(readers=readers, documents=pages, benchmark=benchmark)

    def write(template: str, path: str, **values: Any) -> None:
        root = "../" * path.count("/")
        text = environment.get_template(template).render(root=root, path=path, **values)
        (folder / path).write_text(text, encoding="utf-8")

    described = dict(_described(benchmark))
    write("index.html", "index.html", shown=shown, chart=chart(shown.lines), described=described, names=names)
    for profile in known:
        write("defense.html", f"defenses/{profile.slug}.html", profile=profile, line=shown.line(profile.slug))
    for page in pages:
        write("document.html", f"docs/{page.name}.html", page=page)
    write("site.css", "style.css")
    write("site.js", "site.js")
    index = json.dumps(list(_searchable(known, pages)), ensure_ascii=False)
    (folder / "search-index.js").write_text(f"const PAGES = {index};\n", encoding="utf-8")
    return folder / "index.html"


def _environment(**known: Any) -> Environment:
    own = PackageLoader("leakbench.board.site", "template")
    environment = Environment(
        loader=ChoiceLoader([own, PackageLoader("leakbench.reports.page", "template")]),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= known | {"epsilon_text": epsilon_text, "meanings": MEANINGS, "scale": Scale()}
    return environment


def _described(benchmark: Benchmark) -> Iterator[tuple[str, str]]:
    """Each part of the protocol in a line."""
    for name, part in benchmark.parts.items():
        named = [*part["datasets"], *part["models"], *part.get("protocols", ())]
        attacks = f"suite {part['suite']}" if "suite" in part else ", ".join(map(_shown, part["attacks"]))
        draws = [f"weights {part['model_seeds']}"] if "model_seeds" in part else []
        yield name, " · ".join([*map(_shown, named), *draws, attacks])


def _shown(named: Any) -> str:
    """What a sweep file names: a text, or `{name: ..., setting: ...}`."""
    if isinstance(named, str):
        return named
    settings = ", ".join(f"{name}={value}" for name, value in named.items() if name != "name")
    return f"{named['name']}({settings})"


def _searchable(known: Sequence[Profile], pages: Sequence[Document]) -> Any:
    """{title, page, anchor, text} of everything that can be found."""
    for each in known:
        yield {"title": each.short, "page": "", "url": f"defenses/{each.slug}.html", "text": each.paper}
    for page in pages:
        for section in page.sections:
            found = asdict(section)
            url = f"docs/{page.name}.html#{found.pop('anchor')}"
            yield {**found, "page": page.title, "url": url}
