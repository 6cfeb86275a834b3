-- Run once, in one transaction, by whoever opens a series database that has the extension TimescaleDB (2.x) and no hypertables yet.
-- It turns the tables of migration 0004 into hypertables and puts continuous aggregates in the place of its views. Names, columns and
-- values stay the same, so that every query text does.

-- "Now" for a time column in microseconds.
CREATE OR REPLACE FUNCTION series_now() RETURNS BIGINT LANGUAGE SQL STABLE AS
$$ SELECT CAST(EXTRACT(EPOCH FROM now()) * 1000000 AS BIGINT) $$;

-- Chunks of a week and of a day.
SELECT create_hypertable('series_answers', 'at', chunk_time_interval => BIGINT '604800000000', migrate_data => TRUE);
SELECT create_hypertable('series_nodes', 'at', chunk_time_interval => BIGINT '86400000000', migrate_data => TRUE);
SELECT set_integer_now_func('series_answers', 'series_now');
SELECT set_integer_now_func('series_nodes', 'series_now');

-- Compressed after two weeks and after two days.
ALTER TABLE series_answers SET (timescaledb.compress, timescaledb.compress_segmentby = 'model', timescaledb.compress_orderby = 'at, generation_id');
ALTER TABLE series_nodes SET (timescaledb.compress, timescaledb.compress_segmentby = 'node', timescaledb.compress_orderby = 'at, observer');
SELECT add_compression_policy('series_answers', BIGINT '1209600000000');
SELECT add_compression_policy('series_nodes', BIGINT '172800000000');

DROP VIEW series_answers_by_hour;
CREATE MATERIALIZED VIEW series_answers_by_hour
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket(BIGINT '3600000000', at)        AS hour,
    user_id,
    model,
    node,
    status,
    COUNT(*)                                    AS answers,
    CAST(SUM(prompt_tokens) AS BIGINT)          AS prompt_tokens,
    CAST(SUM(completion_tokens) AS BIGINT)      AS completion_tokens,
    CAST(SUM(total_time) AS BIGINT)             AS total_time,
    MAX(total_time)                             AS total_time_max,
    COUNT(first_token_time)                     AS first_tokens,
    CAST(SUM(first_token_time) AS BIGINT)       AS first_token_time,
    MAX(first_token_time)                       AS first_token_time_max
FROM series_answers
GROUP BY time_bucket(BIGINT '3600000000', at), user_id, model, node, status
WITH NO DATA;

DROP VIEW series_nodes_by_hour;
CREATE MATERIALIZED VIEW series_nodes_by_hour
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket(BIGINT '3600000000', at)        AS hour,
    node,
    COUNT(*)                                    AS samples,
    CAST(SUM(up) AS BIGINT)                     AS up,
    CAST(SUM(active) AS BIGINT)                 AS active,
    MAX(active)                                 AS active_max,
    MAX(waiting)                                AS waiting_max,
    CAST(SUM(response_time) AS BIGINT)          AS response_time,
    MAX(response_time)                          AS response_time_max,
    CAST(SUM(error_share) AS BIGINT)            AS error_share,
    CAST(SUM(health) AS BIGINT)                 AS health,
    MIN(health)                                 AS health_min
FROM series_nodes
GROUP BY time_bucket(BIGINT '3600000000', at), node
WITH NO DATA;

-- What has changed is brought up to date every half hour; what is newer than an hour is read from the hypertable.
SELECT add_continuous_aggregate_policy('series_answers_by_hour', start_offset => NULL, end_offset => BIGINT '3600000000', schedule_interval => INTERVAL '30 minutes');
SELECT add_continuous_aggregate_policy('series_nodes_by_hour', start_offset => NULL, end_offset => BIGINT '3600000000', schedule_interval => INTERVAL '30 minutes');
