"""Tables and downloads. A download is written here, so that no cell runs as a formula in a spreadsheet.

Belongs here: how a column is named, aligned and formatted. Does not belong here: which rows (queries) and what they mean.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
import streamlit as st

from dashboards.components import format as shown
from dashboards.components.text import safe

PLAIN_ROWS = 25    # up to here a table is drawn whole, as text that can be read on a phone and copied; above it scrolls and sorts
_NUMBERS = ("change", "measured", "count", "share", "currency", "decimal", "days", "hours", "seconds", "ratio", "ratio3")
_DATES = ("date", "month", "instant")
# A spreadsheet runs a cell that begins so; the wide forms are what some of them turn into the narrow ones.
_FORMULA = r"^\s*[=+\-@\t\r\n\x00＝＋－＠]|^[\t\r\n]"


@dataclass(frozen=True)
class Column:
    """How a column is shown: its heading in plain words and its kind (`text`, `words`, `count`, `share`, `currency`, `decimal`, `ratio3` (a measure with three digits), `days`, `seconds`, `date`, `month`, `instant`, `flag`; `change` is a share with its sign, `measured` a value in the unit that the row's `unit` names)."""

    label: str
    kind: str = "text"


def table(rows: pl.DataFrame, columns: Mapping[str, Column], currency: str = "") -> None:
    """The named columns of the rows, in the order of `columns`; columns the rows do not have are left out."""
    kept = {name: column for name, column in columns.items() if name in rows.columns}
    if rows.height <= PLAIN_ROWS:
        _plain(rows, kept, currency)
    else:
        _scrolling(rows.select(list(kept)), kept, currency)


def _cell(value: Any, kind: str, currency: str) -> str:
    if value is None or value == "":
        return shown.NOTHING
    if kind == "ratio3":
        return f"{float(value):,.3f}"
    if kind == "decimal":
        return f"{float(value):,.2f}"
    if kind == "text":
        return ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)
    if kind == "words":
        return shown.words(str(value))
    if kind == "change":
        return f"{'+' if value > 0 else ''}{shown.number(value, 'share')}"
    if kind == "month":
        return shown.month(value)
    if kind == "date":
        return shown.day(value)
    if kind == "instant":
        return shown.instant(value).removesuffix(" UTC")
    if kind == "flag":
        return "yes" if value else "no"
    return shown.seconds(value) if kind == "seconds" else shown.number(value, kind, currency)


def _kind(column: Column, row: Mapping[str, Any]) -> str:
    return row.get("unit") or "decimal" if column.kind == "measured" else column.kind


def _plain(rows: pl.DataFrame, columns: Mapping[str, Column], currency: str) -> None:
    classes = {name: ' class="r-n"' if column.kind in _NUMBERS else ' class="r-d"' if column.kind in _DATES else "" for name, column in columns.items()}
    head = "".join(f'<th scope="col"{classes[name]}>{safe(column.label)}</th>' for name, column in columns.items())
    body = "".join("<tr>" + "".join(f"<td{classes[name]}>{safe(_cell(row[name], _kind(column, row), currency))}</td>" for name, column in columns.items()) + "</tr>"
                   for row in rows.iter_rows(named=True))
    st.html(f'<div class="r-scroll" tabindex="0"><table class="r-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def _scrolling(rows: pl.DataFrame, columns: Mapping[str, Column], currency: str) -> None:
    kinds = st.column_config
    config: dict[str, Any] = {}
    for name, column in columns.items():
        if column.kind in ("count", "measured", "decimal", "days", "hours", "ratio", "ratio3", "seconds"):
            config[name] = kinds.NumberColumn(column.label, format="localized")
        elif column.kind in ("share", "change"):
            config[name] = kinds.NumberColumn(column.label, format="percent")
        elif column.kind == "currency":
            config[name] = kinds.NumberColumn(f"{column.label} ({currency})" if currency else column.label, format="accounting")
        elif column.kind in ("date", "month"):
            config[name] = kinds.DateColumn(column.label, format="YYYY-MM-DD")
        elif column.kind == "instant":
            config[name] = kinds.DatetimeColumn(column.label, format="YYYY-MM-DD HH:mm")
        elif column.kind == "flag":
            config[name] = kinds.CheckboxColumn(column.label)
        else:
            config[name] = kinds.TextColumn(column.label)
    numbers = [pl.col(name).cast(pl.Float64).round(2) for name, column in columns.items() if column.kind in ("currency", "measured", "decimal", "days", "hours", "ratio", "seconds")]
    lists = [pl.col(name).list.join(", ") for name, kind in rows.schema.items() if isinstance(kind, pl.List)]
    spoken = [pl.col(name).str.replace_all("_", " ") for name, column in columns.items() if column.kind == "words"]
    st.dataframe(rows.with_columns(*numbers, *lists, *spoken).to_arrow(), hide_index=True, width="stretch", height=38 * 12, column_config=config, placeholder=shown.NOTHING)


def as_csv(rows: pl.DataFrame) -> bytes:
    """RFC 4180 with a byte order mark, so that spreadsheets read names right. Text that a spreadsheet would run gets a leading apostrophe."""
    lists = [pl.col(name).cast(pl.List(pl.String)).list.join("; ") for name, kind in rows.schema.items() if isinstance(kind, pl.List)]
    plain = rows.with_columns(lists)
    texts = [name for name, kind in plain.schema.items() if kind in (pl.String, pl.Categorical) or isinstance(kind, pl.Enum)]
    guarded = plain.with_columns(pl.when(pl.col(name).cast(pl.String).str.contains(_FORMULA)).then(pl.lit("'") + pl.col(name).cast(pl.String)).otherwise(pl.col(name).cast(pl.String)).alias(name) for name in texts)
    target = io.BytesIO()
    guarded.write_csv(target, include_bom=True, line_terminator="\r\n", datetime_format="%Y-%m-%dT%H:%M:%S")
    return target.getvalue()


def download(label: str, rows: pl.DataFrame | Callable[[], pl.DataFrame], name: str, snapshot: str) -> None:
    """A button that saves rows as CSV; the file name carries the snapshot. Rows given as a function are read when the button is pressed."""
    st.download_button(label, lambda: as_csv(rows() if callable(rows) else rows), file_name=f"{name}_{snapshot}.csv", mime="text/csv", icon=":material/download:", on_click="ignore", key=f"download_{name}")

