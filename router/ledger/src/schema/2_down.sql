DROP TABLE usage_daily;
CREATE INDEX usage_by_day ON usage (day, key_id, model);
ALTER TABLE usage DROP COLUMN user_charge;
ALTER TABLE usage DROP COLUMN key_charge;
ALTER TABLE reservations DROP COLUMN key_tokens;
ALTER TABLE reservations DROP COLUMN user_input;
ALTER TABLE reservations DROP COLUMN user_output;
ALTER TABLE reservations DROP COLUMN key_input;
ALTER TABLE reservations DROP COLUMN key_output;
ALTER TABLE balances DROP COLUMN base;
ALTER TABLE balances DROP COLUMN carried;
ALTER TABLE balances DROP COLUMN allowance;
DROP TABLE increases;
-- There, each token counts as one.
UPDATE balances SET used = 0, reserved = 0;
UPDATE balances SET used = (SELECT coalesce(sum(prompt_tokens + completion_tokens), 0) FROM usage
    WHERE account = 'user:' || user_id AND balances.month = usage.month) WHERE account LIKE 'user:%';
UPDATE balances SET used = (SELECT coalesce(sum(prompt_tokens + completion_tokens), 0) FROM usage
    WHERE account = 'key:' || key_id AND key_account AND balances.month = usage.month) WHERE account LIKE 'key:%';
UPDATE balances SET reserved = (SELECT coalesce(sum(tokens), 0) FROM reservations
    WHERE account = 'user:' || user_id AND balances.month = reservations.month) WHERE account LIKE 'user:%';
UPDATE balances SET reserved = (SELECT coalesce(sum(tokens), 0) FROM reservations
    WHERE account = 'key:' || key_id AND key_account AND balances.month = reservations.month) WHERE account LIKE 'key:%';
-- And there are four plans.
UPDATE users SET plan = 'starter' WHERE plan NOT IN ('starter', 'personal', 'pro', 'unlimited');
UPDATE keys SET plan = 'starter' WHERE plan NOT IN ('starter', 'personal', 'pro', 'unlimited');
DROP TABLE plans;
