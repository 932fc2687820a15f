//! The two steps in which a request is paid.

use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::alerts::{self, Usage};
use crate::audit;
use crate::balance::{self, Account, Holder, Standing};
use crate::error::{LedgerError, ReserveError};
use crate::inflight::{Counted, Inflight};
use crate::key::Principal;
use crate::ledger::{Clock, Ledger};
use crate::plan::Rate;
use crate::prices;
use crate::sql::{Connection, OptionalExtension, params};
use crate::time::Moment;
use crate::usage::{self, Charges};
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
    pub(crate) fn as_str(self) -> &'static str {
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
    clock: Clock,
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
            Ok((id, place)) => {
                let (counted, clock) = (Counted::default(), self.clock());
                Ok(Reservation { id, slot, counted, inflight, clock, place: Some(place) })
            }
            Err(error) => {
                inflight.give_back(slot);
                Err(error)
            }
        }
    }

    async fn make(&self, principal: &Principal, request: Reserve, slot: u32) -> Result<(i64, Place), ReserveError> {
        let place = self.writer.place().await?;
        let now = self.now();
        let renews_at = now.month_ends;
        let tokens = u64::from(request.prompt_tokens) + u64::from(request.max_output_tokens);
        let (accounts, replica) = (Account::of(principal), self.replica().to_owned());
        let reserving = Reserving { accounts, principal: principal.clone(), request, slot, now, replica };
        let made = self.writer.call(move |connection| reserving.run(connection));
        match made.await? {
            Ok(id) => Ok((id, place)),
            Err(Short { limit, free }) => {
                Err(ReserveError::QuotaExceeded { limit, free, requested: tokens, renews_at })
            }
        }
    }
}

/// A reservation on its way to the writer.
struct Reserving {
    accounts: Vec<Account>,
    principal: Principal,
    request: Reserve,
    slot: u32,
    now: Moment,
    replica: String,
}

/// An account has less left than is wanted.
struct Short {
    limit: u64,
    free: u64,
}

impl Reserving {
    /// The reservation's id, or which limit is in its way.
    fn run(&self, connection: &Connection) -> Result<Result<i64, Short>, LedgerError> {
        let (request, now) = (&self.request, &self.now);
        let mut charges = Vec::new();
        for account in &self.accounts {
            let rate = account.rate(&request.model);
            let tokens = rate.charge(request.prompt_tokens, request.max_output_tokens);
            let standing = Standing::of(connection, account, now)?;
            if let (Some(limit), Some(free)) = (standing.limit, standing.free().filter(|free| *free < tokens)) {
                let (month, holder) = (now.month.as_str(), account.holder);
                let usage = Usage { holder, month, used: standing.used, limit, refused: true, now: now.seconds };
                alerts::note_usage(connection, &usage)?;
                return Ok(Err(Short { limit: limit.unsigned_abs(), free: free.unsigned_abs() }));
            }
            charges.push((standing, tokens, rate));
        }
        for (account, (standing, tokens, _)) in self.accounts.iter().zip(&charges) {
            standing.reserve(connection, &account.name, &now.month, *tokens)?;
        }
        // The user's account comes first, the key's second where it has one.
        let charge = |place: usize| charges.get(place).map_or((0, Rate::PLAIN), |(_, tokens, rate)| (*tokens, *rate));
        let ((user_tokens, user_rate), (key_tokens, key_rate)) = (charge(0), charge(1));
        let made = connection
            .prepare_cached(
                "INSERT INTO reservations (request_id, key_id, user_id, key_account, model, endpoint, served_by,
                 tokens, slot, day, month, created_at, key_tokens, user_input, user_output, key_input, key_output, replica)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
                 RETURNING id",
            )?
            .query_row(params![
                request.request_id.to_string(),
                self.principal.key,
                self.principal.payer,
                charges.len() > 1,
                request.model,
                request.endpoint,
                request.served_by,
                user_tokens,
                self.slot,
                now.day,
                now.month,
                now.seconds,
                key_tokens,
                user_rate.input,
                user_rate.output,
                key_rate.input,
                key_rate.output,
                self.replica
            ], |row| row.get(0))?;
        Ok(Ok(made))
    }
}

impl Reservation {
    /// Counts what the request has cost so far. Called before the tokens are sent.
    ///
    /// # Errors
    /// [`LedgerError::NotWritable`] when the file cannot be written.
    pub fn count(&mut self, prompt_tokens: u32, cached_tokens: u32, completion_tokens: u32) -> Result<(), LedgerError> {
        let counted = Counted { prompt_tokens, cached_tokens, completion_tokens };
        // What is in the file already, or stands for nothing, needs no write.
        if counted == self.counted {
            return Ok(());
        }
        self.counted = counted;
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
        let (slot, inflight, clock) = (self.slot, Arc::clone(&self.inflight), self.clock.clone());
        // The slot is free only once the settlement is durable: until then a crash must find it.
        let afterwards = Box::new(move || inflight.give_back(slot));
        let (job, answer) =
            job(move |connection| settle(connection, id, settlement, clock.seconds()), Some(afterwards));
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

/// A reservation as it stands in the books.
struct Open {
    user: i64,
    key: i64,
    key_account: bool,
    month: String,
    user_tokens: i64,
    key_tokens: i64,
    user_rate: Rate,
    key_rate: Rate,
    served_by: String,
    model: String,
}

impl Open {
    fn find(connection: &Connection, id: i64) -> Result<Option<Self>, LedgerError> {
        let mut statement = connection.prepare_cached(
            "SELECT user_id, key_id, key_account, month, tokens, key_tokens, user_input, user_output, key_input,
             key_output, served_by, model FROM reservations WHERE id = ?1",
        )?;
        let open = statement.query_row([id], |row| {
            Ok(Self {
                user: row.get(0)?,
                key: row.get(1)?,
                key_account: row.get(2)?,
                month: row.get(3)?,
                user_tokens: row.get(4)?,
                key_tokens: row.get(5)?,
                user_rate: Rate { input: row.get(6)?, output: row.get(7)? },
                key_rate: Rate { input: row.get(8)?, output: row.get(9)? },
                served_by: row.get(10)?,
                model: row.get(11)?,
            })
        });
        Ok(open.optional()?)
    }
}

/// Turns a reservation into usage; without a settlement, or with nothing used, it is only released.
/// A reservation that is gone was settled before: nothing happens.
pub(crate) fn settle(
    connection: &Connection,
    id: i64,
    settlement: Option<Settlement>,
    now: i64,
) -> Result<(), LedgerError> {
    let Some(open) = Open::find(connection, id)? else { return Ok(()) };
    let charge = |rate: Rate| settlement.map_or(0, |cost| rate.charge(cost.prompt_tokens, cost.completion_tokens));
    let user_charge = charge(open.user_rate);
    let key_charge = if open.key_account { charge(open.key_rate) } else { 0 };
    let account = Holder::User(open.user).account();
    balance::change(connection, &account, &open.month, user_charge, -open.user_tokens)?;
    if open.key_account {
        let account = Holder::Key(open.key).account();
        balance::change(connection, &account, &open.month, key_charge, -open.key_tokens)?;
    }
    if let Some(settlement) = settlement {
        usage::undo(connection, id)?;
        let place = (open.served_by.as_str(), open.model.as_str());
        let cost = prices::cost(connection, place, settlement.prompt_tokens, settlement.completion_tokens)?;
        usage::insert(connection, id, settlement, Charges { user: user_charge, key: key_charge, cost }, now)?;
        audit::note_request(connection, id, settlement, now)?;
        let key = open.key_account.then_some(Holder::Key(open.key));
        for holder in std::iter::once(Holder::User(open.user)).chain(key) {
            let (used, limit) = balance::used_of_limit(connection, &holder.account(), &open.month)?;
            if let Some(limit) = limit {
                let usage = Usage { holder, month: &open.month, used, limit, refused: false, now };
                alerts::note_usage(connection, &usage)?;
            }
        }
    }
    connection.prepare_cached("DELETE FROM reservations WHERE id = ?1")?.execute([id])?;
    Ok(())
}
