"""Options that many commands share. Holds no command."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer


class OutputFormat(str, Enum):
    """Forms in which rows are given back."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


HomeOption = Annotated[Optional[Path], typer.Option("--home", metavar="DIR", help="Home of the deployment; else RAPPORT_HOME, else ./.rapport.", show_default=False)]
FormatOption = Annotated[OutputFormat, typer.Option("--format", help="How rows are printed.")]
OutputOption = Annotated[Optional[Path], typer.Option("--output", metavar="FILE", help="Write to a file instead of the terminal.", show_default=False)]
