"""The cells of a CSV file as the text they are."""

import csv
import re
from pathlib import Path
from typing import Any

from deepgen.checks import problem

SEPARATORS = (";", "\t", "|", ",")


def separated_by_tabs(path: Path) -> bool:
    """Whether the ending says so."""
    return ".tsv" in "".join(path.suffixes).lower()


def compressed(path: Path) -> bool:
    """Whether the ending says so."""
    return path.suffix.lower() == ".gz"


def kind_of_table(path: Path) -> str:
    """ ".csv" or ".parquet", whichever of the two the ending stands for.

    Raises:
        ValueError: another ending.
    """
    suffixes = "".join(path.suffixes).lower()
    for endings, kind in (((".csv", ".csv.gz", ".tsv", ".tsv.gz"), ".csv"), ((".parquet", ".pq"), ".parquet")):
        if suffixes.endswith(endings):
            return kind
    raise problem(
        "table",
        got=f"the path {str(path)!r}",
        expected="an ending .csv, .csv.gz, .tsv or .parquet",
        fix="Convert the file to CSV or Parquet with these endings.",
    )


def refuse_dialect(separator: str | None, decimal: str) -> None:
    """Refuse what cannot stand between two cells, or before the fraction of a number.

    Raises:
        ValueError: naming the argument.
    """
    if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
        raise problem(
            "separator",
            got=repr(separator),
            expected="one character, such as ';'",
            fix="Pass what stands between cells.",
        )
    if decimal not in (".", ",") or decimal == separator:
        raise problem(
            "decimal",
            got=f"{decimal!r} beside the separator {separator!r}",
            expected="'.' or ',', and another character between cells",
            fix="Leave it out where numbers are written 1.5.",
        )


def read_cells(path: Path, separator: str | None) -> tuple[list[str], list[list[str]]]:
    """The header and the cells of a CSV, blanks as "", every row as long as the header.

    Args:
        path: the file.
        separator: what stands between two cells; None for a tab or a comma, as the ending says.

    Returns:
        The header, and the rows.

    Raises:
        ValueError: an empty file, text that is not UTF-8 or has other separators, names that stand twice, or a row with
            more or fewer cells than the header.
    """
    import gzip

    between = separator or ("\t" if separated_by_tabs(path) else ",")
    opener: Any = gzip.open if compressed(path) else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=between)
            lines = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise problem(
            f"table {str(path)!r}",
            got=f"bytes that are not UTF-8 ({error.reason})",
            expected="UTF-8 text",
            fix="Convert it.",
        ) from error
    filled = [(number, row) for number, row in lines if row]
    if not filled or not any(cell.strip() for cell in filled[0][1]):
        raise problem(f"table {str(path)!r}", got="an empty file", expected="a header and rows", fix="Check the file.")
    header = [cell.strip() for cell in filled[0][1]]
    if separator is None and len(header) == 1:
        _refuse_other_separators(path, header[0], between, filled[1:])
    # In a table of one column an empty line is a missing cell.
    body = [(number, row or [""]) for number, row in lines[lines.index(filled[0]) + 1 :] if row or len(header) == 1]
    if not body:
        raise problem(
            f"table {str(path)!r}", got="a header and no rows", expected="at least one row", fix="Check the file."
        )
    double = sorted({name for name in header if header.count(name) > 1})
    if double:
        raise problem(
            f"table {str(path)!r}",
            got=f"the column names {double} twice",
            expected="distinct names",
            fix="Rename them.",
        )
    for number, row in body:
        if len(row) != len(header):
            raise problem(
                f"table {str(path)!r}, line {number}",
                got=f"{len(row)} cells",
                expected=f"{len(header)}, as in the header",
                fix=f"Mend this line: a cell that holds {between!r} needs quotes. Or set separator.",
            )
    return header, [[cell if cell.strip() else "" for cell in row] for _, row in body]


def _refuse_other_separators(path: Path, header: str, between: str, rows: list[tuple[int, list[str]]]) -> None:
    """Refuse a file whose only name holds what stands between the cells of other files."""
    other = max(SEPARATORS, key=header.count)
    if other == between or other not in header:
        return
    cells = [cell for _, row in rows for cell in between.join(row).split(other)]
    commas = other != "," and any(re.fullmatch(r"\s*[-+]?\d+,\d+\s*", cell) for cell in cells)
    raise problem(
        f"table {str(path)!r}",
        got=f"a single column named {header!r}",
        expected=f"{between!r} between its cells; here it is {other!r}"
        + (", and numbers have decimal commas" if commas else ""),
        fix=f"Set separator={other!r}" + (" and decimal=','." if commas else "."),
    )
