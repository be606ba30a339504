-- sql/incidents/routes.sql : which routes fail or are slow around the incident, the worst first
--   maturion sql -f sql/incidents/routes.sql --set incident=0f1e…
--   psql -v incident=0f1e… -f sql/incidents/routes.sql
SELECT method, route,
       count(*) AS requests,
       count(*) FILTER (WHERE status_code >= 500) AS errors,
       avg(CASE WHEN status_code >= 500 THEN 1.0 ELSE 0.0 END) AS error_rate,
       quantile(duration_ms, 0.95) AS p95_ms
FROM incident_window(:'incident', INTERVAL '15 minutes')
WHERE event = 'http_request'
GROUP BY method, route
ORDER BY errors DESC, p95_ms DESC, route
LIMIT 50
