-- sql/agent_gaps.sql : for how many seconds the event time of the slowest pipeline stood still
SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module,
       max(value) AS gap_seconds
FROM metrics WHERE module = 'maturion' AND name = 'maturion_evaluation_gap_seconds'
GROUP BY 1, 2
