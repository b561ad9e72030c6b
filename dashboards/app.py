"""The pages' entry: navigation and what all pages share. Run it with `rapport serve`."""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parent
if str(ROOT.parent) not in sys.path:    # `streamlit run` puts only this folder on the path
    sys.path.insert(0, str(ROOT.parent))

st.set_page_config(page_title="Rapport", page_icon=":material/handshake:", layout="wide", initial_sidebar_state="auto")
st.html("<style>.block-container{padding-top:3.2rem;max-width:1280px} [data-testid='stMetricValue']{font-size:1.65rem} @media(max-width:640px){.block-container{padding-left:1rem;padding-right:1rem}}</style>")

PAGES = (("overview", "Overview", "monitoring"), ("acquisition", "Acquisition", "campaign"), ("retention", "Retention", "sync"), ("funnel", "Funnel", "filter_alt"),
         ("customers", "Customers", "person_search"), ("segments", "Segments", "group_work"), ("data_health", "Data health", "health_and_safety"))

st.navigation([st.Page(ROOT / "app_pages" / f"{name}.py", title=title, icon=f":material/{icon}:", url_path=name, default=name == "overview") for name, title, icon in PAGES]).run()
