-- What PostgreSQL knows of its tables.

-- name: outgrown
-- Small tables are left alone: whatever their plans, they are fast.
SELECT relname::text FROM pg_stat_user_tables
WHERE schemaname = current_schema() AND n_mod_since_analyze > 1000 + n_live_tup / 5
ORDER BY relname
