-- What is spent on other servers in a month, in billionths of the currency: by each account, and of each server's own
-- budget. An account is 'user:ID', 'key:ID' for a key with a plan of its own, or 'upstream:NAME'. `budget` is the limit as it
-- was when something was last set aside. NULL: no limit.
CREATE TABLE spending (
    account TEXT COLLATE "C" NOT NULL,
    month TEXT COLLATE "C" NOT NULL,
    used BIGINT NOT NULL DEFAULT 0 CHECK (used >= 0),
    reserved BIGINT NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    budget BIGINT,
    PRIMARY KEY (account, month)
);
INSERT INTO spending (account, month, used)
    SELECT 'user:' || user_id, month, sum(cost) FROM usage WHERE cost > 0 GROUP BY user_id, month;
INSERT INTO spending (account, month, used)
    SELECT 'key:' || key_id, month, sum(cost) FROM usage WHERE cost > 0 AND key_account <> 0 GROUP BY key_id, month;
INSERT INTO spending (account, month, used)
    SELECT served_by, month, sum(cost) FROM usage WHERE cost > 0 GROUP BY served_by, month;

-- What is set aside of that, and the prices of a token by which it is settled, whatever becomes of them.
ALTER TABLE reservations ADD COLUMN cost BIGINT NOT NULL DEFAULT 0 CHECK (cost >= 0);
ALTER TABLE reservations ADD COLUMN price_input BIGINT NOT NULL DEFAULT 0;
ALTER TABLE reservations ADD COLUMN price_cached BIGINT NOT NULL DEFAULT 0;
ALTER TABLE reservations ADD COLUMN price_output BIGINT NOT NULL DEFAULT 0;

ALTER TABLE plans ADD COLUMN upstream_budget BIGINT CHECK (upstream_budget >= 0);
-- A preset is bounded where nobody has come to rely on its not being so.
UPDATE plans SET upstream_budget = 20000000000 WHERE name = 'pro' AND NOT EXISTS (SELECT 1 FROM usage WHERE cost > 0);
