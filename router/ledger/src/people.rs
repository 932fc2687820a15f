//! People: who claims the box, who is added, changed and removed.

use serde_json::json;

use crate::audit::{self, Act};
use crate::error::LedgerError;
use crate::hours::Hours;
use crate::key::{CreatedKey, KeyLimits, UpstreamPolicy, random_bytes};
use crate::keys::{NewRow, insert_key};
use crate::ledger::Ledger;
use crate::password_links;
use crate::plan::{DEFAULT_PLAN, OWNER_PLAN, check_models};
use crate::plans;
use crate::role::{Right, Role};
use crate::sessions;
use crate::sql::{Connection, NONE, OptionalExtension, params};

/// The longest name or label, in characters.
const NAME_CHARS_MAX: usize = 64;
/// The role of a team, which no person has.
pub(crate) const TEAM: &str = "team";

/// What is to be changed about somebody; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct PersonChange {
    /// What they are called.
    pub name: Option<String>,
    /// The role.
    pub role: Option<Role>,
    /// The plan.
    pub plan: Option<String>,
    /// When they may use the box.
    pub hours: Option<Hours>,
    /// The models that they may use; all where there is none.
    pub models: Option<Vec<String>>,
}

/// What is needed to let somebody sign in.
#[derive(Debug, Clone)]
pub struct Login {
    /// The person.
    pub user: i64,
    /// The name as it is written.
    pub name: String,
    /// What is kept of the password.
    pub password: Option<String>,
    /// Whether a second factor is asked for.
    pub second_factor: bool,
}

/// Somebody as they are in the books.
pub(crate) struct Person {
    pub(crate) id: i64,
    pub(crate) role: Role,
    pub(crate) plan: String,
    /// Whether an admin had a secret of theirs in hand.
    admin_knows: bool,
}

impl Ledger {
    /// Whether somebody owns this box.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn is_claimed(&self) -> Result<bool, LedgerError> {
        self.read(has_owner)
    }

    /// Makes the first person the owner, without limits, and gives them a key that stays on the box.
    ///
    /// # Errors
    /// [`LedgerError::AlreadyClaimed`], [`LedgerError::InvalidName`], and when it cannot be written.
    pub async fn claim(&self, owner: &str) -> Result<CreatedKey, LedgerError> {
        let owner = checked_name(owner)?;
        let key = CreatedKey::random();
        let (created, now) = (key.clone(), self.now().seconds);
        let claimed = self.writer.call(move |connection| {
            if has_owner(connection)? {
                return Ok(Err(LedgerError::AlreadyClaimed));
            }
            let user = match person(connection, &owner)? {
                Some(known) => {
                    connection
                        .prepare_cached("UPDATE users SET role = 'owner', plan = ?2 WHERE id = ?1")?
                        .execute(params![known.id, OWNER_PLAN])?;
                    known.id
                }
                None if is_taken(connection, &owner)? => return Ok(Err(taken(&owner))),
                None => insert_user(connection, &owner, (Role::Owner, OWNER_PLAN), now)?,
            };
            let detail = json!({"user": owner, "plan": OWNER_PLAN});
            audit::note(
                connection,
                Act { at: now, actor: "claim", action: "box.claim", subject: &created.public_id, detail },
            )?;
            let limits = &KeyLimits::default();
            let row =
                NewRow { label: "first key", plan: None, upstreams: &UpstreamPolicy::None, limits, team: None, now };
            insert_key(connection, &created, user, row)?;
            Ok(Ok(()))
        });
        claimed.await?.map(|()| key)
    }

    /// Adds somebody who has no key yet. `by` is the role of whoever does it.
    ///
    /// # Errors
    /// [`LedgerError::InvalidName`], [`LedgerError::UnknownPlan`], [`LedgerError::Conflict`] where the name is taken,
    /// [`LedgerError::Forbidden`], and when it cannot be written.
    pub async fn add_person(&self, name: &str, role: Role, plan: &str, by: Role) -> Result<(), LedgerError> {
        let facts = PersonChange { role: Some(role), plan: Some(plan.to_owned()), ..PersonChange::default() };
        self.add_person_with(name, facts, by).await
    }

    /// The same, bound to hours and models from the begin; a member under the usual plan where nothing else is said.
    ///
    /// # Errors
    /// As [`add_person`](Self::add_person), and [`LedgerError::Invalid`].
    pub async fn add_person_with(&self, name: &str, facts: PersonChange, by: Role) -> Result<(), LedgerError> {
        let PersonChange { name: _, role, plan, hours, models } = facts;
        let (role, models) = (role.unwrap_or(Role::Member), models.unwrap_or_default());
        governs(by, role)?;
        check_models(&models)?;
        let (name, actor, now) = (checked_name(name)?, self.actor(), self.now().seconds);
        let (plan, hours) = (plan.unwrap_or_else(|| DEFAULT_PLAN.to_owned()), hours.unwrap_or_default());
        let added =
            self.writer.call(move |connection| {
                let id = match add(connection, &name, (role, &plan), (&actor, now))? {
                    Ok(id) => id,
                    Err(refused) => return Ok(Err(refused)),
                };
                connection
                    .prepare_cached("UPDATE users SET hours = ?2, models = ?3 WHERE id = ?1")?
                    .execute(params![id, hours.to_string(), json!(models).to_string()])?;
                Ok(Ok(()))
            });
        added.await?
    }

    /// Changes somebody. `by` is the role of whoever does it. Who becomes an owner or an admin, and of whom an admin had a
    /// secret in hand before, begins anew: keys, sessions and all ways to sign in end, for with one of them the admin
    /// would be them.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], [`LedgerError::UnknownPlan`], [`LedgerError::Forbidden`],
    /// [`LedgerError::Conflict`] where no owner would be left or the name is taken, and when it cannot be written.
    pub async fn change_person(&self, name: &str, change: PersonChange, by: Role) -> Result<(), LedgerError> {
        if let Some(models) = &change.models {
            check_models(models)?;
        }
        let new_name = change.name.as_deref().map(checked_name).transpose()?;
        let (name, actor, at) = (name.to_owned(), self.actor(), self.now().seconds);
        let changed = self.writer.call(move |connection| {
            let Some(known) = person(connection, &name)? else {
                return Ok(Err(LedgerError::UnknownUser(name.clone())));
            };
            let PersonChange { name: _, role, plan, hours, models } = &change;
            let role = role.unwrap_or(known.role);
            if let Err(refused) = governs(by, known.role).and_then(|()| governs(by, role)) {
                return Ok(Err(refused));
            }
            if role != Role::Owner
                && let Err(last) = another_owner(connection, &known)?
            {
                return Ok(Err(last));
            }
            if let Some(to) = &new_name
                && is_others(connection, to, known.id)?
            {
                return Ok(Err(taken(to)));
            }
            let plan = plan.as_ref().unwrap_or(&known.plan);
            if plans::find(connection, plan)?.is_none() {
                return Ok(Err(LedgerError::UnknownPlan(plan.clone())));
            }
            if role != known.role {
                // Whoever made it may not set the password of what they are now.
                password_links::end(connection, known.id)?;
            }
            let rises = Role::Admin.governs(known.role) && !Role::Admin.governs(role);
            let begins_anew = rises && known.admin_knows;
            if begins_anew {
                take_ways_in(connection, known.id, at)?;
            }
            connection
                .prepare_cached(
                    "UPDATE users SET role = ?2, plan = ?3, hours = coalesce(?4, hours), models = coalesce(?5, models)
                     WHERE id = ?1",
                )?
                .execute(params![
                    known.id,
                    role.as_str(),
                    plan,
                    hours.as_ref().map(ToString::to_string),
                    models.as_ref().map(|models| json!(models).to_string())
                ])?;
            let detail = json!({
                "before": {"role": known.role, "plan": known.plan}, "after": {"role": role, "plan": plan},
                "hours": hours.as_ref().map(ToString::to_string), "models": models, "begins_anew": begins_anew,
            });
            let is_changed = change.role.is_some() || change.plan.is_some() || hours.is_some() || models.is_some();
            if is_changed || new_name.is_none() {
                audit::note(connection, Act { at, actor: &actor, action: "user.change", subject: &name, detail })?;
            }
            if let Some(to) = &new_name {
                connection
                    .prepare_cached("UPDATE users SET name = ?2 WHERE id = ?1")?
                    .execute(params![known.id, to])?;
                let detail = json!({"after": to});
                audit::note(connection, Act { at, actor: &actor, action: "user.rename", subject: &name, detail })?;
            }
            Ok(Ok(()))
        });
        changed.await?
    }

    /// Takes somebody's keys, sessions and ways to sign in, and gives their name free. What they used stays in the books.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], [`LedgerError::Forbidden`], [`LedgerError::Conflict`] where no owner would be left,
    /// and when it cannot be written.
    pub async fn remove_person(&self, name: &str, by: Role) -> Result<(), LedgerError> {
        let (name, actor, at) = (name.to_owned(), self.actor(), self.now().seconds);
        let removed = self.writer.call(move |connection| {
            let Some(known) = person(connection, &name)? else {
                return Ok(Err(LedgerError::UnknownUser(name.clone())));
            };
            if let Err(refused) = governs(by, known.role) {
                return Ok(Err(refused));
            }
            if let Err(last) = another_owner(connection, &known)? {
                return Ok(Err(last));
            }
            shut_out(connection, known.id, at)?;
            connection
                .prepare_cached(
                    "UPDATE users SET removed_at = ?2, role = 'member', name = name || ' (removed ' || id || ')'
                     WHERE id = ?1",
                )?
                .execute([known.id, at])?;
            let detail = json!({"role": known.role, "plan": known.plan});
            audit::note(connection, Act { at, actor: &actor, action: "user.remove", subject: &name, detail })?;
            Ok(Ok(()))
        });
        removed.await?
    }

    /// What is needed to let somebody of this name sign in.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn login(&self, name: &str) -> Result<Option<Login>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, name, password, EXISTS (SELECT 1 FROM second_factors
                 WHERE user_id = users.id AND confirmed_at IS NOT NULL)
                 FROM users WHERE name = ?1 AND removed_at IS NULL AND role <> 'team'",
            )?;
            let login = statement.query_row([name.trim()], |row| {
                Ok(Login { user: row.get(0)?, name: row.get(1)?, password: row.get(2)?, second_factor: row.get(3)? })
            });
            Ok(login.optional()?)
        })
    }

    /// Gives somebody another password, already hashed, or none; ends their sessions but `keep`. `by` is the role of
    /// whoever does it, where that is not the person.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], [`LedgerError::Forbidden`], and when it cannot be written.
    pub async fn set_password(
        &self,
        name: &str,
        hash: Option<String>,
        (keep, by): (Option<String>, Option<Role>),
    ) -> Result<(), LedgerError> {
        let (name, actor, at, admin) = (name.to_owned(), self.actor(), self.now().seconds, self.admin());
        let set = self.writer.call(move |connection| {
            let Some(known) = person(connection, &name)? else {
                return Ok(Err(LedgerError::UnknownUser(name.clone())));
            };
            if let Some(Err(refused)) = by.map(|by| governs(by, known.role)) {
                return Ok(Err(refused));
            }
            connection
                .prepare_cached("UPDATE users SET password = ?2 WHERE id = ?1")?
                .execute(params![known.id, hash])?;
            note_known(connection, admin.as_deref(), &name)?;
            let ended = sessions::end_all(connection, known.id, keep.as_deref())?;
            password_links::end(connection, known.id)?;
            let detail = json!({"set": hash.is_some(), "sessions_ended": ended});
            audit::note(connection, Act { at, actor: &actor, action: "user.password", subject: &name, detail })?;
            Ok(Ok(()))
        });
        set.await?
    }
}

/// Takes all ways in from somebody, and their teams. Whom other providers mean is not forgotten by it: they are to be
/// known where they come again.
pub(crate) fn shut_out(connection: &Connection, id: i64, at: i64) -> Result<(), LedgerError> {
    take_ways_in(connection, id, at)?;
    connection.prepare_cached("DELETE FROM members WHERE user_id = ?1")?.execute([id])?;
    Ok(())
}

/// Takes all ways in from somebody: keys, sessions, password, second factor, passkeys, other providers.
fn take_ways_in(connection: &Connection, id: i64, at: i64) -> Result<(), LedgerError> {
    sessions::end_all(connection, id, None)?;
    for query in [
        "UPDATE keys SET revoked_at = coalesce(revoked_at, ?2) WHERE user_id = ?1",
        "UPDATE identities SET unlinked_at = coalesce(unlinked_at, ?2) WHERE user_id = ?1",
        "DELETE FROM second_factors WHERE user_id = ?1 AND ?2 > 0",
        "DELETE FROM recovery_codes WHERE user_id = ?1 AND ?2 > 0",
        "DELETE FROM passkeys WHERE user_id = ?1 AND ?2 > 0",
        "DELETE FROM password_links WHERE user_id = ?1 AND ?2 > 0",
        "UPDATE users SET password = NULL, admin_knows = 0 WHERE id = ?1 AND ?2 > 0",
    ] {
        connection.prepare_cached(query)?.execute([id, at])?;
    }
    Ok(())
}

/// Notes that an admin has a secret of somebody else in hand.
pub(crate) fn note_known(connection: &Connection, admin: Option<&str>, user: &str) -> Result<(), LedgerError> {
    let Some(admin) = admin else { return Ok(()) };
    connection
        .prepare_cached("UPDATE users SET admin_knows = 1 WHERE name = ?1 AND name <> ?2")?
        .execute([user, admin])?;
    Ok(())
}

/// Whether somebody of a role may change somebody of another.
pub(crate) fn governs(by: Role, other: Role) -> Result<(), LedgerError> {
    if by.governs(other) {
        return Ok(());
    }
    let who =
        if by.allows(Right::Administer) { "only an owner of the box" } else { "only an owner or an admin of the box" };
    Err(LedgerError::Forbidden(format!("{who} may make, change or remove people with the role {other}")))
}

/// Whether somebody else, or a team, has this name.
fn is_others(connection: &Connection, name: &str, id: i64) -> Result<bool, LedgerError> {
    let mut other = connection.prepare_cached("SELECT 1 FROM users WHERE name = ?1 AND id <> ?2")?;
    Ok(other.exists(params![name, id])?)
}

/// Refuses to leave a box without an owner.
fn another_owner(connection: &Connection, known: &Person) -> Result<Result<(), LedgerError>, LedgerError> {
    if known.role != Role::Owner {
        return Ok(Ok(()));
    }
    let mut statement = connection.prepare_cached("SELECT 1 FROM users WHERE role = 'owner' AND id <> ?1")?;
    if statement.exists([known.id])? {
        return Ok(Ok(()));
    }
    let reason = "the box needs an owner; make somebody else one first".to_owned();
    Ok(Err(LedgerError::Conflict { code: "last_owner", reason }))
}

/// Adds somebody, and notes it.
pub(crate) fn add(
    connection: &Connection,
    name: &str,
    (role, plan): (Role, &str),
    (actor, now): (&str, i64),
) -> Result<Result<i64, LedgerError>, LedgerError> {
    if plans::find(connection, plan)?.is_none() {
        return Ok(Err(LedgerError::UnknownPlan(plan.to_owned())));
    }
    if is_taken(connection, name)? {
        return Ok(Err(taken(name)));
    }
    let id = insert_user(connection, name, (role, plan), now)?;
    let detail = json!({"role": role, "plan": plan});
    audit::note(connection, Act { at: now, actor, action: "user.add", subject: name, detail })?;
    Ok(Ok(id))
}

pub(crate) fn taken(name: &str) -> LedgerError {
    LedgerError::Conflict { code: "name_taken", reason: format!("there is somebody or a team called {name} already") }
}

pub(crate) fn checked_name(name: &str) -> Result<String, LedgerError> {
    let name = name.trim();
    let length = name.chars().count();
    let visible = !name.chars().any(char::is_control);
    if visible && (1..=NAME_CHARS_MAX).contains(&length) { Ok(name.to_owned()) } else { Err(LedgerError::InvalidName) }
}

fn has_owner(connection: &Connection) -> Result<bool, LedgerError> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM users WHERE role = 'owner'")?;
    Ok(statement.exists(NONE)?)
}

/// Whether a person or a team has this name.
pub(crate) fn is_taken(connection: &Connection, name: &str) -> Result<bool, LedgerError> {
    Ok(connection.prepare_cached("SELECT 1 FROM users WHERE name = ?1")?.exists([name])?)
}

/// The person of a name, where there is one.
pub(crate) fn person(connection: &Connection, name: &str) -> Result<Option<Person>, LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, role, plan, admin_knows FROM users WHERE name = ?1 AND role <> 'team' AND removed_at IS NULL",
    )?;
    let person = statement.query_row([name], |row| {
        Ok(Person { id: row.get(0)?, role: Role::from_text(row.text(1)), plan: row.get(2)?, admin_knows: row.get(3)? })
    });
    Ok(person.optional()?)
}

pub(crate) fn insert_user(
    connection: &Connection,
    name: &str,
    (role, plan): (Role, &str),
    now: i64,
) -> Result<i64, LedgerError> {
    insert_holder(connection, name, (role.as_str(), plan), now)
}

/// Somebody, or a team, who has an account.
pub(crate) fn insert_holder(
    connection: &Connection,
    name: &str,
    (role, plan): (&str, &str),
    now: i64,
) -> Result<i64, LedgerError> {
    let salt = i64::from_le_bytes(random_bytes());
    Ok(connection
        .prepare_cached(
            "INSERT INTO users (name, role, plan, salt, created_at) VALUES (?1, ?2, ?3, ?4, ?5) RETURNING id",
        )?
        .query_row(params![name, role, plan, salt, now], |row| row.get(0))?)
}
