"""A table as a terminal shows it."""

from collections.abc import Sequence

from rich.box import Box
from rich.table import Table

# only a line under the column headings: defenses have long names, and terminals have 80 columns
HEADS = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def plain_table(title: str | None, columns: Sequence[str], first: str = "defense") -> Table:
    """A table for the terminal, its first column for names."""
    table = Table(title=title, title_justify="left", box=HEADS, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def put_below(table: Table, text: str) -> None:
    """Put text below a table, after a blank line, because the table has no edge."""
    table.caption, table.caption_justify = f"\n{text}", "left"
