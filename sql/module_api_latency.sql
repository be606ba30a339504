-- sql/module_api_latency.sql : how long requests take, in milliseconds, per module over all organisations
SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module,
       count(duration_ms) AS requests,
       quantile(duration_ms, 0.5) AS p50,
       quantile(duration_ms, 0.95) AS p95,
       quantile(duration_ms, 0.99) AS p99
FROM logs WHERE event = 'http_request' AND duration_ms IS NOT NULL
GROUP BY 1, 2
