-- What other servers take for it, in billionths of the currency, at the price when it was settled.
ALTER TABLE usage ADD COLUMN cost INTEGER NOT NULL DEFAULT 0 CHECK (cost >= 0);
ALTER TABLE usage_daily ADD COLUMN cost INTEGER NOT NULL DEFAULT 0 CHECK (cost >= 0);
