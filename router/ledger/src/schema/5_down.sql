DROP INDEX usage_by_begin;
DROP TABLE usage_monthly;
ALTER TABLE usage_daily RENAME TO usage_daily_after;
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
    SELECT month, day, key_id, model, served_by, sum(requests), sum(prompt_tokens), sum(cached_tokens),
        sum(completion_tokens)
    FROM usage_daily_after GROUP BY month, day, key_id, model, served_by;
DROP TABLE usage_daily_after;
