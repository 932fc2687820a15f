//! Invitations: a secret in a link makes somebody a person of this box, once.

use serde::Serialize;
use serde_json::json;
use subtle::ConstantTimeEq;

use crate::audit::{self, Act};
use crate::error::LedgerError;
use crate::identities::{self, NewIdentity};
use crate::key::{CreatedKey, Presented};
use crate::ledger::Ledger;
use crate::people::{self, checked_name, governs};
use crate::plans;
use crate::role::Role;
use crate::sql::{self, Connection, NONE, OptionalExtension, Row, params};
use crate::teams;

/// Begins every invitation's secret.
const PREFIX: &str = "allerac-invitation-";
/// The longest time that an invitation is open, in seconds: 90 days.
const OPEN_MAX_S: i64 = 90 * 24 * 3600;
/// Invitations that are open.
const OPEN_MAX: i64 = 10_000;

/// An invitation to be made.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// The name of whoever is invited; who has none given chooses one.
    pub name: Option<String>,
    /// What they become.
    pub role: Role,
    /// The plan that they get.
    pub plan: String,
    /// The team that they become a member of.
    pub team: Option<String>,
    /// How long it is open, in seconds.
    pub open_s: i64,
}

/// By what whoever takes an invitation will sign in.
#[derive(Debug, Clone)]
pub enum Proof {
    /// A password, hashed already.
    Password(String),
    /// Another provider.
    Identity(NewIdentity),
}

/// What whoever is invited is told.
#[derive(Debug, Clone, Serialize)]
pub struct Invited {
    /// The name that was given.
    pub name: Option<String>,
    /// What they become.
    pub role: Role,
    /// The plan that they get.
    pub plan: String,
    /// The team that they become a member of.
    pub team: Option<String>,
    /// Until when it is open, in seconds since 1970.
    pub expires_at: i64,
}

/// An invitation as it is listed.
#[derive(Debug, Clone, Serialize)]
pub struct InvitationRow {
    /// The part that may be shown.
    pub id: String,
    /// What it says.
    #[serde(flatten)]
    pub invited: Invited,
    /// Who made it.
    pub created_by: String,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Who took it.
    pub user: Option<String>,
    /// Seconds since 1970, when it was taken.
    pub used_at: Option<i64>,
    /// Seconds since 1970, when it was taken back.
    pub revoked_at: Option<i64>,
}

impl Ledger {
    /// Makes an invitation. `by` is the role of whoever does it, `creator` their name.
    ///
    /// # Errors
    /// [`LedgerError::InvalidName`], [`LedgerError::UnknownPlan`], [`LedgerError::Forbidden`],
    /// [`LedgerError::Invalid`], [`LedgerError::Conflict`], and when it cannot be written.
    pub async fn invite(&self, new: Invitation, by: Role, creator: &str) -> Result<CreatedKey, LedgerError> {
        governs(by, new.role)?;
        let name = new.name.as_deref().map(checked_name).transpose()?;
        if !(1..=OPEN_MAX_S).contains(&new.open_s) {
            let reason = format!("an invitation is open for 1 to {OPEN_MAX_S} seconds");
            return Err(LedgerError::Invalid { field: "expires_in_seconds", reason });
        }
        let (invitation, creator) = (CreatedKey::beginning_with(PREFIX), creator.to_owned());
        let (made, now, actor) = (invitation.clone(), self.now().seconds, self.actor());
        let written = self.writer.call(move |connection| {
            if plans::find(connection, &new.plan)?.is_none() {
                return Ok(Err(LedgerError::UnknownPlan(new.plan.clone())));
            }
            if let Some(name) = &name
                && people::is_taken(connection, name)?
            {
                return Ok(Err(people::taken(name)));
            }
            let team = match &new.team {
                None => None,
                Some(name) => match teams::find(connection, name)? {
                    Some((team, _)) => Some(team),
                    None => return Ok(Err(LedgerError::Missing { what: "team", id: name.clone() })),
                },
            };
            let open = "SELECT count(*) FROM invitations WHERE used_at IS NULL AND revoked_at IS NULL AND expires_at > ?1";
            if connection.query_row(open, [now], |row| row.get::<i64>(0))? >= OPEN_MAX {
                let reason = format!("{OPEN_MAX} invitations are open already; take some back");
                return Ok(Err(LedgerError::Conflict { code: "too_many_invitations", reason }));
            }
            connection
                .prepare_cached(
                    "INSERT INTO invitations (public_id, hash, name, role, plan, team_id, created_by, created_at, expires_at,
                     by_admin) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )?
                .execute(params![
                    made.public_id,
                    made.hash(),
                    name,
                    new.role.as_str(),
                    new.plan,
                    team,
                    creator,
                    now,
                    now + new.open_s,
                    by != Role::Owner
                ])?;
            let detail = json!({"name": name, "role": new.role, "plan": new.plan, "team": new.team});
            let act = Act { at: now, actor: &actor, action: "invitation.create", subject: &made.public_id, detail };
            audit::note(connection, act)?;
            Ok(Ok(()))
        });
        written.await??;
        Ok(invitation)
    }

    /// What an invitation says.
    ///
    /// # Errors
    /// [`LedgerError::Missing`] when it is none, or none that is open, and when the ledger cannot be read.
    pub fn invited(&self, presented: &str) -> Result<Invited, LedgerError> {
        let now = self.clock().seconds();
        let found = self.read(|connection| open(connection, presented, now))?;
        found.map(|(_, row)| row.invited).ok_or_else(no_invitation)
    }

    /// Makes whoever has an invitation a person of this box. Their name.
    ///
    /// # Errors
    /// [`LedgerError::Missing`] when it is not open, [`LedgerError::InvalidName`], [`LedgerError::Conflict`] where the
    /// name is taken or the provider means somebody here, and when it cannot be written.
    pub async fn accept(&self, presented: &str, name: &str, proof: Proof) -> Result<String, LedgerError> {
        let (presented, chosen) = (presented.to_owned(), name.to_owned());
        let now = self.now().seconds;
        let accepted = self.writer.call(move |connection| {
            let Some((id, row)) = open(connection, &presented, now)? else { return Ok(Err(no_invitation())) };
            let Invited { name: given, role, plan, team, .. } = &row.invited;
            let name = match given.clone().map_or_else(|| checked_name(&chosen), Ok) {
                Ok(name) => name,
                Err(refused) => return Ok(Err(refused)),
            };
            let name = &name;
            let actor = format!("invitation {}", row.id);
            if let Proof::Identity(identity) = &proof
                && let Err(refused) = identities::is_free(connection, identity)?
            {
                return Ok(Err(refused));
            }
            let user = match people::add(connection, name, (*role, plan), (&actor, now))? {
                Ok(user) => user,
                Err(refused) => return Ok(Err(refused)),
            };
            match &proof {
                Proof::Password(hash) => {
                    let mut set = connection.prepare_cached("UPDATE users SET password = ?2 WHERE id = ?1")?;
                    set.execute(params![user, hash])?;
                }
                Proof::Identity(identity) => {
                    identities::insert(connection, (user, name), identity, (&actor, now))?;
                }
            }
            if let Some(team) = team
                && let Some((team, _)) = teams::find(connection, team)?
            {
                teams::join(connection, team, user, now)?;
            }
            // Whoever made the link may have opened it.
            connection
                .prepare_cached(
                    "UPDATE users SET admin_knows = (SELECT by_admin FROM invitations WHERE id = ?2) WHERE id = ?1",
                )?
                .execute([user, id])?;
            connection
                .prepare_cached("UPDATE invitations SET used_at = ?2, user_id = ?3 WHERE id = ?1")?
                .execute(params![id, now, user])?;
            let (action, detail) = ("invitation.accept", json!({"user": name}));
            audit::note(connection, Act { at: now, actor: &actor, action, subject: &row.id, detail })?;
            Ok(Ok(name.clone()))
        });
        accepted.await?
    }

    /// All invitations, oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn invitations(&self) -> Result<Vec<InvitationRow>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY invitations.id"))?;
            let rows = statement.query_map(NONE, row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Takes an invitation back that nobody took. `by` is the role of whoever does it.
    ///
    /// # Errors
    /// [`LedgerError::Missing`], [`LedgerError::Forbidden`], [`LedgerError::Conflict`] where it was taken, and when it
    /// cannot be written.
    pub async fn revoke_invitation(&self, id: &str, by: Role) -> Result<(), LedgerError> {
        let (id, actor, at) = (id.to_owned(), self.actor(), self.now().seconds);
        let revoked = self.writer.call(move |connection| {
            let query = format!("{SELECT} WHERE invitations.public_id = ?1");
            let Some(found) = connection.prepare_cached(&query)?.query_row([&id], row).optional()? else {
                return Ok(Err(LedgerError::Missing { what: "invitation", id: id.clone() }));
            };
            if let Err(refused) = governs(by, found.invited.role) {
                return Ok(Err(refused));
            }
            if found.used_at.is_some() {
                let reason = format!("the invitation {id} was taken; remove the person instead");
                return Ok(Err(LedgerError::Conflict { code: "invitation_used", reason }));
            }
            connection
                .prepare_cached("UPDATE invitations SET revoked_at = coalesce(revoked_at, ?2) WHERE public_id = ?1")?
                .execute(params![id, at])?;
            let act = Act { at, actor: &actor, action: "invitation.revoke", subject: &id, detail: json!({}) };
            audit::note(connection, act)?;
            Ok(Ok(()))
        });
        revoked.await?
    }
}

fn no_invitation() -> LedgerError {
    LedgerError::Missing { what: "open invitation", id: "like this: it was taken, taken back, or is too old".into() }
}

const SELECT: &str = "SELECT invitations.public_id, invitations.name, invitations.role, invitations.plan, team.name,
    invitations.expires_at, created_by, invitations.created_at, users.name, invitations.used_at, invitations.revoked_at
    FROM invitations LEFT JOIN users ON users.id = invitations.user_id LEFT JOIN users AS team ON team.id = team_id";

/// The invitation of a secret, where it is open.
fn open(connection: &Connection, presented: &str, now: i64) -> Result<Option<(i64, InvitationRow)>, LedgerError> {
    let Ok(presented) = Presented::after(PREFIX, presented.trim()) else { return Ok(None) };
    let mut statement = connection.prepare_cached("SELECT id, hash FROM invitations WHERE public_id = ?1")?;
    let found = statement.query_row([presented.public_id], |row| Ok((row.get(0)?, row.get::<[u8; 32]>(1)?)));
    let Some((id, hash)) = found.optional()? else { return Ok(None) };
    if !bool::from(presented.hash().ct_eq(&hash)) {
        return Ok(None);
    }
    let query = format!("{SELECT} WHERE invitations.id = ?1");
    let found = connection.prepare_cached(&query)?.query_row([id], row)?;
    let is_open = found.used_at.is_none() && found.revoked_at.is_none() && found.invited.expires_at > now;
    Ok(is_open.then_some((id, found)))
}

fn row(row: Row<'_>) -> sql::Result<InvitationRow> {
    let role: String = row.get(2)?;
    Ok(InvitationRow {
        id: row.get(0)?,
        invited: Invited {
            name: row.get(1)?,
            role: Role::from_text(&role),
            plan: row.get(3)?,
            team: row.get(4)?,
            expires_at: row.get(5)?,
        },
        created_by: row.get(6)?,
        created_at: row.get(7)?,
        user: row.get(8)?,
        used_at: row.get(9)?,
        revoked_at: row.get(10)?,
    })
}
