"""The demo company: a simulator of an operational CRM and the mapping that ingests it like anybody's database.

Belongs here: the simulated world and its own table shapes. Extraction is the `sql` source's; nothing here knows the warehouse.
"""

from collections.abc import Callable
from pathlib import Path

from pipelines.sources.demo.calendar import TIME_ZONE
from pipelines.sources.demo.simulator import FEWEST_CUSTOMERS, MAPPING_FILE, simulate
from pipelines.sources.demo.world import INTERNAL_DOMAIN, REPORTING_CURRENCY

CURRENCY = REPORTING_CURRENCY
"""Currency in which the company reports."""

TEST_EMAIL_DOMAINS = (INTERNAL_DOMAIN,)
"""Domains whose accounts are tests: the workspace rule that goes with the demo."""

TRUTH_NAME = "truth.sqlite"
"""The file beside the CRM that no source is declared for."""

__all__ = [
    "CURRENCY",
    "FEWEST_CUSTOMERS",
    "MAPPING_FILE",
    "TEST_EMAIL_DOMAINS",
    "TIME_ZONE",
    "TRUTH_NAME",
    "simulate",
    "simulate_into",
]


def simulate_into(file: Path, customers: int, seed: int, say: Callable[[str], None] = print) -> None:
    """Write a company whose data reach up to today to `file`, the truth beside it, and tell each step in words."""
    told: set[str] = set()

    def tell(step: str, share: float) -> None:
        # A company of several blocks repeats its steps; the share tells how far it is.
        line = step if customers <= 20_000 else f"{share:.0%}: {step}"
        if line not in told:
            told.add(line)
            say(line)

    simulate(file, file.with_name(TRUTH_NAME), customers=customers, seed=seed, progress=tell)
