-- The portable subset of SQLite and PostgreSQL: identifiers made by us (TEXT), moments in microseconds (BIGINT), JSON as TEXT.

CREATE TABLE users (
    id            TEXT   NOT NULL PRIMARY KEY,
    email         TEXT   NOT NULL UNIQUE,
    password_hash TEXT   NOT NULL,
    role          TEXT   NOT NULL,
    created_at    BIGINT NOT NULL
);

CREATE TABLE invites (
    id         TEXT   NOT NULL PRIMARY KEY,
    code_hash  TEXT   NOT NULL UNIQUE,
    created_by TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_by    TEXT,
    used_at    BIGINT
);

-- One sign-in on one device; its refresh tokens form a family that is revoked together.
CREATE TABLE sessions (
    id         TEXT   NOT NULL PRIMARY KEY,
    user_id    TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE INDEX sessions_by_user ON sessions (user_id);

CREATE TABLE refresh_tokens (
    token_hash TEXT   NOT NULL PRIMARY KEY,
    session_id TEXT   NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at    BIGINT
);
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);

CREATE TABLE conversations (
    id              TEXT   NOT NULL PRIMARY KEY,
    user_id         TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    title           TEXT   NOT NULL,
    model           TEXT,
    head_message_id TEXT,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL
);
CREATE INDEX conversations_by_user ON conversations (user_id, updated_at DESC, id DESC);

CREATE TABLE messages (
    id              TEXT   NOT NULL PRIMARY KEY,
    conversation_id TEXT   NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    -- In the same conversation, with which it goes: a cascade of its own would recurse along the branch.
    parent_id       TEXT,
    role            TEXT   NOT NULL,
    content         TEXT   NOT NULL,
    created_at      BIGINT NOT NULL
);
CREATE INDEX messages_by_conversation ON messages (conversation_id, id);
CREATE INDEX messages_by_parent ON messages (parent_id);

CREATE TABLE generations (
    id              TEXT   NOT NULL PRIMARY KEY,
    conversation_id TEXT   NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    message_id      TEXT   NOT NULL UNIQUE REFERENCES messages (id) ON DELETE CASCADE,
    user_id         TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    model           TEXT   NOT NULL,
    status          TEXT   NOT NULL,
    epoch           BIGINT NOT NULL,
    attempts        BIGINT NOT NULL,
    usage           TEXT,
    error           TEXT,
    created_at      BIGINT NOT NULL,
    finished_at     BIGINT
);
CREATE INDEX generations_by_conversation ON generations (conversation_id);
-- What must be taken up again after a restart: a handful of rows among all that ever were.
CREATE INDEX generations_live ON generations (status) WHERE status IN ('queued', 'running');

-- A start that is sent twice answers with what the first one began; `request` is a digest of what it asked for, so that
-- another one under the same key is told from a repetition.
CREATE TABLE idempotency_keys (
    user_id       TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key           TEXT   NOT NULL,
    request       TEXT   NOT NULL,
    generation_id TEXT   NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    created_at    BIGINT NOT NULL,
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_by_generation ON idempotency_keys (generation_id);
