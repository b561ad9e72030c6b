"""Decisions on identity through the command line: real runs of one small home, before, merged, and after.

Belongs here: that a decision reaches every number and that taking it back restores every number. Does not belong here: the rules of
resolution (tests/models/engines) or marts under merges at the source (tests/models/warehouse).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import Cli
from fixtures.company_of_sources import AS_OF
from fixtures.published import contents, tables_of

from data_contracts.environment import Home
from models import warehouse
from models.engines import identity
from pipelines import batches, run

# Says when and by which run something was built, and so differs between any two runs.
RUN_COLUMNS = {"built_at", "run_id", "snapshot_id", "scored_at", "observed_at", "_loaded_at", "dbt_updated_at"}
COMPARED = ("marts", "metrics", "features", "segments")


def numbers(cli: Cli) -> dict[str, list[tuple]]:
    """Rows of every published table of numbers."""
    home = Home(cli.home)
    return contents(home, tables_of(home, COMPARED), RUN_COLUMNS)


@pytest.fixture(scope="module")
def before(company_home: Cli, tmp_path_factory) -> dict:
    """A copy of the company's home after its first run: `cli`, `tables`, the pairs to judge, and the two customers who are one."""
    cli = Cli(Path(shutil.copytree(company_home.home, tmp_path_factory.mktemp("identity") / "home")))
    ids = {row["source_id"]: row["customer_id"] for row in cli.rows("query", "SELECT source_id, customer_id FROM identity.members WHERE node_type = 'contact' AND source = 'shop'")}
    return {"cli": cli, "review": cli.rows("identity", "review"), "tables": numbers(cli), "ann": ids["c1"], "other": ids["c2"]}


@pytest.fixture(scope="module")
def merged(before, tmp_path_factory) -> dict:
    """After the decision that they are one, and a run; `landed` is a copy of what a warehouse can be built anew from."""
    cli: Cli = before["cli"]
    told = {"said": cli.run("identity", "merge", before["other"], before["ann"], "--by", "sam").stdout, "waiting": cli.rows("identity", "decisions")}
    cli.build("--as-of", AS_OF)
    told |= {"tables": numbers(cli), "log": cli.rows("identity", "log", "--rule", "identity_link")}
    told |= {part: cli.rows("identity", "show", before["other"], "--part", part) for part in ("records", "fields", "former")}
    told["members"] = cli.rows("query", "SELECT source, node_type, source_id, customer_id FROM identity.members ORDER BY ALL")
    told["landed"] = shutil.copytree(cli.home, tmp_path_factory.mktemp("anew") / "home", ignore=shutil.ignore_patterns("warehouse.duckdb*", "serving", "dagster", "dbt"))
    return told


@pytest.fixture(scope="module")
def after(before, merged) -> dict:
    """After the decision that they are two again, and a run."""
    cli: Cli = before["cli"]
    cli.run("identity", "unmerge", before["ann"], before["other"], "--by", "kim")
    cli.build("--as-of", AS_OF)
    return {"tables": numbers(cli), "decisions": cli.rows("identity", "decisions")}


def test_the_pair_that_is_one_person_is_put_up_for_review(before):
    pair, = before["review"]
    assert {pair["left_customer_id"], pair["right_customer_id"]} == {before["ann"], before["other"]}
    assert pair["probability"] > 0.9 and pair["reason"] == "probable"
    assert {"first_name", "last_name", "birth_date", "postal_code"} <= set(pair["matched_fields"])


@pytest.mark.parametrize("words, told", [
    (("merge", "p_0000000000000000", "shop:contact:c3"), "no customer or record is named"), (("merge", "shop:contact:c3", "shop:contact:c3"), "one and the same record"),
    (("merge", "shop:contact:c3", "shop:company:k1"), "a person and the other an organisation"), (("undo", "shop:contact:c3", "shop:contact:c4"), "no decision on this pair"),
    (("show", "ann@work.org"), "neither a customer id nor a record"), (("log", "--rule", "guess"), "knows no rule")])
def test_what_cannot_be_decided_is_refused_with_a_remedy(before, words, told):
    done = before["cli"].run("identity", *words, ok=False)
    assert done.returncode == 2 and told in done.stderr


def test_a_merge_decided_on_the_command_line_moves_every_fact_to_the_survivor(before, merged):
    assert "become one" in merged["said"] and [(d["decision"], d["decided_by"], d["state"]) for d in merged["waiting"]] == [("same", "sam", "waiting")]
    orders, orders_now = before["tables"]["marts.fct_orders"], merged["tables"]["marts.fct_orders"]
    assert len(orders) == len(orders_now) and before["other"] in str(orders) and before["other"] not in str(orders_now)
    assert len(before["tables"]["marts.dim_customers"]) == len(merged["tables"]["marts.dim_customers"]) + 1
    assert [(row["kind"], row["decided_by"], {row["left_customer_id"], row["right_customer_id"]}) for row in merged["log"]] == [("merge", "sam", {before["ann"], before["other"]})]


def test_a_former_id_shows_the_survivor_its_records_and_where_each_field_comes_from(before, merged):
    fields = {row["field"]: row for row in merged["fields"]}
    assert {row["source_id"] for row in merged["records"] if row["node_type"] == "contact"} == {"c1", "c2"}
    assert [row["old_customer_id"] for row in merged["former"]] == [before["other"]]
    assert (fields["email"]["value"], fields["email"]["source_id"], fields["email"]["other_values"]) == ("ann@home.org", "c2", 1)     # changed last
    assert fields["phone"]["source_id"] == "c2" and fields["email"]["rule"] == "most_recent"


def test_a_warehouse_built_anew_from_landing_follows_the_decisions_again(merged):
    home = Home(merged["landed"])
    with warehouse.writing(home) as con:
        batches.load_pending(home, con, home.sources(), lambda text: None)
        identity.resolve(con, "anew", run.parse_instant(AS_OF))
        found = con.execute("SELECT source, node_type, source_id, customer_id FROM identity.members ORDER BY ALL").fetchall()
    assert found == [tuple(row.values()) for row in merged["members"]]


def test_an_unmerge_gives_back_every_mart_and_every_metric_byte_for_byte(before, merged, after):
    assert set(before["tables"]) == set(after["tables"]) and sum(map(len, before["tables"].values())) > 1_000
    assert [table for table, content in before["tables"].items() if content != after["tables"][table]] == []
    assert [table for table, content in before["tables"].items() if content != merged["tables"][table]], "the merge changed nothing, so that nothing was proved"
    assert [(d["decision"], d["decided_by"], d["state"]) for d in after["decisions"]] == [("same", "sam", "replaced"), ("different", "kim", "in force")]
