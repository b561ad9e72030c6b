"""Benchmark of identity resolution: contacts with duplicates over several sources, first run and a day's increment, beside SQL written by hand.

Run by hand: `python tests/benchmarks/bench_identity.py [--contacts 1000000]`. The hand-written statements (`identity_by_hand.sql`) give the members,
attributes, records and hierarchy of the first run; that both are the same row for row is checked, and the ratio of CPU seconds printed. The
probable pairs (learning and scoring by Splink) are nothing one writes by hand: they are timed and printed apart. What the engine gives besides,
and the SQL does not, stands in its time all the same: the merge log, and what it remembers so that a day's increment need not resolve all.

Bounds at a million contacts on two cores: ratio 3, an increment of a hundredth of the rows in a third of the CPU seconds of the first run,
memory 8 GiB; the exit code tells whether they hold.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from models.engines import identity, identity_review  # noqa: E402 - the path must be set first
from models.engines.identity_rules import load_rules  # noqa: E402

RATIO, INCREMENT, GIBIBYTES = 3.0, 1 / 3, 8.0
LINEAGE = "1 AS _batch_seq, false AS _is_tombstone, CAST(NULL AS VARCHAR) AS _custom"
BY_HAND = Path(__file__).with_name("identity_by_hand.sql")
COMPARED = {
    "members": "source, node_type, source_id, customer_id",
    "records": "*",
    "customer_attributes": "*",
    "hierarchy": "*",
}


def make_contacts(con: duckdb.DuckDBPyConnection, first: int, count: int) -> None:
    """Contacts of which about a fifth repeat a person under another source, by e-mail, phone or both."""
    con.execute(f"""
        INSERT INTO landing.contacts BY NAME
        SELECT *, md5(contact_id) AS _row_hash FROM (
            SELECT ['crm', 'shop', 'support'][1 + i % 3] AS _source, 'c' || i AS contact_id, 'k' || (i % 50000) AS company_id,
                   CASE WHEN hash(i, 'm') % 10 < 8 THEN 'person' || person || '@mail' || (person % 100) || '.org' END AS email,
                   CASE WHEN hash(i, 'p') % 10 < 6 THEN '+49151' || lpad(person::VARCHAR, 8, '0') END AS phone,
                   'First' || (hash(person, 'f') % 2000) AS first_name, 'Last' || (hash(person, 'l') % 50000) AS last_name,
                   CASE WHEN hash(i, 'b') % 10 < 3 THEN DATE '1950-01-01' + CAST(hash(person, 'b') % 18000 AS INTEGER) END AS birth_date,
                   lpad((hash(person, 'z') % 90000)::VARCHAR, 5, '0') AS postal_code, 'City' || (hash(person, 'c') % 500) AS city, 'DE' AS country_code,
                   TIMESTAMP '2020-01-01' + INTERVAL (i % 2000000) MINUTE AS created_at, TIMESTAMP '2026-01-01' + INTERVAL (i % 100000) MINUTE AS updated_at,
                   {LINEAGE}
            FROM (SELECT i, CASE WHEN hash(i) % 5 = 0 THEN hash(i, 'd') % (i + 1) ELSE i END AS person FROM range({first}, {first + count}) AS t(i)))""")


def make_landing(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE SCHEMA landing")
    con.execute("""CREATE TABLE landing.contacts (_source VARCHAR, contact_id VARCHAR, company_id VARCHAR, email VARCHAR, phone VARCHAR, first_name VARCHAR,
        last_name VARCHAR, birth_date DATE, postal_code VARCHAR, city VARCHAR, country_code VARCHAR, created_at TIMESTAMP, updated_at TIMESTAMP, _batch_seq BIGINT,
        _is_tombstone BOOLEAN, _custom VARCHAR, _row_hash VARCHAR)""")


class Stopwatch:
    """CPU seconds over all threads of what is called through it: a shared machine stretches the clock, not these."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self, work, *given):
        started = time.process_time()
        answer = work(*given)
        self.seconds += time.process_time() - started
        return answer


def resolve_by_hand(con: duckdb.DuckDBPyConnection) -> None:
    shared = ", ".join(f"'{part}'" for part in load_rules().shared_local_parts)
    for block in BY_HAND.read_text(encoding="utf-8").replace("{shared}", shared).split("\n----"):
        repeat, statement = block.startswith(" repeat"), block.removeprefix(" repeat")
        while con.execute(statement).fetchall() != [(0,)] and repeat:
            pass


def differing(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Tables in which the engine and the hand-written SQL do not hold the same rows; columns that the SQL does not write must be empty."""
    found = []
    for table, columns in COMPARED.items():
        own, hand = ({r[0] for r in con.execute("SELECT column_name FROM duckdb_columns() WHERE schema_name = ? AND table_name = ?", [schema, table]).fetchall()}
                     for schema in ("identity", "by_hand"))
        names = columns if columns != "*" else ", ".join(sorted(own & hand))
        empty = {"is_lead_only", "is_test"}      # said of every customer, and false of all of these
        silent = sorted(own - hand - empty - {"is_known"}) if columns == "*" else []
        rows = "SELECT {0} FROM {1}.{2}"
        differ = con.execute(f"""SELECT count(*) FROM ((({rows.format(names, 'identity', table)}) EXCEPT ALL ({rows.format(names, 'by_hand', table)}))
                                 UNION ALL (({rows.format(names, 'by_hand', table)}) EXCEPT ALL ({rows.format(names, 'identity', table)})))""").fetchone()[0]
        filled = con.execute(f"SELECT {' + '.join(f'count({name})' for name in silent) or '0'} FROM identity.{table}").fetchone()[0]
        if differ or filled:
            found.append(f"{table} ({differ:,} rows, {filled:,} further values)")
    return found


def main(count: int) -> int:
    failed = False
    with TemporaryDirectory() as folder:
        con = duckdb.connect(str(Path(folder) / "bench.duckdb"), config={"threads": 2, "memory_limit": "3GB"})
        make_landing(con)
        score = identity_review.score_pairs
        totals = []
        for run, (first, rows) in enumerate([(0, count), (count, count // 100)]):
            make_contacts(con, first, rows)
            review, whole = Stopwatch(), Stopwatch()
            identity_review.score_pairs = lambda *given, watch=review: watch.time(score, *given)
            started = time.perf_counter()
            report = whole.time(identity.resolve, con, f"run-{run}", datetime(2026, 11, 20 + run))
            totals.append(whole.seconds)
            print(f"{rows:>9,} new contacts: {whole.seconds:6.1f} CPU s ({time.perf_counter() - started:.1f} wall), of which the probable pairs {review.seconds:.1f}  {report}", flush=True)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            if run == 0:
                hand, engine = Stopwatch(), whole.seconds - review.seconds
                hand.time(resolve_by_hand, con)
                differ = differing(con)
                ratio = engine / hand.seconds
                print(f"the rules without the probable pairs: engine {engine:.1f} CPU s, by hand {hand.seconds:.1f} CPU s, ratio {ratio:.2f}; "
                      f"same members, records, attributes and hierarchy: {'no: ' + ', '.join(differ) if differ else 'yes'}", flush=True)
                failed |= bool(differ) or (count >= 1_000_000 and ratio > RATIO)
        share = totals[1] / totals[0]
        print(f"the increment took {share:.0%} of the first run; peak memory of the engine {peak:.2f} GiB")
        failed |= count >= 1_000_000 and share > INCREMENT
    return int(failed or peak > GIBIBYTES)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=1_000_000, help="contacts of the first run; the increment is a hundredth of it")
    raise SystemExit(main(parser.parse_args().contacts))
