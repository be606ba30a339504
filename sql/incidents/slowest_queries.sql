-- sql/incidents/slowest_queries.sql : what took longest in the database around the incident
--   maturion sql -f sql/incidents/slowest_queries.sql --set incident=0f1e…
--   psql -v incident=0f1e… -f sql/incidents/slowest_queries.sql
SELECT coalesce(attributes ->> 'query', message) AS query,
       count(*) AS times,
       max(duration_ms) AS slowest_ms,
       sum(duration_ms) AS together_ms,
       min(timestamp) AS first_seen
FROM incident_window(:'incident', INTERVAL '15 minutes')
WHERE event = 'slow_query'
GROUP BY 1
ORDER BY slowest_ms DESC, query
LIMIT 20
