-- Roles, limits of people and keys, ways to sign in, invitations and teams.

-- A team is a holder of an account like a person, whom nobody can sign in as: its role is 'team'.
ALTER TABLE users ADD COLUMN hours TEXT NOT NULL DEFAULT '';
-- JSON: the names of models; none of them means all.
ALTER TABLE users ADD COLUMN models TEXT NOT NULL DEFAULT '[]';
-- Argon2id in the PHC format.
ALTER TABLE users ADD COLUMN password TEXT;
ALTER TABLE users ADD COLUMN removed_at INTEGER;

-- 'page' is the key that a person's sessions are counted under. It has no secret, so that nobody can present it.
ALTER TABLE keys ADD COLUMN kind TEXT NOT NULL DEFAULT 'key' CHECK (kind IN ('key', 'page'));
-- Words with commas between them; none means all that the person's role may.
ALTER TABLE keys ADD COLUMN scopes TEXT NOT NULL DEFAULT '';
ALTER TABLE keys ADD COLUMN models TEXT NOT NULL DEFAULT '[]';
ALTER TABLE keys ADD COLUMN hours TEXT NOT NULL DEFAULT '';
ALTER TABLE keys ADD COLUMN expires_at INTEGER;
-- The secret before the last rotation, which opens until then.
ALTER TABLE keys ADD COLUMN old_hash BLOB;
ALTER TABLE keys ADD COLUMN old_until INTEGER;
ALTER TABLE keys ADD COLUMN used_at INTEGER;
-- Who pays in the person's place.
ALTER TABLE keys ADD COLUMN team_id INTEGER REFERENCES users (id);
CREATE INDEX keys_by_user ON keys (user_id);

CREATE TABLE members (
    team_id INTEGER NOT NULL REFERENCES users (id),
    user_id INTEGER NOT NULL REFERENCES users (id),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (team_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    public_id TEXT NOT NULL UNIQUE,
    hash BLOB NOT NULL,
    key_id INTEGER NOT NULL REFERENCES keys (id),
    agent TEXT NOT NULL,
    address TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_key ON sessions (key_id);

CREATE TABLE second_factors (
    user_id INTEGER PRIMARY KEY REFERENCES users (id),
    -- The secret is derived from this and the secret of the box, which is not in this file.
    nonce BLOB NOT NULL CHECK (length(nonce) = 16),
    confirmed_at INTEGER,
    -- The last time step whose code was used; it is not used again, nor is one before it.
    last_step INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE recovery_codes (
    user_id INTEGER NOT NULL REFERENCES users (id),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    used_at INTEGER,
    PRIMARY KEY (user_id, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE invitations (
    id INTEGER PRIMARY KEY,
    public_id TEXT NOT NULL UNIQUE,
    hash BLOB NOT NULL,
    -- The name of whoever is invited, where it was given.
    name TEXT,
    role TEXT NOT NULL,
    plan TEXT NOT NULL,
    team_id INTEGER REFERENCES users (id),
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    user_id INTEGER REFERENCES users (id),
    revoked_at INTEGER
) STRICT;
