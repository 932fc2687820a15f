//! What a request is paid with: tokens of the month, set aside in the ledger, and tokens of the minute.

use std::sync::Arc;

use allerac_energy::{Account, Accounts};
use allerac_engine_link::Worked;
use allerac_ledger::{Ledger, LedgerError, Principal, Reservation, Reserve, Settlement};
use allerac_router_core::{Limited, Limits, RateLimits, TakenTokens};

use crate::error::ApiError;
use crate::state::AppState;

/// Where requests are paid.
#[derive(Debug, Clone)]
pub(crate) struct Till {
    ledger: Ledger,
    limits: Limits,
    energy: Accounts,
}

/// Tokens set aside for a request. Dropped, it costs what was counted.
#[derive(Debug)]
pub(crate) struct Payment {
    reservation: Reservation,
    minute: TakenTokens,
    /// Closed after the settlement is on its way: what it took is added to that.
    energy: Account,
}

/// The accounts that limits of a minute count for somebody, with the limits of now. Those without any are not counted.
pub(crate) fn limited(caller: &Principal) -> Vec<Limited> {
    let accounts = caller.accounts().into_iter().map(|(account, plan)| {
        let limits = RateLimits {
            requests_a_minute: plan.requests_a_minute.map(u64::from),
            tokens_a_minute: plan.tokens_a_minute,
            concurrency: plan.concurrency.map(u64::from),
        };
        Limited { account, limits }
    });
    accounts.filter(|limited| limited.limits != RateLimits::default()).collect()
}

impl Till {
    pub(crate) fn of(state: &AppState) -> Self {
        Self { ledger: state.ledger.clone(), limits: state.limits.clone(), energy: state.energy.clone() }
    }

    /// Sets aside the most that a request can cost.
    pub(crate) async fn set_aside(
        &self,
        principal: &Principal,
        accounts: &[Limited],
        request: Reserve,
    ) -> Result<Payment, ApiError> {
        let tokens = u64::from(request.prompt_tokens) + u64::from(request.max_output_tokens);
        let minute = self.limits.take_tokens(accounts, tokens).await?;
        // Where the month has too few left, those of the minute are given back here.
        let energy = self.energy.open(request.request_id, &request.model);
        let reservation = self.ledger.reserve(principal, request).await?;
        Ok(Payment { reservation, minute, energy })
    }
}

impl Payment {
    /// Where engines count what they do for the request.
    pub(crate) fn worked(&self) -> Arc<Worked> {
        self.energy.worked()
    }

    /// Whether another server may make no more output than was set aside.
    pub(crate) fn bounds_output(&self) -> bool {
        self.reservation.bounds_output()
    }

    /// Counts what the request has cost so far. Called before the tokens are sent.
    pub(crate) fn count(&mut self, prompt: u32, cached: u32, completion: u32) -> Result<(), LedgerError> {
        self.minute.count(u64::from(prompt) + u64::from(completion));
        self.reservation.count(prompt, cached, completion)
    }

    /// Pays what it did cost, durably: whoever is told what was used has it in the books, even where the power fails in the
    /// next moment. A disk that takes nothing more keeps nobody waiting: what was counted stands for it.
    pub(crate) async fn settle(mut self, cost: Settlement) {
        self.minute.count(u64::from(cost.prompt_tokens) + u64::from(cost.completion_tokens));
        if let Err(error) = self.reservation.settle(cost).await {
            tracing::warn!("a settlement waits for the disk: {error}");
        }
    }

    /// Takes all of it back; nothing was used.
    pub(crate) fn release(mut self) {
        self.minute.count(0);
        drop(self.reservation.release());
    }
}
