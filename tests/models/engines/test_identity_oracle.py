"""The identity engine against the brute-force oracle, over random graphs that grow and change from run to run."""

from __future__ import annotations

import random
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from models.engines import identity
from models.engines.identity_rules import RULES_FILE, parse_rules

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "oracles"))
from identity_oracle import IdentityOracle, Record  # noqa: E402

WORLDS, EXAMPLES, RUNS = 110, 10, 2          # 1,100 random graphs, each resolved twice
LIMITS = {"email": (5, 3), "phone": (4, 2), "domain": (4, 50)}
TABLES = {
    "contacts": {"contact_id": pl.String, "email": pl.String, "phone": pl.String, "first_name": pl.String, "last_name": pl.String, "birth_date": pl.Date,
                 "merged_into_id": pl.String},
    "leads": {"lead_id": pl.String, "email": pl.String, "phone": pl.String, "first_name": pl.String, "last_name": pl.String, "contact_id": pl.String},
    "companies": {"company_id": pl.String, "domain": pl.String, "merged_into_id": pl.String},
}


def rules() -> identity.IdentityRules:
    """The delivered rules with limits small enough for small graphs to reach."""
    names = {"email": "email", "phone": "phone", "domain": "company_domain"}
    document = yaml.safe_load(RULES_FILE.read_text(encoding="utf-8"))
    for key, (records, people) in LIMITS.items():
        rule = next(rule for rule in document["rules"] if rule["id"] == names[key])
        rule |= {"max_group_size": records, "max_distinct_names": people}
    return parse_rules(document)


def make_world(seed: int, position: int) -> tuple[list[list[Record]], list[list[tuple]]]:
    """Records and links of one random graph, as they stand in each run."""
    rng = random.Random(seed)
    sources = [f"w{position}a", f"w{position}b"]
    tag = f"w{position}"

    def pick(values: list, empty: float):
        return None if rng.random() < empty else rng.choice(values)

    def record(source: str, kind: str, number: str) -> Record:
        created = pick([datetime(2020, 1, 1) + timedelta(days=d) for d in (0, 1, 1, 2, 900)], 0.15)
        if kind == "company":
            return Record(source, kind, number, created, domain=pick([f"one.{tag}.org", f"https://www.one.{tag}.org", f"two.{tag}.org"], 0.3),
                          merged_into=pick(["1", "2", "3"], 0.7))
        return Record(
            source, kind, number, created or (datetime(2021, 1, 1) if kind == "lead" else None),
            email=pick([f"x@{tag}.org", f" X@{tag}.ORG", f"y@{tag}.org", f"z@{tag}.org"], 0.3),
            phone=pick([f"+49 151 {position:06d}1", f"0049151{position:06d}1", f"+49151{position:06d}2"], 0.5),
            first_name=pick(["ann", "bob"], 0.5), last_name=pick(["lee", "may"], 0.4),
            birth_date=pick([date(1980, 1, 1), date(1990, 1, 1)], 0.7) if kind == "contact" else None,
            merged_into=pick([str(n) for n in range(1, 7)], 0.75) if kind == "contact" else None,
            contact=pick([str(n) for n in range(1, 7)], 0.6) if kind == "lead" else None)

    names = [(source, "contact", str(n)) for source in sources for n in range(1, 6)]
    names += [(sources[0], "lead", f"L{n}") for n in range(3)] + [(source, "company", f"{n}") for source in sources for n in range(1, 3)]
    chosen = [name for name in names if rng.random() < rng.choice([0.3, 0.8])]
    people = [name for name in chosen if name[1] != "company"]
    current: dict[tuple, Record] = {}
    links: list[tuple] = []
    worlds, stated = [], []
    for run in range(RUNS):
        for name in chosen:
            if (name not in current and (run == RUNS - 1 or rng.random() < 0.6)) or (name in current and rng.random() < 0.2):
                changed = record(*name)
                current[name] = changed
        present = [name for name in people if name in current]
        # a link names ids only, so that a lead and a contact of a source must not share an id for it to be clear
        if len(present) > 1 and rng.random() < 0.6:
            for _ in range(rng.randint(1, 3)):
                a, b = rng.sample(present, 2)
                if not any({a, b} == {c, d} for c, d, _ in links):
                    links.append((a, b, rng.choice(["same", "different", "different"])))
        worlds.append(list(current.values()))
        stated.append(list(links))
    return worlds, stated


def load(con: duckdb.DuckDBPyConnection, run: int, records: list[Record], links: list[tuple]) -> None:
    """Append the records as versions of this run and bring the links up to date."""
    shared = {"_source": pl.String, "created_at": pl.Datetime("us"), "updated_at": pl.Datetime("us"), "_batch_seq": pl.Int64, "_row_hash": pl.String}
    own = {"contacts": "contact", "leads": "lead", "companies": "company"}
    for table, columns in TABLES.items():
        key = next(iter(columns))
        rows = [{"_source": r.source, key: r.id, "created_at": r.created_at, "updated_at": datetime(2026, 1, 1 + run), "_batch_seq": run, "_row_hash": f"{run}",
                 **{c: getattr(r, {"merged_into_id": "merged_into", "contact_id": "contact"}.get(c, c)) for c in columns if c != key}}
                for r in records if r.kind == own[table]]
        frame = pl.DataFrame(rows, schema={**columns, **shared})
        con.register("batch", frame)
        con.execute(f"CREATE TABLE IF NOT EXISTS landing.{table} AS SELECT *, false AS _is_tombstone, NULL::VARCHAR AS _custom FROM batch LIMIT 0")
        con.execute(f"INSERT INTO landing.{table} BY NAME SELECT *, false AS _is_tombstone FROM batch")
    con.register("batch", pl.DataFrame([(a[0], a[2], b[0], b[2], word) for a, b, word in links],
                                       schema=["left_source", "left_id", "right_source", "right_id", "decision"] if links else
                                       {c: pl.String for c in ("left_source", "left_id", "right_source", "right_id", "decision")}, orient="row"))
    con.execute("CREATE OR REPLACE TABLE landing.identity_links AS SELECT * FROM batch")
    con.unregister("batch")


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True,
          phases=[Phase.explicit, Phase.reuse, Phase.generate])   # the message names the one graph that differs: nothing is left to shrink
@given(st.lists(st.integers(0, 2**31), min_size=WORLDS, max_size=WORLDS))
def test_random_graphs_with_chains_cycles_shared_values_and_different_links_resolve_as_by_brute_force(seeds):
    worlds = [make_world(seed, position) for position, seed in enumerate(seeds)]
    oracles = [IdentityOracle(LIMITS) for _ in seeds]
    con = duckdb.connect(config={"threads": 1})
    con.execute("CREATE SCHEMA landing")
    for run in range(RUNS):
        load(con, run, [r for records, _ in worlds for r in records[run]], [link for _, links in worlds for link in links[run]])
        identity.resolve(con, f"run-{run}", datetime(2026, 1, 1 + run), rules())
        found = {tuple(row[:3]): row[3] for row in con.execute("SELECT source, node_type, source_id, customer_id FROM identity.members").fetchall()}
        for position, (records, links) in enumerate(worlds):
            expected = oracles[position].resolve(records[run], links[run])
            got = {node: customer for node, customer in found.items() if node[0] in (f"w{position}a", f"w{position}b")}
            differing = {node: (got.get(node), expected.get(node)) for node in got | expected if got.get(node) != expected.get(node)}
            assert not differing, f"{differing}\nseed {seeds[position]}, position {position}, run {run}\nrecords {records[run]}\nlinks {links[run]}"
    # no pair that somebody called different shares a customer, whatever joined them
    for _, links in worlds:
        assert all(found[a] != found[b] for a, b, word in links[-1] if word == "different")
    con.close()
