"""MariaDB: spoken to like MySQL, under its own name in the URL."""

from __future__ import annotations

from pipelines.sources.databases.mysql import DIALECT

__all__ = ["DIALECT"]
