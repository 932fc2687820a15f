//! The two steps in which a request is paid.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::error::{LedgerError, ReserveError};
use crate::inflight::{Counted, Inflight};
use crate::key::Principal;
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::time::Moment;
use crate::writer::{Place, job};

/// What to set aside before a request starts.
#[derive(Debug, Clone)]
pub struct Reserve {
    /// Unique; a request is settled once under it. One that runs again under the same name, because its answer was
    /// lost, is charged for the last time that it ran.
    pub request_id: Uuid,
    /// The model asked for.
    pub model: String,
    /// Where it came in: `chat.completions`, say.
    pub endpoint: &'static str,
    /// Where it is computed: `local`, or `upstream:NAME`.
    pub served_by: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// The most tokens of output.
    pub max_output_tokens: u32,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Completed,
    /// The client left.
    Cancelled,
    /// It failed after it had started.
    Failed,
    /// The server died while it ran.
    Crashed,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
        }
    }
}

/// What a request did cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of these, known from before.
    pub cached_tokens: u32,
    /// Tokens of output.
    pub completion_tokens: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// Tokens set aside for a running request. Dropping it settles what was counted.
#[derive(Debug)]
pub struct Reservation {
    id: i64,
    slot: u32,
    counted: Counted,
    inflight: Arc<Inflight>,
    /// A place in the writer's queue, taken beforehand. `None` once settled.
    place: Option<Place>,
}

impl Ledger {
    /// Sets aside the most that a request can cost; durable when it returns.
    ///
    /// # Errors
    /// [`ReserveError::QuotaExceeded`] when the plan has less left, and others.
    pub async fn reserve(&self, principal: &Principal, request: Reserve) -> Result<Reservation, ReserveError> {
        if self.writer.is_blocked() {
            return Err(LedgerError::Full.into());
        }
        let inflight = self.inflight()?;
        let slot = inflight.take_slot().ok_or(ReserveError::TooMany)?;
        let made = self.make(principal, request, slot).await;
        match made {
            Ok((id, place)) => Ok(Reservation { id, slot, counted: Counted::default(), inflight, place: Some(place) }),
            Err(error) => {
                inflight.give_back(slot);
                Err(error)
            }
        }
    }

    async fn make(&self, principal: &Principal, request: Reserve, slot: u32) -> Result<(i64, Place), ReserveError> {
        let place = self.writer.place().await?;
        let now = Moment::now(&self.zone);
        let renews_at = now.month_ends;
        let accounts = accounts(principal);
        let (key, user, key_account) = (principal.key, principal.user, principal.key_plan.is_some());
        let tokens = u64::from(request.prompt_tokens) + u64::from(request.max_output_tokens);
        let made = self.writer.call(move |connection| {
            for (account, plan) in &accounts {
                if let Some(free) = shortage(connection, account, *plan, &now.month, tokens)? {
                    return Ok(Err((plan.tokens_a_month().unwrap_or(u64::MAX), free)));
                }
            }
            for (account, _) in &accounts {
                change_balance(connection, account, &now.month, 0, signed(tokens))?;
            }
            connection
                .prepare_cached(
                    "INSERT INTO reservations (request_id, key_id, user_id, key_account, model, endpoint, served_by,
                     tokens, slot, day, month, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                )?
                .execute(params![
                    request.request_id.to_string(),
                    key,
                    user,
                    key_account,
                    request.model,
                    request.endpoint,
                    request.served_by,
                    signed(tokens),
                    slot,
                    now.day,
                    now.month,
                    now.seconds
                ])?;
            Ok(Ok(connection.last_insert_rowid()))
        });
        match made.await? {
            Ok(id) => Ok((id, place)),
            Err((limit, free)) => Err(ReserveError::QuotaExceeded { limit, free, requested: tokens, renews_at }),
        }
    }
}

impl Reservation {
    /// Counts what the request has cost so far. Called before the tokens are sent.
    ///
    /// # Errors
    /// [`LedgerError::NotWritable`] when the file cannot be written.
    pub fn count(&mut self, prompt_tokens: u32, cached_tokens: u32, completion_tokens: u32) -> Result<(), LedgerError> {
        self.counted = Counted { prompt_tokens, cached_tokens, completion_tokens };
        self.inflight
            .write(self.slot, self.id, self.counted)
            .map_err(|source| LedgerError::NotWritable { path: "inflight.bin".into(), source })
    }

    /// Replaces what was set aside by what it did cost. It is in the writer's queue when this returns, so that
    /// whatever is asked of the ledger afterwards counts it; it is durable when the returned future is ready.
    /// Until then what was [counted](Self::count) stands for it, should the process die.
    ///
    /// # Errors
    /// When it cannot be written now; it is then tried again until it can.
    pub fn settle(mut self, settlement: Settlement) -> impl Future<Output = Result<(), LedgerError>> + use<> {
        durable(self.send(Some(settlement)))
    }

    /// Gives back what was set aside; nothing was used. Otherwise as [`settle`](Self::settle).
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn release(mut self) -> impl Future<Output = Result<(), LedgerError>> + use<> {
        durable(self.send(None))
    }

    fn send(&mut self, settlement: Option<Settlement>) -> Option<oneshot::Receiver<Result<(), LedgerError>>> {
        let place = self.place.take()?;
        let id = self.id;
        let (slot, inflight) = (self.slot, Arc::clone(&self.inflight));
        // The slot is free only once the settlement is durable: until then a crash must find it.
        let afterwards = Box::new(move || inflight.give_back(slot));
        let (job, answer) = job(move |connection| settle(connection, id, settlement), Some(afterwards));
        place.send(job);
        Some(answer)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Counted { prompt_tokens, cached_tokens, completion_tokens } = self.counted;
        let outcome = Outcome::Cancelled;
        self.send(Some(Settlement { prompt_tokens, cached_tokens, completion_tokens, outcome }));
    }
}

/// Waits for the writer's answer, if there is one to come.
async fn durable(answer: Option<oneshot::Receiver<Result<(), LedgerError>>>) -> Result<(), LedgerError> {
    match answer {
        Some(answer) => answer.await.map_err(|_| LedgerError::Closed)?,
        None => Ok(()),
    }
}

/// The accounts that a request is charged to, and the plan that limits each.
fn accounts(principal: &Principal) -> Vec<(String, Plan)> {
    let user = (format!("user:{}", principal.user), principal.user_plan);
    let key = principal.key_plan.map(|plan| (format!("key:{}", principal.key), plan));
    std::iter::once(user).chain(key).collect()
}

/// The tokens left when they are fewer than wanted.
fn shortage(
    connection: &Connection,
    account: &str,
    plan: Plan,
    month: &str,
    wanted: u64,
) -> Result<Option<u64>, LedgerError> {
    let Some(limit) = plan.tokens_a_month() else { return Ok(None) };
    let taken: i64 = connection
        .prepare_cached("SELECT used + reserved FROM balances WHERE account = ?1 AND month = ?2")?
        .query_row([account, month], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    let free = limit.saturating_sub(u64::try_from(taken).unwrap_or(0));
    Ok((free < wanted).then_some(free))
}

fn change_balance(
    connection: &Connection,
    account: &str,
    month: &str,
    used: i64,
    reserved: i64,
) -> Result<(), LedgerError> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO balances (account, month) VALUES (?1, ?2)")?
        .execute([account, month])?;
    connection
        .prepare_cached(
            "UPDATE balances SET used = used + ?3, reserved = reserved + ?4 WHERE account = ?1 AND month = ?2",
        )?
        .execute(params![account, month, used, reserved])?;
    Ok(())
}

/// Turns a reservation into usage; without a settlement, or with nothing used, it is only released.
/// A reservation that is gone was settled before: nothing happens.
pub(crate) fn settle(connection: &Connection, id: i64, settlement: Option<Settlement>) -> Result<(), LedgerError> {
    let row = connection
        .prepare_cached("SELECT user_id, key_id, key_account, month, tokens FROM reservations WHERE id = ?1")?
        .query_row([id], |row| {
            let accounts: (i64, i64, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let (month, tokens): (String, i64) = (row.get(3)?, row.get(4)?);
            Ok((accounts, month, tokens))
        })
        .optional()?;
    let Some(((user, key, key_account), month, reserved)) = row else { return Ok(()) };
    let used = settlement.map_or(0, |s| i64::from(s.prompt_tokens) + i64::from(s.completion_tokens));
    let key_account = key_account.then(|| format!("key:{key}"));
    for account in std::iter::once(format!("user:{user}")).chain(key_account) {
        change_balance(connection, &account, &month, used, -reserved)?;
    }
    if let Some(settlement) = settlement {
        undo_usage(connection, id)?;
        insert_usage(connection, id, settlement)?;
    }
    connection.prepare_cached("DELETE FROM reservations WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Takes back what a request was charged when it ran before.
fn undo_usage(connection: &Connection, reservation: i64) -> Result<(), LedgerError> {
    let before = connection
        .prepare_cached(
            "SELECT usage.id, usage.user_id, usage.key_id, usage.key_account, usage.month,
             prompt_tokens + completion_tokens FROM usage JOIN reservations USING (request_id)
             WHERE reservations.id = ?1",
        )?
        .query_row([reservation], |row| {
            let of: (i64, i64, i64, bool) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let (month, used): (String, i64) = (row.get(4)?, row.get(5)?);
            Ok((of, month, used))
        })
        .optional()?;
    let Some(((id, user, key, key_account), month, used)) = before else { return Ok(()) };
    let key_account = key_account.then(|| format!("key:{key}"));
    for account in std::iter::once(format!("user:{user}")).chain(key_account) {
        change_balance(connection, &account, &month, -used, 0)?;
    }
    connection.prepare_cached("DELETE FROM usage WHERE id = ?1")?.execute([id])?;
    Ok(())
}

fn insert_usage(connection: &Connection, reservation: i64, settlement: Settlement) -> Result<(), LedgerError> {
    connection
        .prepare_cached(
            "INSERT INTO usage (request_id, key_id, user_id, key_account, model, endpoint, served_by, prompt_tokens,
             cached_tokens, completion_tokens, outcome, day, month, created_at, settled_at)
             SELECT request_id, key_id, user_id, key_account, model, endpoint, served_by, ?2, ?3, ?4, ?5, day, month,
             created_at, unixepoch() FROM reservations WHERE id = ?1",
        )?
        .execute(params![
            reservation,
            settlement.prompt_tokens,
            settlement.cached_tokens,
            settlement.completion_tokens,
            settlement.outcome.as_str()
        ])?;
    Ok(())
}

/// Tokens as `SQLite` stores them.
fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).expect("two 32-bit counts fit")
}
