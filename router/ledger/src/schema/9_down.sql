-- The version before lets nobody in by any of these.
DROP TABLE password_links;
DROP TABLE identities;
DROP TABLE passkeys;
