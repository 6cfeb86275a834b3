-- What was measured, by the time it happened. No references to other tables: these may lie in a database of their own.

-- One answer that has ended: what it cost and how long it took. Spans in microseconds.
CREATE TABLE series_answers (
    at                BIGINT NOT NULL,
    generation_id     TEXT   NOT NULL,
    user_id           TEXT   NOT NULL,
    model             TEXT   NOT NULL,
    -- The node that ended it; empty where none did.
    node              TEXT   NOT NULL,
    status            TEXT   NOT NULL,
    prompt_tokens     BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    total_time        BIGINT NOT NULL,
    first_token_time  BIGINT,
    PRIMARY KEY (at, generation_id)
);
-- Word for word what the view groups by, so that a query for some hours finds them.
CREATE INDEX series_answers_hour ON series_answers ((at / 3600000000 * 3600000000));

-- How a node looked to one observer. Shares in millionths, spans in microseconds.
CREATE TABLE series_nodes (
    at            BIGINT NOT NULL,
    node          TEXT   NOT NULL,
    observer      TEXT   NOT NULL,
    up            BIGINT NOT NULL,
    active        BIGINT NOT NULL,
    waiting       BIGINT NOT NULL,
    response_time BIGINT NOT NULL,
    error_share   BIGINT NOT NULL,
    health        BIGINT NOT NULL,
    PRIMARY KEY (at, node, observer)
);
CREATE INDEX series_nodes_hour ON series_nodes ((at / 3600000000 * 3600000000));

-- TimescaleDB keeps views of the same names and columns up to date by itself; see `timescale/`.
CREATE VIEW series_answers_by_hour AS
SELECT
    at / 3600000000 * 3600000000                AS hour,
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
GROUP BY at / 3600000000 * 3600000000, user_id, model, node, status;

CREATE VIEW series_nodes_by_hour AS
SELECT
    at / 3600000000 * 3600000000                AS hour,
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
GROUP BY at / 3600000000 * 3600000000, node;
