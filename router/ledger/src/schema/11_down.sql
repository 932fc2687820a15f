ALTER TABLE plans DROP COLUMN upstream_budget;
ALTER TABLE reservations DROP COLUMN price_output;
ALTER TABLE reservations DROP COLUMN price_cached;
ALTER TABLE reservations DROP COLUMN price_input;
ALTER TABLE reservations DROP COLUMN cost;
DROP TABLE spending;
