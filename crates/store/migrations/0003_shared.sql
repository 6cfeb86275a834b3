-- What several instances on one database need to agree on.

-- Moves with every change of what the user's lists show, in the same transaction.
ALTER TABLE users ADD COLUMN list_version BIGINT NOT NULL DEFAULT 0;

-- One row: the oldest program, named by the newest migration it knows, that may still work on this schema. A migration that only
-- adds leaves it; one that takes something away or gives it another meaning raises it.
CREATE TABLE schema_floor (
    version BIGINT NOT NULL
);
INSERT INTO schema_floor (version) VALUES (3);
