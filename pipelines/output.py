"""How rows reach a person or a program: a table on a terminal, or CSV, JSON and Parquet. Holds no query."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import polars as pl
from rich.console import Console
from rich.table import Table

from data_contracts.errors import UsageError

Format = Literal["table", "csv", "json", "parquet"]
SHOWN_ROWS = 200          # more rows scroll the terminal away; files and other formats carry all
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")


def plain(value: Any) -> Any:
    """A value as JSON carries it: dates as ISO text, decimals as numbers."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 2**53 else float(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def safe_cell(value: Any) -> Any:
    """A CSV cell that no spreadsheet runs as a formula: text that starts like one gets an apostrophe before it."""
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA_STARTS):
        return "'" + value
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(plain(value), ensure_ascii=False)
    return value.isoformat() if isinstance(value, (date, datetime)) else value


def to_csv(frame: pl.DataFrame) -> str:
    """RFC 4180 text with a header row, cells made safe for spreadsheets."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\r\n")
    writer.writerow(frame.columns)
    writer.writerows([safe_cell(v) for v in row] for row in frame.iter_rows())
    return target.getvalue()


def to_json(frame: pl.DataFrame) -> str:
    """An array of row objects."""
    return json.dumps([{k: plain(v) for k, v in row.items()} for row in frame.iter_rows(named=True)], ensure_ascii=False, indent=1)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (float, Decimal)):
        number = float(value)
        return f"{number:,.2f}" if abs(number) >= 10 else f"{number:.4g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, (dict, list)):
        return json.dumps(plain(value), ensure_ascii=False)
    return "".join(c if c.isprintable() else "�" for c in str(value))


def emit(frame: pl.DataFrame, form: str = "table", output: Path | None = None, title: str | None = None, notes: Sequence[str] = ()) -> None:
    """Print rows, or write them to `output`. Notes (units, dates, what was left out) go to standard error, so that pipes stay clean."""
    if form == "parquet":
        if output is None:
            raise UsageError("parquet needs a file", field="--output", remedy="Add --output FILE.")
        frame.write_parquet(output)
    elif form in ("csv", "json"):
        text = to_csv(frame) if form == "csv" else to_json(frame) + "\n"
        if output is None:
            sys.stdout.write(text)
        else:
            output.write_text(text, encoding="utf-8", newline="")
    elif form == "table":
        _print_table(frame, title, output)
    else:
        raise UsageError(f"format {form!r} is not known", field="--format", remedy="Use table, csv, json or parquet.")
    if output is not None:
        print(f"{frame.height:,} rows written to {output}", file=sys.stderr)
    for note in notes:
        print(note, file=sys.stderr)


def _print_table(frame: pl.DataFrame, title: str | None, output: Path | None) -> None:
    table = Table(title=title, title_justify="left", header_style="bold")
    for name, kind in zip(frame.columns, frame.dtypes, strict=True):
        table.add_column(name, justify="right" if kind.is_numeric() else "left", overflow="fold")
    for row in frame.head(SHOWN_ROWS).iter_rows():
        table.add_row(*[_shown(v) for v in row])
    if output is None:
        _render(Console(markup=False, width=None if sys.stdout.isatty() else 160), table, frame)
        return
    with open(output, "w", encoding="utf-8") as file:
        _render(Console(file=file, markup=False, width=160), table, frame)


def _render(console: Console, table: Table, frame: pl.DataFrame) -> None:
    console.print(table if frame.width else "(no columns)")
    if frame.height == 0:
        console.print("(no rows)")
    if frame.height > SHOWN_ROWS:
        console.print(f"… {frame.height - SHOWN_ROWS:,} more rows; use --format csv --output FILE for all.")
