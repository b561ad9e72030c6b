"""Benchmark of identity resolution: contacts with duplicates over several sources, first run and a day's increment.

Run by hand: `python tests/benchmarks/bench_identity.py [contacts]` prints seconds, peak resident memory and what was found; bounds for one
million contacts on two cores are 30 s and 4 GiB.
"""

from __future__ import annotations

import resource
import sys
import time
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from models.engines import identity  # noqa: E402 - the path must be set first

SECONDS, GIBIBYTES = 30.0, 4.0
LINEAGE = "1 AS _batch_seq, false AS _is_tombstone, CAST(NULL AS VARCHAR) AS _custom"


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


def main(count: int) -> int:
    with TemporaryDirectory() as folder:
        con = duckdb.connect(str(Path(folder) / "bench.duckdb"), config={"threads": 2, "memory_limit": "3GB"})
        con.execute("CREATE SCHEMA landing")
        con.execute("""CREATE TABLE landing.contacts (_source VARCHAR, contact_id VARCHAR, company_id VARCHAR, email VARCHAR, phone VARCHAR, first_name VARCHAR,
            last_name VARCHAR, birth_date DATE, postal_code VARCHAR, city VARCHAR, country_code VARCHAR, created_at TIMESTAMP, updated_at TIMESTAMP, _batch_seq BIGINT,
            _is_tombstone BOOLEAN, _custom VARCHAR, _row_hash VARCHAR)""")
        slow = False
        for run, (first, rows) in enumerate([(0, count), (count, count // 100)]):
            make_contacts(con, first, rows)
            started = time.perf_counter()
            report = identity.resolve(con, f"run-{run}", datetime(2026, 11, 20 + run))
            seconds = time.perf_counter() - started
            slow |= count <= 1_000_000 and seconds > SECONDS
            print(f"{rows:>9,} new contacts: {seconds:6.1f} s  {report}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"peak memory {peak:.2f} GiB")
        return int(slow or peak > GIBIBYTES)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
