-- Ways to sign in beside a password: passkeys, other providers (OpenID Connect), and links by which a password is set.

CREATE TABLE passkeys (
    id INTEGER PRIMARY KEY,
    public_id TEXT NOT NULL UNIQUE,
    user_id INTEGER NOT NULL REFERENCES users (id),
    -- The name of the box that the page was reached by, to which the device keeps.
    host TEXT NOT NULL,
    -- What the device calls it.
    credential BLOB NOT NULL,
    -- As COSE has it (RFC 9052).
    public_key BLOB NOT NULL,
    label TEXT NOT NULL,
    -- How often the device signed with it; 0 where it does not count.
    counter INTEGER NOT NULL CHECK (counter >= 0),
    synced INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    used_at INTEGER,
    UNIQUE (host, credential)
) STRICT;
CREATE INDEX passkeys_by_user ON passkeys (user_id);

-- Whom a provider calls how. Of who is removed it stays, so that they are not taken for somebody new.
CREATE TABLE identities (
    id INTEGER PRIMARY KEY,
    public_id TEXT NOT NULL UNIQUE,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id INTEGER NOT NULL REFERENCES users (id),
    -- What the provider said of their name or address last.
    label TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    used_at INTEGER,
    -- Since when it lets nobody in. It stays, so that they are not taken for somebody new.
    unlinked_at INTEGER,
    UNIQUE (issuer, subject)
) STRICT;
CREATE INDEX identities_by_user ON identities (user_id);

-- One a person: another takes its place.
CREATE TABLE password_links (
    user_id INTEGER PRIMARY KEY REFERENCES users (id),
    public_id TEXT NOT NULL UNIQUE,
    hash BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
