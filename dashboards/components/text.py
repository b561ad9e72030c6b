"""Text that came from data. Streamlit's own text elements read Markdown, so a customer's name could draw a link, an image or a
formula; everything that was not written in this repository is shown through here, as the characters it consists of."""

from __future__ import annotations

from html import escape
from typing import Any

import streamlit as st

_ICONS = {"info": "i", "warning": "!", "error": "×", "success": "✓"}


def safe(value: Any) -> str:
    """The characters of a value, harmless inside HTML."""
    return escape(str(value), quote=True)


def heading(value: Any) -> None:
    """A subheading."""
    st.html(f'<h2 class="r-heading">{safe(value)}</h2>')


def line(value: Any) -> None:
    """A line in the manner of a caption."""
    st.html(f'<p class="r-line">{safe(value)}</p>')


def boxed(value: Any) -> None:
    """A short text in a box, such as a condition."""
    st.html(f'<div class="r-box">{safe(value)}</div>')


def listing(values: list[Any]) -> None:
    """Short lines with bullets."""
    st.html(f'<ul class="r-list">{"".join(f"<li>{safe(v)}</li>" for v in values)}</ul>')


def notice(kind: str, value: Any) -> None:
    """A boxed message: `info`, `success`, `warning` or `error`."""
    role = "alert" if kind in ("warning", "error") else "status"
    st.html(f'<div class="r-notice r-{safe(kind)}" role="{role}"><span class="r-notice-icon" aria-hidden="true">{_ICONS[kind]}</span><span>{safe(value)}</span></div>')
