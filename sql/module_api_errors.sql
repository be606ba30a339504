-- sql/module_api_errors.sql : how many requests fail, per module over all organisations
-- The organisations are dealt into two halves by the last character of their id, and the module is judged by the half that
-- is better off: what hits one organisation, however large, is that organisation's trouble, and not the module's.
SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module,
       count(*) AS requests,
       count(*) FILTER (WHERE status_code >= 500) AS errors,
       avg(CASE WHEN status_code >= 500 THEN 1.0 ELSE 0.0 END) AS error_rate,
       least(count(*) FILTER (WHERE ascii(right(organisation_id, 1)) % 2 = 0),
             count(*) FILTER (WHERE ascii(right(organisation_id, 1)) % 2 = 1)) AS shared_requests,
       least(count(*) FILTER (WHERE status_code >= 500 AND ascii(right(organisation_id, 1)) % 2 = 0),
             count(*) FILTER (WHERE status_code >= 500 AND ascii(right(organisation_id, 1)) % 2 = 1)) AS shared_errors,
       least(avg(CASE WHEN status_code >= 500 THEN 1.0 ELSE 0.0 END) FILTER (WHERE ascii(right(organisation_id, 1)) % 2 = 0),
             avg(CASE WHEN status_code >= 500 THEN 1.0 ELSE 0.0 END) FILTER (WHERE ascii(right(organisation_id, 1)) % 2 = 1))
           AS shared_error_rate
FROM logs WHERE event = 'http_request'
GROUP BY 1, 2
