-- sql/resources.sql : how busy processors and memory are, in percent, per organisation and module
SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, organisation_id, module,
       avg(value) FILTER (WHERE name IN ('cpu_percent', 'cpu_utilization')) AS cpu_percent,
       count(value) FILTER (WHERE name IN ('cpu_percent', 'cpu_utilization')) AS cpu_samples,
       avg(value) FILTER (WHERE name IN ('memory_percent', 'memory_utilization')) AS memory_percent,
       count(value) FILTER (WHERE name IN ('memory_percent', 'memory_utilization')) AS memory_samples
FROM metrics WHERE name IN ('cpu_percent', 'cpu_utilization', 'memory_percent', 'memory_utilization')
GROUP BY 1, 2, 3
