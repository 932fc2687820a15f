-- What requests took of the box beside tokens: millionths of a joule, millionths of a second of processors, and billionths
-- of the currency for electricity and for the machine. It is known a moment after a request is settled.
ALTER TABLE usage ADD COLUMN energy_uj BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN cpu_us BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN electricity BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN machine BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_daily ADD COLUMN energy_uj BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_daily ADD COLUMN cpu_us BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_daily ADD COLUMN electricity BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_daily ADD COLUMN machine BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_monthly ADD COLUMN energy_uj BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_monthly ADD COLUMN cpu_us BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_monthly ADD COLUMN electricity BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_monthly ADD COLUMN machine BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_monthly ADD COLUMN cost BIGINT NOT NULL DEFAULT 0;
UPDATE usage_monthly SET cost = coalesce((SELECT sum(cost) FROM usage_daily AS days
    WHERE days.month = usage_monthly.month AND days.key_id = usage_monthly.key_id AND days.model = usage_monthly.model), 0);

-- What the box took while no request was computed.
CREATE TABLE own_energy (
    day TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    month TEXT COLLATE "C" NOT NULL,
    energy_uj BIGINT NOT NULL,
    electricity BIGINT NOT NULL
);

-- What somebody may keep: files, responses, batches.
ALTER TABLE plans ADD COLUMN storage_bytes BIGINT;
UPDATE plans SET storage_bytes = 5000000000 WHERE name = 'starter';
UPDATE plans SET storage_bytes = 50000000000 WHERE name = 'personal';
UPDATE plans SET storage_bytes = 200000000000 WHERE name = 'pro';
-- Until now everybody could keep files of so much.
UPDATE plans SET storage_bytes = 1073741824 WHERE name NOT IN ('starter', 'personal', 'pro', 'unlimited');

-- Whether an admin had a secret of somebody in hand: whoever then becomes more than an admin governs begins anew. Where there
-- is an admin, or was one, nobody noted what they had in hand before.
ALTER TABLE users ADD COLUMN admin_knows BIGINT NOT NULL DEFAULT 0;
UPDATE users SET admin_knows = 1 WHERE EXISTS (SELECT 1 FROM users AS others WHERE others.role = 'admin')
    OR EXISTS (SELECT 1 FROM audit WHERE detail LIKE '%"admin"%');
ALTER TABLE invitations ADD COLUMN by_admin BIGINT NOT NULL DEFAULT 0;
UPDATE invitations SET by_admin = 1 WHERE created_by IN (SELECT name FROM users WHERE role <> 'owner');
