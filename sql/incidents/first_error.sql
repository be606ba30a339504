-- sql/incidents/first_error.sql : the first error of each kind around the incident, the earliest first
--   maturion sql -f sql/incidents/first_error.sql --set incident=0f1e…
--   psql -v incident=0f1e… -f sql/incidents/first_error.sql
SELECT timestamp, organisation_id, module, source, kind, route, trace_id, message
FROM (SELECT *, coalesce(exception_type, 'status ' || CAST(status_code AS text), event) AS kind,
             row_number() OVER (PARTITION BY coalesce(exception_type, 'status ' || CAST(status_code AS text), event)
                                ORDER BY timestamp, kafka_partition, kafka_offset) AS place
      FROM incident_window(:'incident', INTERVAL '15 minutes')
      WHERE level IN ('ERROR', 'CRITICAL') OR status_code >= 500 OR event = 'exception') AS errors
WHERE place = 1
ORDER BY timestamp
LIMIT 50
