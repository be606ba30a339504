-- sql/isolated_errors.sql : everything that went wrong, however little, per organisation and module
SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, organisation_id, module,
       count(*) AS errors,
       count(*) FILTER (WHERE status_code >= 500) AS failed_requests,
       count(exception_type) AS exceptions
FROM logs WHERE level IN ('ERROR', 'CRITICAL') OR status_code >= 500
GROUP BY 1, 2, 3
