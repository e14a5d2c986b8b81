"""`--where`: a condition on the columns of a table, in a small part of Python."""

import ast
from collections.abc import Collection, Iterator

import pandas as pd
from pandas.api.types import is_bool_dtype

from leakbench.core.errors import UserError, one_line
from leakbench.core.foreign import ForeignError, foreign
from leakbench.core.registry import unknown_text

ALLOWED = (
    ast.Expression, ast.Name, ast.Load, ast.List, ast.Tuple,
    ast.BoolOp, ast.And, ast.Or, ast.BitAnd, ast.BitOr, ast.UnaryOp, ast.Not, ast.Invert, ast.USub, ast.UAdd,
    ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div,
)  # fmt: skip


def where(rows: pd.DataFrame, condition: str) -> pd.DataFrame:
    """The rows that fulfil a condition such as `ssim > 0.5 and defense in ["int8", "none"]`.

    Raises:
        UserError: it is not a condition, or names an unknown column.
    """
    problems = list(_problems(condition, [str(name) for name in rows.columns]))
    if problems:
        raise UserError(*(f"--where: {problem}" for problem in problems))
    try:
        with foreign():  # pandas raises many kinds of errors, for example if text is compared with a number
            fulfilled = rows.eval(condition, engine="python")
    except ForeignError as error:
        raise UserError(f"--where: {condition!r}: {error}") from error
    if not (isinstance(fulfilled, pd.Series) and is_bool_dtype(fulfilled)):
        raise UserError(f"--where: expected a condition such as 'ssim > 0.5', got {condition!r}")
    return rows[fulfilled.fillna(False)]


def _problems(condition: str, columns: Collection[str]) -> Iterator[str]:
    """The parts that are not a comparison, `and`, `or`, `not`, arithmetic, a list, a value or a column."""
    try:
        tree = ast.parse(condition.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else one_line(error)
        yield f"expected a condition such as 'ssim > 0.5', got {condition!r}: {reason}"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in columns:
            yield unknown_text("column", node.id, columns)
        elif isinstance(node, ast.Constant):
            if type(node.value) not in (str, int, float, bool):
                yield f"expected text, numbers, True or False as values, got {ast.unparse(node)}"
        elif not isinstance(node, ALLOWED):
            found = ast.unparse(node) if isinstance(node, ast.expr) else condition
            yield f"expected comparisons, and, or, not, + - * / and lists, got {found!r}"
            return
