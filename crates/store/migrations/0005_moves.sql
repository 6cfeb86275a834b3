-- A database that rows are being moved into holds one row here, until the move has been verified: nobody works on it before.
CREATE TABLE moves (
    -- Where the rows come from, without a password.
    source      TEXT NOT NULL PRIMARY KEY,
    -- The table that is being filled, and the key of the last row that is here (JSON), if one is.
    at_table    TEXT NOT NULL,
    after_key   TEXT,
    started_at  BIGINT NOT NULL
);
