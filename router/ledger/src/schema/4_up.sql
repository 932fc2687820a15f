-- What somebody is to be told of, written in the transaction that it follows from, and what became of telling them.
CREATE TABLE alerts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Its name for those who are told: the same each time it is tried.
    id TEXT NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    user_id INTEGER REFERENCES users (id),
    -- JSON.
    detail TEXT NOT NULL,
    -- It is known to whom it goes.
    planned INTEGER NOT NULL DEFAULT 0 CHECK (planned IN (0, 1))
) STRICT;
CREATE INDEX alerts_to_plan ON alerts (seq) WHERE planned = 0;
-- What is told once.
CREATE TABLE alerts_told (
    what TEXT PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE deliveries (
    alert INTEGER NOT NULL REFERENCES alerts (seq) ON DELETE CASCADE,
    channel TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'dead')),
    tries INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL,
    error TEXT,
    PRIMARY KEY (alert, channel)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 'waiting';
