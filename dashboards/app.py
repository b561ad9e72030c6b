"""The pages' entry: navigation and what all pages share. Run it with `rapport serve`."""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parent
if str(ROOT.parent) not in sys.path:    # `streamlit run` puts only this folder on the path
    sys.path.insert(0, str(ROOT.parent))

st.set_page_config(page_title="Rapport", page_icon=":material/handshake:", layout="wide", initial_sidebar_state="auto")
st.html(ROOT / "components" / "style.css")
st.logo(ROOT / "static" / "logo.svg", size="large")

PAGES = (("overview", "Overview", "monitoring"), ("acquisition", "Acquisition", "campaign"), ("retention", "Retention", "sync"), ("funnel", "Funnel", "filter_alt"), ("sales", "Sales", "handshake"),
         ("customers", "Customers", "person_search"), ("identity", "Identity", "join"), ("segments", "Segments", "group_work"), ("patterns", "Patterns", "hub"), ("models", "Models", "model_training"),
         ("data_health", "Data health", "health_and_safety"))


listed = [st.Page(ROOT / "app_pages" / f"{name}.py", title=title, icon=f":material/{icon}:", url_path=name) for name, title, icon in PAGES]


def home() -> None:
    """The bare address leads to the Overview, with the filters it was called with. The page at `/` answers at no other path, and `/overview` must work too."""
    st.switch_page(listed[0], query_params=st.query_params.to_dict())


st.navigation([st.Page(home, title="Rapport", default=True, visibility="hidden"), *listed], expanded=True).run()
