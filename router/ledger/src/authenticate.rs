//! Who presents a key or a session.

use std::sync::{Arc, LazyLock};

use subtle::ConstantTimeEq;

use crate::error::{AuthError, LedgerError};
use crate::hours::Hours;
use crate::key::{Presented, Principal, UpstreamPolicy};
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::role::{Role, Scopes};
use crate::sessions;
use crate::sql::{Connection, Row};

/// All that is known of whoever a key belongs to. A key is bound to its person and to itself; a team may pay.
const SELECT: &str = "SELECT keys.id, users.id, keys.public_id, users.name, users.role, keys.upstreams, users.salt,
    keys.scopes, users.models, keys.models, users.hours, keys.hours, keys.team_id, team.name, user_plan.id, key_plan.id,
    keys.revoked_at, keys.expires_at";
const FROM: &str = "JOIN users ON users.id = keys.user_id LEFT JOIN users AS team ON team.id = keys.team_id
    JOIN plans AS user_plan ON user_plan.name = coalesce(team.plan, users.plan)
    LEFT JOIN plans AS key_plan ON key_plan.name = keys.plan";

// Each request asks one of these: the text is put together once.
static BY_ID: LazyLock<String> = LazyLock::new(|| format!("{SELECT} FROM keys {FROM} WHERE keys.public_id = ?1"));
static BY_KEY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{SELECT}, keys.hash, keys.old_hash, keys.old_until FROM keys {FROM}
         WHERE keys.public_id = ?1 AND keys.kind = 'key'"
    )
});
static BY_SESSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{SELECT}, sessions.hash, sessions.id, sessions.expires_at
         FROM sessions JOIN keys ON keys.id = sessions.key_id {FROM} WHERE sessions.public_id = ?1"
    )
});

/// A key as it is found, and whether it opens.
struct Found {
    principal: Principal,
    revoked: bool,
    expires_at: Option<i64>,
}

impl Ledger {
    /// Who a key belongs to that was presented before, by its public id.
    ///
    /// # Errors
    /// [`AuthError`] when it opens no more.
    pub fn principal(&self, public_id: &str) -> Result<Principal, AuthError> {
        let found = self.read(|connection| {
            let mut statement = connection.prepare_cached(&BY_ID)?;
            let mut rows = statement.query([public_id])?;
            rows.next()?.map(|row| self.found(connection, row)).transpose()
        })?;
        self.opened(found.ok_or(AuthError::Unknown)?)
    }

    /// Who presents this key.
    ///
    /// # Errors
    /// [`AuthError`] when it does not open.
    pub fn authenticate(&self, presented: &str) -> Result<Principal, AuthError> {
        let presented = Presented::parse(presented)?;
        let now = self.clock().seconds();
        let (found, hashes) = self.read(|connection| {
            let mut statement = connection.prepare_cached(&BY_KEY)?;
            let mut rows = statement.query([presented.public_id])?;
            let Some(row) = rows.next()? else { return Ok((None, [[0; 32]; 2])) };
            let hash: [u8; 32] = row.get(18)?;
            let old: Option<[u8; 32]> = row.get(19)?;
            let old = old.filter(|_| row.get::<Option<i64>>(20).is_ok_and(|until| until > Some(now)));
            Ok((Some(self.found(connection, row)?), [hash, old.unwrap_or(hash)]))
        })?;
        // An unknown id compares too, so that the time tells nothing.
        let hash = presented.hash();
        let opens = bool::from(hash.ct_eq(&hashes[0]) | hash.ct_eq(&hashes[1]));
        let found = found.filter(|_| opens).ok_or(AuthError::Unknown)?;
        let principal = self.opened(found)?;
        self.note_use(principal.key, None);
        Ok(principal)
    }

    /// Who is signed in with this.
    ///
    /// # Errors
    /// [`AuthError::SignedOut`] when nobody is, and when the ledger cannot be read.
    pub fn session(&self, presented: &str) -> Result<Principal, AuthError> {
        let presented = Presented::after(sessions::PREFIX, presented).map_err(|_| AuthError::SignedOut)?;
        let now = self.clock().seconds();
        let found = self.read(|connection| {
            let mut statement = connection.prepare_cached(&BY_SESSION)?;
            let mut rows = statement.query([presented.public_id])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let (hash, session, ends): ([u8; 32], i64, i64) = (row.get(18)?, row.get(19)?, row.get(20)?);
            Ok(Some((self.found(connection, row)?, hash, session, ends)))
        })?;
        let hash = found.as_ref().map_or([0; 32], |(_, hash, ..)| *hash);
        let opens = bool::from(presented.hash().ct_eq(&hash));
        match found {
            Some((found, _, session, ends)) if opens && ends > now => {
                let mut principal = self.opened(found).map_err(|error| match error {
                    AuthError::Ledger(error) => AuthError::Ledger(error),
                    _ => AuthError::SignedOut,
                })?;
                principal.session = Some(presented.public_id.to_owned());
                self.note_use(principal.key, Some(session));
                Ok(principal)
            }
            _ => Err(AuthError::SignedOut),
        }
    }

    /// A key that may open, where it still does.
    fn opened(&self, found: Found) -> Result<Principal, AuthError> {
        if found.revoked {
            return Err(AuthError::Revoked);
        }
        if found.expires_at.is_some_and(|end| end <= self.clock().seconds()) {
            return Err(AuthError::Expired);
        }
        Ok(found.principal)
    }

    fn found(&self, connection: &Connection, row: Row<'_>) -> Result<Found, LedgerError> {
        let user_plan = self.known_plan(connection, row.get(14)?)?;
        let key_plan = row.get::<Option<i64>>(15)?.map(|id| self.known_plan(connection, id)).transpose()?;
        let mut principal = principal(row, user_plan, key_plan)?;
        principal.closed = self.closed([row.text(10), row.text(11)]);
        let expires_at: Option<i64> = row.get(17)?;
        let has_hours = !row.text(11).is_empty();
        let has_models = !principal.models[1].is_empty();
        principal.is_bound = principal.key_plan.is_some() || has_models || has_hours || expires_at.is_some();
        principal.past_soft_limit = self.is_past_soft_limit(connection, &principal)?;
        let revoked = row.get::<Option<i64>>(16)?.is_some();
        Ok(Found { principal, revoked, expires_at })
    }

    /// Whether this is none of the hours of a person and a key; when it will be.
    fn closed(&self, hours: [&str; 2]) -> Option<Option<i64>> {
        let mut limited = hours.into_iter().filter(|text| !text.is_empty()).peekable();
        limited.peek()?;
        let now = self.now_in_zone();
        // Hours that cannot be read are none: nothing is open.
        let all: Option<Vec<Hours>> = limited.map(|text| text.parse().ok()).collect();
        let Some(all) = all else { return Some(None) };
        let shut = all.iter().filter(|hours| !hours.contain(&now));
        let opens: Vec<Option<i64>> = shut.map(|hours| hours.begin_after(&now)).collect();
        (!opens.is_empty()).then(|| opens.into_iter().flatten().max())
    }
}

fn principal(row: Row<'_>, user_plan: Arc<Plan>, key_plan: Option<Arc<Plan>>) -> Result<Principal, LedgerError> {
    let user: i64 = row.get(1)?;
    let models = |index| -> Result<Vec<String>, LedgerError> {
        let text = row.text(index);
        if text == "[]" {
            return Ok(Vec::new());
        }
        serde_json::from_str(text)
            .map_err(|error| LedgerError::Damaged(format!("the models of a person or key: {error}")))
    };
    Ok(Principal {
        key: row.get(0)?,
        payer: row.get::<Option<i64>>(12)?.unwrap_or(user),
        key_id: row.get(2)?,
        user_name: row.get(3)?,
        role: Role::from_text(row.text(4)),
        team: row.get(13)?,
        user_plan,
        key_plan,
        upstreams: UpstreamPolicy::from_text(row.text(5)),
        scopes: Scopes::from_text(&row.get::<String>(7)?),
        models: [models(8)?, models(9)?],
        closed: None,
        is_bound: false,
        session: None,
        salt: row.get::<i64>(6)?.cast_unsigned(),
        past_soft_limit: false,
    })
}
