"""Copies a pgvector table into a Milvus collection as a first script of one's own
would: one server-side cursor, one insert after the other, 1,000 rows each.

usage: plain.py DSN TABLE MILVUS COLLECTION; prints its figures as JSON.
"""
import json
import resource
import sys
import time

import psycopg
from pgvector.psycopg import register_vector
from pymilvus import Collection, connections

dsn, table, milvus, collection = sys.argv[1:]
host, port = milvus.rsplit(":", 1)
connections.connect(host=host, port=port)
target = Collection(collection)

begun, cpu = time.monotonic(), time.process_time()
rows = 0
with psycopg.connect(dsn) as source:
    register_vector(source)
    with source.cursor(name="copy") as cursor:
        cursor.itersize = 1000
        cursor.execute(f"select id, title, meta, v from {table}")
        while batch := cursor.fetchmany(1000):
            target.insert([
                {"id": key, "title": title, "meta": meta, "vecferry_position": 0, "v": vector.tolist()}
                for key, title, meta, vector in batch
            ])
            rows += len(batch)
seconds = time.monotonic() - begun

json.dump({
    "rows": rows,
    "seconds": seconds,
    "cpu_seconds": time.process_time() - cpu,
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}, sys.stdout)
