"""Tables and downloads. A download is written here, so that no cell runs as a formula in a spreadsheet."""

from __future__ import annotations

import csv
import io
from datetime import date, datetime
from typing import Any

import polars as pl
import streamlit as st

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")


def table(rows: pl.DataFrame, labels: dict[str, str] | None = None, **columns: Any) -> None:
    """Rows as a table; `columns` are Streamlit column configurations by name."""
    config = {name: st.column_config.Column(label) for name, label in (labels or {}).items()} | columns
    st.dataframe(rows.to_pandas(), hide_index=True, width="stretch", column_config=config)


def _safe(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA_STARTS):
        return "'" + value
    return value.isoformat() if isinstance(value, (date, datetime)) else value


def as_csv(rows: pl.DataFrame) -> bytes:
    """RFC 4180 with a byte order mark, so that spreadsheets read names right."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\r\n")
    writer.writerow(rows.columns)
    writer.writerows([_safe(v) for v in row] for row in rows.iter_rows())
    return b"\xef\xbb\xbf" + target.getvalue().encode("utf-8")


def download(label: str, rows: pl.DataFrame, name: str, snapshot: str) -> None:
    """A button that saves rows as CSV; the file name carries the snapshot."""
    st.download_button(label, as_csv(rows), file_name=f"{name}_{snapshot}.csv", mime="text/csv", icon=":material/download:")
