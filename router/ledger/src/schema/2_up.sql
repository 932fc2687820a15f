-- Plans become rows, what is charged is written down beside what was used, and usage is summed by day as it comes.
CREATE TABLE plans (
    -- A new one with each change: whoever has seen a plan under an id knows all of it.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    tokens_a_month INTEGER CHECK (tokens_a_month >= 0),
    soft_tokens_a_month INTEGER CHECK (soft_tokens_a_month >= 0),
    counts TEXT NOT NULL CHECK (counts IN ('input', 'output', 'both', 'weighted')),
    -- JSON: the weights of models, in thousandths.
    weights TEXT NOT NULL DEFAULT '[]',
    carry_over INTEGER NOT NULL DEFAULT 0 CHECK (carry_over IN (0, 1)),
    requests_a_minute INTEGER CHECK (requests_a_minute > 0),
    tokens_a_minute INTEGER CHECK (tokens_a_minute > 0),
    concurrency INTEGER CHECK (concurrency > 0),
    parameters_below INTEGER CHECK (parameters_below > 0),
    -- JSON: the names of models; none of them means all.
    models TEXT NOT NULL DEFAULT '[]',
    class TEXT NOT NULL CHECK (class IN ('batch', 'chat', 'voice')),
    upstreams INTEGER NOT NULL CHECK (upstreams IN (0, 1))
) STRICT;
INSERT INTO plans (name, tokens_a_month, counts, parameters_below, class, upstreams) VALUES
    ('starter', 1000000, 'both', 9000000000, 'chat', 0),
    ('personal', 10000000, 'both', 15000000000, 'voice', 0),
    ('pro', 50000000, 'both', NULL, 'voice', 1),
    ('unlimited', NULL, 'both', NULL, 'voice', 1);
-- What was not known counted as the smallest.
UPDATE users SET plan = 'starter' WHERE plan NOT IN (SELECT name FROM plans);
UPDATE keys SET plan = 'starter' WHERE plan NOT IN (SELECT name FROM plans);

CREATE TABLE increases (
    id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users (id),
    tokens INTEGER NOT NULL CHECK (tokens > 0),
    ends_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX increases_by_user ON increases (user_id, ends_at);

-- `base` is the plan's own limit, `carried` what the month before left, `allowance` the limit with all of it, as they
-- were when something was last set aside. NULL: no limit.
ALTER TABLE balances ADD COLUMN base INTEGER;
ALTER TABLE balances ADD COLUMN carried INTEGER NOT NULL DEFAULT 0 CHECK (carried >= 0);
ALTER TABLE balances ADD COLUMN allowance INTEGER;

-- `tokens` are the user's. The weights, in thousandths, are those by which it is settled, whatever becomes of the plan.
ALTER TABLE reservations ADD COLUMN key_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE reservations ADD COLUMN user_input INTEGER NOT NULL DEFAULT 1000;
ALTER TABLE reservations ADD COLUMN user_output INTEGER NOT NULL DEFAULT 1000;
ALTER TABLE reservations ADD COLUMN key_input INTEGER NOT NULL DEFAULT 1000;
ALTER TABLE reservations ADD COLUMN key_output INTEGER NOT NULL DEFAULT 1000;
UPDATE reservations SET key_tokens = tokens WHERE key_account;

ALTER TABLE usage ADD COLUMN user_charge INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN key_charge INTEGER NOT NULL DEFAULT 0;
UPDATE usage SET user_charge = prompt_tokens + completion_tokens,
    key_charge = iif(key_account, prompt_tokens + completion_tokens, 0);
DROP INDEX usage_by_day;

CREATE TABLE usage_daily (
    month TEXT NOT NULL,
    day TEXT NOT NULL,
    key_id INTEGER NOT NULL REFERENCES keys (id),
    model TEXT NOT NULL,
    served_by TEXT NOT NULL,
    requests INTEGER NOT NULL CHECK (requests >= 0),
    prompt_tokens INTEGER NOT NULL CHECK (prompt_tokens >= 0),
    cached_tokens INTEGER NOT NULL CHECK (cached_tokens >= 0),
    completion_tokens INTEGER NOT NULL CHECK (completion_tokens >= 0),
    PRIMARY KEY (month, day, key_id, model, served_by)
) STRICT, WITHOUT ROWID;
INSERT INTO usage_daily
    SELECT month, day, key_id, model, served_by, count(*), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens)
    FROM usage GROUP BY month, day, key_id, model, served_by;
