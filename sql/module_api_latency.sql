-- sql/module_api_latency.sql : how long requests take, in milliseconds, per module over all organisations
-- As in module_api_errors.sql, the module is judged by the half of the organisations that is better off.
SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module,
       count(duration_ms) AS requests,
       quantile(duration_ms, 0.5) AS p50,
       quantile(duration_ms, 0.95) AS p95,
       quantile(duration_ms, 0.99) AS p99,
       least(count(duration_ms) FILTER (WHERE ascii(right(organisation_id, 1)) % 2 = 0),
             count(duration_ms) FILTER (WHERE ascii(right(organisation_id, 1)) % 2 = 1)) AS shared_requests,
       least(quantile(duration_ms, 0.95) FILTER (WHERE ascii(right(organisation_id, 1)) % 2 = 0),
             quantile(duration_ms, 0.95) FILTER (WHERE ascii(right(organisation_id, 1)) % 2 = 1)) AS shared_p95
FROM logs WHERE event = 'http_request' AND duration_ms IS NOT NULL
GROUP BY 1, 2
