-- sql/module_exceptions.sql : exceptions that nobody handled, per module, type and place over all organisations
-- Numbers and ids in a route become *, so that one fault is one place. An error that does not say whether it was handled was not.
SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, exception_type,
       regexp_replace(route, '[0-9a-fA-F-]{32,36}|[0-9]+', '*', 'g') AS place,
       count(*) AS occurrences
FROM logs
WHERE exception_type IS NOT NULL AND (handled = false OR (handled IS NULL AND level IN ('ERROR', 'CRITICAL')))
GROUP BY 1, 2, 3, 4
