-- Which tables the move is to fill: `all`, `main` or `series`.
ALTER TABLE moves ADD COLUMN part TEXT NOT NULL DEFAULT 'all';
