//! The two steps in which a request is paid.

use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::alerts::{self, Usage};
use crate::audit;
use crate::balance::{self, Account, Holder};
use crate::error::{LedgerError, ReserveError};
use crate::inflight::{Counted, Inflight};
use crate::key::Principal;
use crate::ledger::{Clock, Ledger};
use crate::plan::Rate;
use crate::prices::TokenPrices;
use crate::reserving::{Made, Reserving, Short};
use crate::spending::{self, NoMoney, Payer};
use crate::sql::{Connection, OptionalExtension};
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
    bounds_output: bool,
    /// A place in the writer's queue, taken beforehand. `None` once settled.
    place: Option<Place>,
}

impl Ledger {
    /// Sets aside the most that a request can cost; durable when it returns.
    ///
    /// # Errors
    /// [`ReserveError::QuotaExceeded`] when the plan has less left, [`ReserveError::BudgetExceeded`] when less money is,
    /// and others.
    pub async fn reserve(&self, principal: &Principal, request: Reserve) -> Result<Reservation, ReserveError> {
        if self.writer.is_blocked() {
            return Err(LedgerError::Full.into());
        }
        let inflight = self.inflight()?;
        let slot = inflight.take_slot().ok_or(ReserveError::TooMany)?;
        let made = self.make(principal, request, slot).await;
        match made {
            Ok((Made { id, bounds_output }, place)) => {
                let (counted, clock) = (Counted::default(), self.clock());
                Ok(Reservation { id, slot, counted, inflight, clock, bounds_output, place: Some(place) })
            }
            Err(error) => {
                inflight.give_back(slot);
                Err(error)
            }
        }
    }

    async fn make(&self, principal: &Principal, request: Reserve, slot: u32) -> Result<(Made, Place), ReserveError> {
        let place = self.writer.place().await?;
        let now = self.now();
        let renews_at = now.month_ends;
        let tokens = u64::from(request.prompt_tokens) + u64::from(request.max_output_tokens);
        let (accounts, replica) = (Account::of(principal), self.replica().to_owned());
        let reserving = Reserving { accounts, principal: principal.clone(), request, slot, now, replica };
        let made = self.writer.call(move |connection| reserving.run(connection));
        match made.await? {
            Ok(made) => Ok((made, place)),
            Err(Short::Tokens { limit, free }) => {
                Err(ReserveError::QuotaExceeded { limit, free, requested: tokens, renews_at })
            }
            Err(Short::Money(NoMoney { upstream, limit, free, requested })) => {
                let currency = self.currency()?;
                Err(ReserveError::BudgetExceeded { upstream, limit, free, requested, currency, renews_at })
            }
        }
    }
}

impl Reservation {
    /// Whether another server may make no more output than was set aside, because there is a budget for what it costs.
    #[must_use]
    pub fn bounds_output(&self) -> bool {
        self.bounds_output
    }

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
    /// What is set aside for another server, in billionths of the currency.
    cost: i64,
    prices: TokenPrices,
}

impl Open {
    /// The accounts that it is charged to.
    fn holders(&self) -> impl Iterator<Item = Holder> + use<> {
        std::iter::once(Holder::User(self.user)).chain(self.key_account.then_some(Holder::Key(self.key)))
    }

    fn find(connection: &Connection, id: i64) -> Result<Option<Self>, LedgerError> {
        let mut statement = connection.prepare_cached(
            "SELECT user_id, key_id, key_account, month, tokens, key_tokens, user_input, user_output, key_input,
             key_output, served_by, cost, price_input, price_cached, price_output FROM reservations WHERE id = ?1",
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
                cost: row.get(11)?,
                prices: TokenPrices { input: row.get(12)?, cached: row.get(13)?, output: row.get(14)? },
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
    let cost = settlement.map_or(0, |settlement| open.prices.cost(settlement));
    let account = Holder::User(open.user).account();
    balance::change(connection, &account, &open.month, user_charge, -open.user_tokens)?;
    if open.key_account {
        let account = Holder::Key(open.key).account();
        balance::change(connection, &account, &open.month, key_charge, -open.key_tokens)?;
    }
    let payers = Payer::of(open.holders(), &open.served_by);
    spending::change(connection, &payers, &open.month, (cost, -open.cost))?;
    if let Some(settlement) = settlement {
        usage::undo(connection, id)?;
        usage::insert(connection, id, settlement, Charges { user: user_charge, key: key_charge, cost }, now)?;
        audit::note_request(connection, id, settlement, now)?;
        for holder in open.holders() {
            let (used, limit) = balance::used_of_limit(connection, &holder.account(), &open.month)?;
            if let Some(limit) = limit {
                let usage = Usage { holder, month: &open.month, used, limit, refused: false, now };
                alerts::note_usage(connection, &usage)?;
            }
        }
        spending::note(connection, &payers, &open.month, now)?;
    }
    connection.prepare_cached("DELETE FROM reservations WHERE id = ?1")?.execute([id])?;
    Ok(())
}
