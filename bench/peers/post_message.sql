-- One message posted to a conversation, for pgbench: the statements, rows and values of Jarvis' own transaction
-- (crates/store/src/sql/generations.rs, `begin`). Of the variables: `instance` holds a lease, `model` and `content` are
-- texts, `n` begins where no earlier run has been. `bench_id` makes identifiers as long as UUIDs that rise with `n`.
\set n :n + 1
\set now 1790000000000000 + :n
BEGIN;
SELECT head_message_id AS head FROM conversations WHERE id = bench_id('conv', :client_id, 0) AND user_id = bench_id('user', :client_id, 0) FOR UPDATE \gset
INSERT INTO messages (id, conversation_id, parent_id, role, content, created_at) VALUES (bench_id('said', :client_id, :n), bench_id('conv', :client_id, 0), :head::text, 'user', :content::text, :now), (bench_id('told', :client_id, :n), bench_id('conv', :client_id, 0), bench_id('said', :client_id, :n), 'assistant', '', :now);
INSERT INTO generations (id, conversation_id, message_id, user_id, model, status, epoch, attempts, created_at, owner) VALUES (bench_id('made', :client_id, :n), bench_id('conv', :client_id, 0), bench_id('told', :client_id, :n), bench_id('user', :client_id, 0), :model::text, 'queued', 1, 1, :now, (SELECT id FROM instances WHERE id = :instance::text));
UPDATE conversations SET head_message_id = bench_id('told', :client_id, :n), updated_at = :now WHERE id = bench_id('conv', :client_id, 0);
INSERT INTO idempotency_keys (user_id, key, request, generation_id, created_at) VALUES (bench_id('user', :client_id, 0), bench_id('keys', :client_id, :n), '0f8d2c5e7a9b1346c8e0d2f4a6b8c0e2d4f6a8b0c2e4d6f8a0b2c4d6e8f0a2b4', bench_id('made', :client_id, :n), :now);
UPDATE users SET list_version = list_version + 1 WHERE id = bench_id('user', :client_id, 0);
COMMIT;
