DROP TABLE deliveries;
DROP TABLE alerts_told;
DROP TABLE alerts;
DELETE FROM settings WHERE name IN ('alert_percents', 'last_backup');
