-- Sums of days know the endpoint, and of a month there are sums too: what is asked of a year reads hundreds of rows, not
-- a hundred thousand. What is asked by the hour or the minute is found by when a request began.
ALTER TABLE usage_daily RENAME TO usage_daily_before;
CREATE TABLE usage_daily (
    month TEXT NOT NULL,
    day TEXT NOT NULL,
    key_id INTEGER NOT NULL REFERENCES keys (id),
    model TEXT NOT NULL,
    served_by TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    requests INTEGER NOT NULL CHECK (requests >= 0),
    prompt_tokens INTEGER NOT NULL CHECK (prompt_tokens >= 0),
    cached_tokens INTEGER NOT NULL CHECK (cached_tokens >= 0),
    completion_tokens INTEGER NOT NULL CHECK (completion_tokens >= 0),
    PRIMARY KEY (month, day, key_id, model, served_by, endpoint)
) STRICT, WITHOUT ROWID;
INSERT INTO usage_daily
    SELECT month, day, key_id, model, served_by, endpoint, count(*), sum(prompt_tokens), sum(cached_tokens),
        sum(completion_tokens)
    FROM usage GROUP BY month, day, key_id, model, served_by, endpoint;
DROP TABLE usage_daily_before;
CREATE TABLE usage_monthly (
    month TEXT NOT NULL,
    key_id INTEGER NOT NULL REFERENCES keys (id),
    model TEXT NOT NULL,
    requests INTEGER NOT NULL CHECK (requests >= 0),
    prompt_tokens INTEGER NOT NULL CHECK (prompt_tokens >= 0),
    cached_tokens INTEGER NOT NULL CHECK (cached_tokens >= 0),
    completion_tokens INTEGER NOT NULL CHECK (completion_tokens >= 0),
    PRIMARY KEY (month, key_id, model)
) STRICT, WITHOUT ROWID;
INSERT INTO usage_monthly
    SELECT month, key_id, model, sum(requests), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens)
    FROM usage_daily GROUP BY month, key_id, model;
CREATE INDEX usage_by_begin ON usage (created_at);
