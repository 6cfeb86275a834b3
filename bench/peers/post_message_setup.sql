-- What `post_message.sql` needs, once for a database with Jarvis' schema: 64 clients, each with an account and a conversation that
-- has a message already.
CREATE FUNCTION bench_id(kind text, client int, n bigint) RETURNS text LANGUAGE sql IMMUTABLE
    RETURN '01990000-0000-' || kind || '-' || lpad(client::text, 4, '0') || '-' || lpad(n::text, 12, '0');
INSERT INTO users (id, email, password_hash, role, created_at)
    SELECT bench_id('user', c, 0), bench_id('user', c, 0) || '@example.org', 'none', 'user', 0 FROM generate_series(0, 63) c;
INSERT INTO conversations (id, user_id, title, head_message_id, created_at, updated_at)
    SELECT bench_id('conv', c, 0), bench_id('user', c, 0), 'What is measured', bench_id('told', c, 0), 0, 0 FROM generate_series(0, 63) c;
INSERT INTO messages (id, conversation_id, role, content, created_at)
    SELECT bench_id('told', c, 0), bench_id('conv', c, 0), 'assistant', '', 0 FROM generate_series(0, 63) c;
