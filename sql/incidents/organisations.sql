-- sql/incidents/organisations.sql : who is affected by the incident, the most affected first
--   maturion sql -f sql/incidents/organisations.sql --set incident=0f1e…
--   psql -v incident=0f1e… -f sql/incidents/organisations.sql
SELECT organisation_id,
       count(*) FILTER (WHERE event = 'http_request') AS requests,
       count(*) FILTER (WHERE status_code >= 500) AS errors,
       count(*) FILTER (WHERE event = 'exception') AS exceptions,
       count(DISTINCT user_id) FILTER (WHERE status_code >= 500) AS users_with_errors
FROM incident_window(:'incident', INTERVAL '15 minutes')
GROUP BY organisation_id
ORDER BY errors DESC, exceptions DESC, organisation_id
LIMIT 50
