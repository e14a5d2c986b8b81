"""RUN/report.html: one file with all results of a run, for readers without access to it."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from leakbench.bench.modalities import TEXTS
from leakbench.reports.comparison import RULE
from leakbench.reports.figures import Drawn
from leakbench.reports.flags import MEANINGS
from leakbench.reports.names import short_names
from leakbench.reports.page.content import sections
from leakbench.reports.page.recorded import recorded_section
from leakbench.reports.run import Run
from leakbench.reports.selection import with_result
from leakbench.reports.utility import epsilon_caption, epsilon_text

MEDIANS = {
    "psnr": "median, in dB",
    "mse": "median, for pixels in [0, 1]",
}  # of others nothing


def write_page(run: Run, drawn: Sequence[Drawn]) -> Path:
    """Write the page of a run, a single file that needs no other.

    Args:
        run: the run to show.
        drawn: its figures, as `write_figures` returns them.

    Raises:
        OSError: the file cannot be written.
    """
    names = short_names(run.rows["defense"])
    environment = Environment(
        loader=PackageLoader("leakbench.reports.page", "template"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    modality = run.scale.modality
    environment.filters["said"] = modality.said
    page = environment.get_template("page.html").render(
        name=run.store.folder.resolve().name,
        manifest=run.manifest,
        recorded=recorded_section(run),
        sections=list(sections(run, drawn, names)),
        names=names,
        meanings=MEANINGS,
        rule=RULE,
        epsilon=epsilon_caption().removeprefix("epsilon: "),
        epsilon_text=epsilon_text,
        trials=len(run.rows),
        failed=len(run.rows) - len(with_result(run.rows)),
        scale=run.scale,
        modality=modality,
        texts=modality is TEXTS,
        partial=[
            (_begun(each.title), f"share of {modality.name} of which {each.meaning}")
            for each in modality.partial
        ],
        medians=[
            (_begun(heading), MEDIANS.get(column, "median over the images"))
            for column, heading in list(modality.headings.items())[1:]
        ],
    )
    path = run.store.folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _begun(heading: str) -> str:
    return heading[0].upper() + heading[1:]
