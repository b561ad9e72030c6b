"""Great Expectations suites, generated from the contracts.

Belongs here: which expectations a contract implies, as plain data. Does not belong here: running them (`pipelines/checks.py`).
Landed rows have passed the parser; the suite is the independent second reading of the same contract, so a fault of the parser
or a hand in the warehouse is found before anything is built.
"""

from __future__ import annotations

from typing import Any

from data_contracts.contract import Contract


def _in_template(sql: str) -> str:
    return sql.replace("{", "{{").replace("}", "}}")    # the query is a format string around {batch}


def suite(contract: Contract) -> list[dict[str, Any]]:
    """The contract's expectations as `{"type": snake_case_name, "kwargs": {…}}`; kwargs are Great Expectations' own."""
    wanted: list[dict[str, Any]] = []

    def expect(kind: str, **kwargs: Any) -> None:
        wanted.append({"type": kind, "kwargs": kwargs})

    expect("expect_table_columns_to_match_set", column_set=[c.name for c in contract.columns], exact_match=False)
    for column in contract.columns:
        if column.required:
            expect("expect_column_values_to_not_be_null", column=column.name)
        if column.valid_values:
            expect("expect_column_values_to_be_in_set", column=column.name, value_set=list(column.valid_values))
        if column.minimum is not None or column.maximum is not None:
            expect("expect_column_values_to_be_between", column=column.name, min_value=column.minimum, max_value=column.maximum)
        if column.pattern:
            # regular expressions are not pushed down to DuckDB, a query is
            quoted = _in_template(column.pattern.replace("'", "''"))
            expect("unexpected_rows_expectation", unexpected_rows_query=f"SELECT * FROM {{batch}} WHERE NOT regexp_full_match({column.name}, '{quoted}')",
                   description=f"{column.name} matches {column.pattern}")
    for rule in contract.rules:
        expect("unexpected_rows_expectation", unexpected_rows_query=f"SELECT * FROM {{batch}} WHERE NOT ({_in_template(rule.predicate)})", description=rule.description)
    return wanted
