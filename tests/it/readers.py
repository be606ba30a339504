"""Reads the table `logs` of a store with foreign readers: one line for each, rows and sum of offsets."""

import sys

import duckdb
import polars
from deltalake import DeltaTable

folder = sys.argv[1]
rows = DeltaTable(folder).to_pyarrow_table()
print("deltalake", rows.num_rows, sum(rows.column("kafka_offset").to_pylist()))

frame = polars.read_delta(folder)
print("polars", frame.height, frame["kafka_offset"].sum())

# DuckDB's own extension for Delta comes from the network; the rows come to it through Arrow where there is none.
try:
    duckdb.sql("INSTALL delta; LOAD delta")
    source = f"delta_scan('{folder}')"
    print("delta_scan", *duckdb.sql(f"SELECT count(*), sum(kafka_offset)::BIGINT FROM {source}").fetchall()[0])
except duckdb.Error as error:
    print(f"SKIPPED duckdb's delta_scan: {str(error).splitlines()[0]}", file=sys.stderr)
print("duckdb", *duckdb.sql("SELECT count(*), sum(kafka_offset)::BIGINT FROM rows").fetchall()[0])
