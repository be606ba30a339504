-- sql/agent_dead_letters.sql : how many of the records that the agent read were rejected
SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module,
       CAST(sum(value) FILTER (WHERE name = 'maturion_records_read') AS BIGINT) AS records,
       sum(value) FILTER (WHERE name = 'maturion_dead_letters')
           / nullif(sum(value) FILTER (WHERE name = 'maturion_records_read'), 0) AS rejected_share
FROM metrics WHERE module = 'maturion' AND name IN ('maturion_records_read', 'maturion_dead_letters')
GROUP BY 1, 2
