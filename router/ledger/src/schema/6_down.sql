ALTER TABLE usage DROP COLUMN cost;
ALTER TABLE usage_daily DROP COLUMN cost;
DELETE FROM settings WHERE name IN ('prices', 'currency');
