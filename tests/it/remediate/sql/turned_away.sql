-- turned_away.sql : the share of requests that a rate limit turns away, per organisation and module
SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, organisation_id, module,
       count(*) AS requests,
       avg(CASE WHEN status_code = 429 THEN 1.0 ELSE 0.0 END) AS share
FROM logs WHERE event = 'http_request'
GROUP BY 1, 2, 3
