"""Start the pages with everything a first visitor would wait for already loaded: `python -m dashboards.server` with Streamlit's own options.

Belongs here: starting and warming. Does not belong here: pages.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from pathlib import Path

APP = Path(__file__).resolve().parent / "app.py"
# What pages import at their first drawing; the pages themselves draw when imported, so they are left to the visitor.
MODULES = ("pandas", "pyarrow", "polars", "dashboards.figures", "dashboards.components.charts", "dashboards.components.cards", "dashboards.components.conditions", "dashboards.components.funnels", "dashboards.components.tables")


def warm() -> None:
    """Load the modules of the pages and ask what each page shows first, so that the answers are in the cache."""
    logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context").setLevel(logging.ERROR)      # there is no visitor yet, which it would tell for each answer
    logging.getLogger("streamlit.runtime.caching").setLevel(logging.ERROR)
    for module in MODULES:
        importlib.import_module(module)
    from dashboards import figures, queries
    from dashboards.components import filters
    from data_contracts.errors import RapportError

    try:
        with queries.pinned() as snapshot:
            if snapshot is not None:
                queries.choices()
                for names in figures.CARDS.values():
                    figures.figures(names, *filters.bounds("12m"), {})
                if queries.has_deals():
                    queries.pipeline_on(queries.newest_day(), None, None, None)
    except RapportError as error:
        logging.getLogger(__name__).warning("the first answers could not be prepared: %s", error)


def main(options: list[str]) -> None:
    """Serve the pages until stopped; warming happens beside it."""
    from streamlit.web import cli

    threading.Thread(target=warm, name="warm-up", daemon=True).start()
    sys.argv = ["streamlit", "run", str(APP), *options]
    cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
