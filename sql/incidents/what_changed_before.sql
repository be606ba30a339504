-- sql/incidents/what_changed_before.sql : what people and programs changed in the hour before the incident began, the latest first
--   maturion sql -f sql/incidents/what_changed_before.sql --set incident=0f1e…
--   psql -v incident=0f1e… -f sql/incidents/what_changed_before.sql
SELECT timestamp, organisation_id, module, event, operation, user_id, rows_affected, message, attributes
FROM incident_window(:'incident', INTERVAL '1 hour')
WHERE event IN ('data_change', 'config_snapshot', 'integration', 'export')
  AND timestamp < (SELECT min(window_start) FROM detections WHERE incident_id = :'incident')
ORDER BY timestamp DESC
LIMIT 100
