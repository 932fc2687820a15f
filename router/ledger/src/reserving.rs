//! The first step in which a request is paid: all that it can cost is set aside, or nothing of it.

use crate::alerts::{self, Usage};
use crate::balance::{Account, Standing};
use crate::error::LedgerError;
use crate::key::Principal;
use crate::plan::Rate;
use crate::prices::TokenPrices;
use crate::reservation::Reserve;
use crate::spending::{NoMoney, Purse};
use crate::sql::{Connection, params};
use crate::time::Moment;

/// A reservation on its way to the writer.
pub(crate) struct Reserving {
    pub(crate) accounts: Vec<Account>,
    pub(crate) principal: Principal,
    pub(crate) request: Reserve,
    pub(crate) slot: u32,
    pub(crate) now: Moment,
    pub(crate) replica: String,
}

/// A reservation that was made.
pub(crate) struct Made {
    pub(crate) id: i64,
    pub(crate) bounds_output: bool,
}

/// An account has less left than is wanted.
pub(crate) enum Short {
    Tokens { limit: u64, free: u64 },
    Money(NoMoney),
}

/// What an account is charged, and by which rule.
#[derive(Clone, Copy)]
struct Charge {
    tokens: i64,
    rate: Rate,
}

/// What another server may take.
struct Bill {
    purses: Vec<Purse>,
    prices: TokenPrices,
    cost: i64,
}

impl Reserving {
    /// The reservation, or which limit is in its way.
    pub(crate) fn run(&self, connection: &Connection) -> Result<Result<Made, Short>, LedgerError> {
        let mut charges = Vec::new();
        for account in &self.accounts {
            match self.charge(connection, account)? {
                Ok(charge) => charges.push(charge),
                Err(short) => return Ok(Err(short)),
            }
        }
        let bill = self.bill(connection)?;
        for purse in &bill.purses {
            if let Err(short) = purse.check(connection, (&self.now.month, self.now.seconds), bill.cost)? {
                return Ok(Err(Short::Money(short)));
            }
        }
        for (account, (standing, charge)) in self.accounts.iter().zip(&charges) {
            standing.reserve(connection, &account.name, &self.now.month, charge.tokens)?;
        }
        for purse in &bill.purses {
            purse.reserve(connection, &self.now.month, bill.cost)?;
        }
        let charges: Vec<Charge> = charges.into_iter().map(|(_, charge)| charge).collect();
        let id = self.insert(connection, &charges, &bill)?;
        Ok(Ok(Made { id, bounds_output: bill.purses.iter().any(Purse::is_limited) }))
    }

    /// What an account is charged at most, where it has so much left.
    fn charge(
        &self,
        connection: &Connection,
        account: &Account,
    ) -> Result<Result<(Standing, Charge), Short>, LedgerError> {
        let (request, now) = (&self.request, &self.now);
        let rate = account.rate(&request.model);
        let tokens = rate.charge(request.prompt_tokens, request.max_output_tokens);
        let standing = Standing::of(connection, account, now)?;
        if let (Some(limit), Some(free)) = (standing.limit, standing.free().filter(|free| *free < tokens)) {
            let (month, holder) = (now.month.as_str(), account.holder);
            let usage = Usage { holder, month, used: standing.used, limit, refused: true, now: now.seconds };
            alerts::note_usage(connection, &usage)?;
            return Ok(Err(Short::Tokens { limit: limit.unsigned_abs(), free: free.unsigned_abs() }));
        }
        Ok(Ok((standing, Charge { tokens, rate })))
    }

    /// What another server may take at most, and who pays. Where nothing has a price, nobody does; a server that has one
    /// may take more than was thought, of somebody whose books then need a row for it.
    fn bill(&self, connection: &Connection) -> Result<Bill, LedgerError> {
        let request = &self.request;
        let prices = TokenPrices::find(connection, &request.served_by, &request.model)?;
        let cost = prices.most(request.prompt_tokens, request.max_output_tokens);
        let is_free = prices == TokenPrices::default();
        let purses = if is_free { Vec::new() } else { Purse::of(connection, &self.accounts, &request.served_by)? };
        Ok(Bill { purses, prices, cost })
    }

    /// Writes it down, and the rules by which it is to be settled.
    fn insert(&self, connection: &Connection, charges: &[Charge], bill: &Bill) -> Result<i64, LedgerError> {
        let (request, now) = (&self.request, &self.now);
        // The user's account comes first, the key's second where it has one.
        let charge = |place: usize| charges.get(place).copied().unwrap_or(Charge { tokens: 0, rate: Rate::PLAIN });
        let (user, key) = (charge(0), charge(1));
        let mut statement = connection.prepare_cached(
            "INSERT INTO reservations (request_id, key_id, user_id, key_account, model, endpoint, served_by,
             tokens, slot, day, month, created_at, key_tokens, user_input, user_output, key_input, key_output, replica,
             cost, price_input, price_cached, price_output)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)
             RETURNING id",
        )?;
        let values = params![
            request.request_id.to_string(),
            self.principal.key,
            self.principal.payer,
            charges.len() > 1,
            request.model,
            request.endpoint,
            request.served_by,
            user.tokens,
            self.slot,
            now.day,
            now.month,
            now.seconds,
            key.tokens,
            user.rate.input,
            user.rate.output,
            key.rate.input,
            key.rate.output,
            self.replica,
            bill.cost,
            bill.prices.input,
            bill.prices.cached,
            bill.prices.output
        ];
        Ok(statement.query_row(values, |row| row.get(0))?)
    }
}
