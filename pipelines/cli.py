"""The command line `rapport`. Joins the commands and turns errors into one clear message and an exit code.

Nothing heavy is imported here: each command imports what it needs, so that `rapport query` answers without waiting for Dagster
and dbt.
"""

from __future__ import annotations

import sys
import traceback

import typer

from data_contracts.environment import prepare_libraries
from data_contracts.errors import RapportError, full_disk
from pipelines.commands import analysis, data, history, identity, metrics, mining, models, sales, segments, workspace

app = typer.Typer(name="rapport", no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False,
                  help="CRM analytics on your own machine: one number, with its definition, everywhere.\n\n"
                       "Start with `rapport demo`, or `rapport init` and `rapport source add`, then `rapport run` and `rapport serve`.")

for module in (workspace, data, metrics, analysis, history, sales, mining, segments, identity, models):
    module.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the process ends with 0 only on success."""
    prepare_libraries()
    try:
        app(args=arguments, standalone_mode=False)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except typer.Abort:
        sys.exit(130)
    except RapportError as error:
        print(f"rapport: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("rapport: stopped; nothing half-done was published", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:  # noqa: BLE001  the last resort: told with its traceback, exit code 70
        shown = getattr(error, "show", None)
        if shown is not None:                     # the command line itself was wrong: click says how
            shown()
            sys.exit(getattr(error, "exit_code", 2))
        if full := full_disk(error):
            print(f"rapport: {full}", file=sys.stderr)
            sys.exit(full.exit_code)
        traceback.print_exc()
        print(f"rapport: unexpected {type(error).__name__}: {error}. Please report it with the lines above.", file=sys.stderr)
        sys.exit(70)
    sys.exit(0)


if __name__ == "__main__":
    main()
