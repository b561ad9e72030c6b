"""What things mean: the dbt project, the one door to DuckDB, metrics, segments and analysis engines. Never imports Dagster or knows a destination."""
