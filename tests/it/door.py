"""What Python's psycopg makes of the PostgreSQL door: python3 door.py PORT CERTIFICATE"""

import datetime
import sys
import threading
import time

import psycopg

port, certificate = sys.argv[1], sys.argv[2]
ONE, TWO = "org-kestrel", "org-walrus"


def connect(user="ann", password="ann's password", **more):
    settings = dict(sslmode="verify-full", sslrootcert=certificate, channel_binding="require", connect_timeout=20)
    settings.update(more)
    return psycopg.connect(host="127.0.0.1", port=port, user=user, password=password, dbname="maturion", **settings)


with connect() as connection:
    assert connection.info.parameter_status("TimeZone") == "UTC"
    row = connection.execute(
        "SELECT timestamp, kafka_offset, duration_ms, organisation_id, handled FROM logs ORDER BY 2 LIMIT 1"
    ).fetchone()
    noon = datetime.datetime(2026, 6, 1, 11, 40, tzinfo=datetime.timezone.utc)
    assert row == (noon, 0, 0.0, ONE, None), row

    # Prepared once, with other values each time; text and binary.
    for binary in (False, True):
        for organisation, least, expected in [(ONE, 10, 30), (TWO, 10, 0), (ONE, 39, 1), ("' OR '1'='1", 0, 0)]:
            found = connection.execute(
                "SELECT count(*) FROM logs WHERE organisation_id = %s AND kafka_offset >= %s",
                (organisation, least), prepare=True, binary=binary,
            ).fetchone()
            assert found == (expected,), (organisation, least, found)
    since = connection.execute("SELECT count(*) FROM logs WHERE timestamp >= %s", (noon,)).fetchone()
    assert since == (40,), since
    for value in (1.5, True, "text", None):
        assert connection.execute("SELECT count(*) FROM logs WHERE message = %s::text", (str(value),)).fetchone() == (0,)
    connection.commit()

# What Grafana makes of its macros.
with connect() as connection:
    grouped = connection.execute(
        "SELECT floor(extract(epoch from timestamp)/600)*600 AS \"time\", count(*) AS value FROM logs "
        "WHERE timestamp BETWEEN '2026-06-01T11:40:00Z' AND '2026-06-01T11:59:59.999Z' GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert grouped == [(1780314000.0, 10), (1780314600.0, 10)], grouped
    counted = connection.execute(
        "SELECT count(*) FROM logs WHERE timestamp >= '2026-06-01T11:50:00Z'::timestamptz AND timestamp < '2026-06-01T12:00:00Z'::timestamptz"
    ).fetchone()
    assert counted == (10,), counted

# Many prepared statements: the client forgets old ones with DEALLOCATE.
with connect(autocommit=True) as connection:
    connection.prepared_max = 5
    for number in range(300):
        assert connection.execute(f"SELECT {number} + kafka_offset FROM logs WHERE kafka_offset = %s", (1,), prepare=True).fetchone() == (number + 1,)

    # An error ends a statement and not the connection.
    for wrong in ("SELECT nothing FROM logs", "DROP TABLE logs", "SELECT * FROM logs WHERE"):
        try:
            connection.execute(wrong)
            raise SystemExit(f"{wrong}: answered")
        except psycopg.Error:
            pass
    assert connection.execute("SELECT 1").fetchone() == (1,)

    # Cancelled while the rows are computed.
    endless = "SELECT count(*) FROM generate_series(1, 1000000000000) WHERE value % 7 = 8"
    threading.Timer(1.0, connection.cancel_safe).start()
    began = time.monotonic()
    try:
        connection.execute(endless)
        raise SystemExit("an endless statement ended")
    except psycopg.errors.QueryCanceled as error:
        assert "user request" in str(error), error
    assert time.monotonic() - began < 20
    assert connection.execute("SELECT 2").fetchone() == (2,)

    # Cancelled while the rows are read.
    threading.Timer(1.0, connection.cancel_safe).start()
    try:
        with connection.cursor() as cursor:
            for row in cursor.stream("SELECT * FROM generate_series(1, 1000000000000)"):
                pass
        raise SystemExit("an endless answer ended")
    except psycopg.errors.QueryCanceled:
        pass
    assert connection.execute("SELECT 3").fetchone() == (3,)

    # Less time than the limit.
    connection.execute("SET statement_timeout TO '300ms'")
    try:
        connection.execute(endless)
        raise SystemExit("a statement took longer than its time")
    except psycopg.errors.QueryCanceled as error:
        assert "0.3 s" in str(error), error
    connection.execute("RESET statement_timeout")

    # Transactions begin and end, and a failed one refuses until then.
    connection.execute("BEGIN")
    try:
        connection.execute("SELECT nothing")
    except psycopg.Error:
        pass
    try:
        connection.execute("SELECT 1")
        raise SystemExit("a failed transaction went on")
    except psycopg.errors.InFailedSqlTransaction:
        pass
    connection.execute("ROLLBACK")
    assert connection.execute("SELECT 4").fetchone() == (4,)

for user, password in (("ann", "wrong"), ("eve", "ann's password")):
    try:
        connect(user, password)
        raise SystemExit(f"{user} came in")
    except psycopg.OperationalError as error:
        assert "with this password" in str(error), error

with connect("bob", "bob's password") as connection:
    assert connection.execute("SELECT DISTINCT organisation_id FROM logs").fetchall() == [(TWO,)]
with connect("ops", "ops' password") as connection:
    found = connection.execute("SELECT DISTINCT organisation_id FROM logs ORDER BY 1").fetchall()
    assert found == [(ONE,), (TWO,), (None,)], found

print("all well")
