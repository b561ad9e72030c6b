"""The pages' entry: navigation and what all pages share. Run it with `rapport serve`."""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parent
if str(ROOT.parent) not in sys.path:    # `streamlit run` puts only this folder on the path
    sys.path.insert(0, str(ROOT.parent))

st.set_page_config(page_title="Rapport", page_icon=":material/handshake:", layout="wide", initial_sidebar_state="auto")
st.html(ROOT / "components" / "style.css")

PAGES = (("overview", "Overview", "monitoring"), ("acquisition", "Acquisition", "campaign"), ("retention", "Retention", "sync"), ("funnel", "Funnel", "filter_alt"),
         ("customers", "Customers", "person_search"), ("segments", "Segments", "group_work"), ("data_health", "Data health", "health_and_safety"))


def page(name: str, title: str, icon: str, **more: object) -> st.Page:
    """A page by the name of its file."""
    return st.Page(ROOT / "app_pages" / f"{name}.py", title=title, icon=f":material/{icon}:", **more)


# The first page answers at `/`, and at `/overview` too, where a link or a habit may lead.
listed = [page(name, title, icon, **({"default": True} if name == "overview" else {"url_path": name})) for name, title, icon in PAGES]
st.navigation([*listed, page(*PAGES[0], url_path="overview", visibility="hidden")], expanded=True).run()
