-- failing.sql : how many requests fail, per module
SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module,
       count(*) AS requests,
       count(*) FILTER (WHERE status_code >= 500) AS errors,
       avg(CASE WHEN status_code >= 500 THEN 1.0 ELSE 0.0 END) AS error_rate
FROM logs WHERE event = 'http_request'
GROUP BY 1, 2
