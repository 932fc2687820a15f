ALTER TABLE reservations DROP COLUMN replica;
