-- sql/agent_lag.sql : how far each stage of the agent is behind, in records of its slowest partition
SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module,
       regexp_replace(attributes, '^.*"stage":"([a-z]+)".*$', '\1') AS stage,
       min(value) AS backlog,
       max(value) AS worst
FROM metrics WHERE module = 'maturion' AND name = 'maturion_lag_records'
GROUP BY 1, 2, 3
