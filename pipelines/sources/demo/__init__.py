"""The demo company: a simulator of an operational CRM and the mapping that ingests it like anybody's database.

Belongs here: the simulated world and its own table shapes. Extraction is the `sql` source's; nothing here knows the warehouse.
"""

from pipelines.sources.demo.simulator import FEWEST_CUSTOMERS, MAPPING_FILE, simulate

__all__ = ["FEWEST_CUSTOMERS", "MAPPING_FILE", "simulate"]
