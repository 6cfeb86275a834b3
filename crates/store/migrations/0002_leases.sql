-- Who makes which answer. The clock is the database's, in microseconds.

-- One row per backend that is there; whoever finds that one has fallen silent removes its row, and with it its hold on answers.
CREATE TABLE instances (
    id          TEXT   NOT NULL PRIMARY KEY,
    -- The run of the database's server in which the lease was written.
    server      BIGINT NOT NULL,
    -- Since when it has been renewed without a gap.
    since       BIGINT NOT NULL,
    lease_until BIGINT NOT NULL
);

-- Null when its owner has given it up; one without a row in `instances` was lost.
ALTER TABLE generations ADD COLUMN owner TEXT;
-- The number of the last checkpoint in this epoch.
ALTER TABLE generations ADD COLUMN checkpoint BIGINT NOT NULL DEFAULT 0;
-- Where each owner after the first began: `2:120 4:315`.
ALTER TABLE generations ADD COLUMN bases TEXT NOT NULL DEFAULT '';
-- Which store shows text: `log`, or `sql` while the log fails.
ALTER TABLE generations ADD COLUMN path TEXT NOT NULL DEFAULT 'log';
-- The tokens of the last checkpoint's text, as far as known.
ALTER TABLE generations ADD COLUMN tokens BIGINT NOT NULL DEFAULT 0;
-- When its user asked for its end.
ALTER TABLE generations ADD COLUMN stop_at BIGINT;
CREATE INDEX generations_by_owner ON generations (owner) WHERE status IN ('queued', 'running');
