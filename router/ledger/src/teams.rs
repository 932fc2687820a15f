//! Teams: accounts that several people share. A team is a row among the people, whom nobody can sign in as, so that the
//! books know one kind of account only. What a key of a team asks is paid by the team.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use crate::audit::{self, Act};
use crate::balance::Account;
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::people::{self, TEAM, checked_name, insert_holder, person};
use crate::plan::Plan;
use crate::plans;
use crate::spending::BudgetState;
use crate::sql::{Connection, OptionalExtension, params};
use crate::usage::QuotaState;

/// Members of one team.
const MEMBERS_MAX: i64 = 10_000;

/// A team as it is listed.
#[derive(Debug, Clone, Serialize)]
pub struct TeamRow {
    /// Its name.
    pub team: String,
    /// Its plan.
    pub plan: String,
    /// Who is in it.
    pub members: Vec<String>,
    /// What it has left this month.
    #[serde(flatten)]
    pub quota: QuotaState,
    /// What may be spent on other servers this month.
    pub spending: BudgetState,
    /// Seconds since 1970.
    pub created_at: i64,
}

impl Ledger {
    /// Makes a team.
    ///
    /// # Errors
    /// [`LedgerError::InvalidName`], [`LedgerError::UnknownPlan`], [`LedgerError::Conflict`] where the name is taken, and
    /// when it cannot be written.
    pub async fn add_team(&self, name: &str, plan: &str) -> Result<(), LedgerError> {
        let (name, plan, actor, at) = (checked_name(name)?, plan.to_owned(), self.actor(), self.now().seconds);
        let added = self.writer.call(move |connection| {
            if plans::find(connection, &plan)?.is_none() {
                return Ok(Err(LedgerError::UnknownPlan(plan.clone())));
            }
            if people::is_taken(connection, &name)? {
                return Ok(Err(people::taken(&name)));
            }
            insert_holder(connection, &name, (TEAM, &plan), at)?;
            let act = Act { at, actor: &actor, action: "team.add", subject: &name, detail: json!({"plan": plan}) };
            audit::note(connection, act)?;
            Ok(Ok(()))
        });
        added.await?
    }

    /// All teams, by name; those of one person where one is named.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn teams(&self, of: Option<&str>) -> Result<Vec<TeamRow>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT users.id, users.name, users.plan, plans.id, users.created_at FROM users
                 JOIN plans ON plans.name = users.plan WHERE role = 'team' AND removed_at IS NULL AND (?1 IS NULL OR EXISTS
                 (SELECT 1 FROM members JOIN users AS person ON person.id = members.user_id
                  WHERE team_id = users.id AND person.name = ?1)) ORDER BY users.name",
            )?;
            let rows = statement.query_map([of], |row| {
                let of: (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok((of, row.get::<i64>(3)?, row.get(4)?))
            })?;
            // All of them before anything else is asked: answers of a server come one after the other.
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let mut teams = Vec::new();
            for ((id, team, plan), plan_id, created_at) in rows {
                let limits: Arc<Plan> = self.known_plan(connection, plan_id)?;
                let mut members = connection.prepare_cached(
                    "SELECT name FROM members JOIN users ON users.id = user_id WHERE team_id = ?1 ORDER BY name",
                )?;
                let members = members.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?;
                let account = Account::user(id, &limits);
                let (quota, spending) =
                    (self.state_of(connection, &account)?, self.budget_of(connection, &account)?);
                teams.push(TeamRow { team, plan, members, quota, spending, created_at });
            }
            Ok(teams)
        })
    }

    /// Gives a team another plan. What was used this month stays used.
    ///
    /// # Errors
    /// [`LedgerError::Missing`], [`LedgerError::UnknownPlan`], and when it cannot be written.
    pub async fn set_team_plan(&self, team: &str, plan: &str) -> Result<(), LedgerError> {
        self.read(|connection| find(connection, team))?.ok_or_else(|| no_team(team))?;
        self.set_user_plan(team, plan).await
    }

    /// Makes somebody a member. Who is one stays one.
    ///
    /// # Errors
    /// [`LedgerError::Missing`], [`LedgerError::UnknownUser`], [`LedgerError::Conflict`] where the team is full, and when
    /// it cannot be written.
    pub async fn join_team(&self, team: &str, user: &str) -> Result<(), LedgerError> {
        let (team, user, actor, at) = (team.to_owned(), user.to_owned(), self.actor(), self.now().seconds);
        let joined = self.writer.call(move |connection| {
            let Some((id, _)) = find(connection, &team)? else { return Ok(Err(no_team(&team))) };
            let Some(known) = person(connection, &user)? else {
                return Ok(Err(LedgerError::UnknownUser(user.clone())));
            };
            let members = "SELECT count(*) FROM members WHERE team_id = ?1";
            if connection.query_row(members, [id], |row| row.get::<i64>(0))? >= MEMBERS_MAX {
                let reason = format!("a team has {MEMBERS_MAX} members at most");
                return Ok(Err(LedgerError::Conflict { code: "team_full", reason }));
            }
            join(connection, id, known.id, at)?;
            let act = Act { at, actor: &actor, action: "team.join", subject: &team, detail: json!({"user": user}) };
            audit::note(connection, act)?;
            Ok(Ok(()))
        });
        joined.await?
    }

    /// Takes somebody out of a team; what they have of the team's keys and sessions ends.
    ///
    /// # Errors
    /// [`LedgerError::Missing`], [`LedgerError::UnknownUser`], and when it cannot be written.
    pub async fn leave_team(&self, team: &str, user: &str) -> Result<(), LedgerError> {
        let (team, user, actor, at) = (team.to_owned(), user.to_owned(), self.actor(), self.now().seconds);
        let left = self.writer.call(move |connection| {
            let Some((id, _)) = find(connection, &team)? else { return Ok(Err(no_team(&team))) };
            let Some(known) = person(connection, &user)? else {
                return Ok(Err(LedgerError::UnknownUser(user.clone())));
            };
            let query = "DELETE FROM members WHERE team_id = ?1 AND user_id = ?2";
            if connection.prepare_cached(query)?.execute([id, known.id])? == 0 {
                return Ok(Err(LedgerError::Missing { what: "member", id: format!("{user} in the team {team}") }));
            }
            end(connection, id, Some(known.id), at)?;
            let act = Act { at, actor: &actor, action: "team.leave", subject: &team, detail: json!({"user": user}) };
            audit::note(connection, act)?;
            Ok(Ok(()))
        });
        left.await?
    }

    /// Removes a team, its keys and the sessions that it pays for. What it used stays in the books.
    ///
    /// # Errors
    /// [`LedgerError::Missing`], and when it cannot be written.
    pub async fn remove_team(&self, team: &str) -> Result<(), LedgerError> {
        let (team, actor, at) = (team.to_owned(), self.actor(), self.now().seconds);
        let removed = self.writer.call(move |connection| {
            let Some((id, _)) = find(connection, &team)? else { return Ok(Err(no_team(&team))) };
            end(connection, id, None, at)?;
            connection.execute("DELETE FROM members WHERE team_id = ?1", [id])?;
            connection.execute(
                "UPDATE users SET removed_at = ?2, name = name || ' (removed ' || id || ')' WHERE id = ?1",
                [id, at],
            )?;
            audit::note(
                connection,
                Act { at, actor: &actor, action: "team.remove", subject: &team, detail: json!({}) },
            )?;
            Ok(Ok(()))
        });
        removed.await?
    }
}

fn no_team(team: &str) -> LedgerError {
    LedgerError::Missing { what: "team", id: team.to_owned() }
}

/// Ends what a team pays for, of one person or of all.
fn end(connection: &Connection, team: i64, user: Option<i64>, at: i64) -> Result<(), LedgerError> {
    const OF: &str = "team_id = ?1 AND (?2 IS NULL OR user_id = ?2)";
    connection
        .prepare_cached(&format!("DELETE FROM sessions WHERE key_id IN (SELECT id FROM keys WHERE {OF})"))?
        .execute(params![team, user])?;
    connection
        .prepare_cached(&format!("UPDATE keys SET revoked_at = coalesce(revoked_at, ?3) WHERE {OF}"))?
        .execute(params![team, user, at])?;
    Ok(())
}

/// The team of a name, and its plan.
pub(crate) fn find(connection: &Connection, name: &str) -> Result<Option<(i64, String)>, LedgerError> {
    let mut statement = connection
        .prepare_cached("SELECT id, plan FROM users WHERE name = ?1 AND role = 'team' AND removed_at IS NULL")?;
    Ok(statement.query_row([name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// The same, where somebody is a member of it.
pub(crate) fn of_member(connection: &Connection, name: &str, user: i64) -> Result<Option<(i64, String)>, LedgerError> {
    let Some(found) = find(connection, name)? else { return Ok(None) };
    let mut statement = connection.prepare_cached("SELECT 1 FROM members WHERE team_id = ?1 AND user_id = ?2")?;
    Ok(statement.exists([found.0, user])?.then_some(found))
}

pub(crate) fn join(connection: &Connection, team: i64, user: i64, now: i64) -> Result<(), LedgerError> {
    connection
        .prepare_cached(
            "INSERT INTO members (team_id, user_id, created_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?
        .execute([team, user, now])?;
    Ok(())
}
