-- pools.sql : the share of requests that find no free connection, per module
SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module,
       count(*) AS requests,
       avg(CASE WHEN status_code = 503 THEN 1.0 ELSE 0.0 END) AS waiting
FROM logs WHERE event = 'http_request'
GROUP BY 1, 2
