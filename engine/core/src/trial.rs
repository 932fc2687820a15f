//! What a model that guesses costs, and what it may cost. Whether it pays is found out by trying, and what a try loses
//! is paid for from a small share of the time that goes into decoding: so a model that never pays costs that share.

use crate::pace::{FADE, Smoothed};
use std::time::Duration;

/// What a token costs a model before it was measured, in what it costs the model that it guesses for.
const TOKEN_ASSUMED: f64 = 0.2;
/// The share of the time without guesses that tries may lose.
const SHARE: f64 = 0.01;
/// The most that is saved up for tries, in seconds.
const BALANCE_MAX: f64 = 1.0;
/// Steps without its guesses after which a measurement is an old one.
const SKIPPED_MAX: u32 = 64;
/// Tokens that a model catches up with in a step before that was measured, and the fewest: it is to catch up some day.
const ROOM_MIN: u32 = 16;

/// Costs and gains of a model that guesses.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    /// Seconds of a guessed token.
    token: Smoothed,
    /// Steps since that was measured.
    skipped: u32,
    /// Seconds of a token of the sequence that it has to compute.
    catch_up: Smoothed,
    /// Seconds won and earned, less those spent.
    balance: f64,
    /// Seconds that a right token saved in the last step with guesses.
    pub(crate) worth: f64,
}

impl Trial {
    /// Whether another sequence may be tried: what the last ones lost is earned again.
    pub(crate) fn may_begin(&self) -> bool {
        self.balance >= 0.0
    }

    /// Whether it ever computed anything.
    pub(crate) fn is_measured(&self) -> bool {
        self.token.0.or(self.catch_up.0).is_some()
    }

    /// Whether it guessed lately: else what a guess costs is found out with a short one.
    pub(crate) fn is_fresh(&self) -> bool {
        self.token.0.is_some() && self.skipped < SKIPPED_MAX
    }

    /// Seconds of a guessed token, where the other model takes so many for one.
    pub(crate) fn token(&self, single: f64) -> f64 {
        self.token.0.unwrap_or(TOKEN_ASSUMED * single)
    }

    /// Seconds of a token to catch up with, where the other model takes so many for one of a prompt.
    pub(crate) fn catch_up(&self, prompt_token: f64) -> f64 {
        self.catch_up.0.unwrap_or(TOKEN_ASSUMED * prompt_token)
    }

    /// Tokens to catch up with in this time.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float becomes the nearest u32")]
    pub(crate) fn catch_up_in(&self, time: Duration) -> u32 {
        self.catch_up.0.map_or(ROOM_MIN, |seconds| (time.as_secs_f64() / seconds) as u32).max(ROOM_MIN)
    }

    /// Learns what it took to guess so many tokens, or to catch up with so many where none was guessed.
    pub(crate) fn note(&mut self, guessed: usize, computed: u32, took: Duration) {
        let seconds = took.as_secs_f64();
        self.spend(seconds);
        if let Some(guessed) = u32::try_from(guessed).ok().filter(|guessed| *guessed > 0) {
            if !self.is_fresh() {
                self.token = Smoothed::default();
            }
            self.token.note(seconds / f64::from(guessed));
            self.skipped = 0;
        } else if computed > 0 {
            self.catch_up.note(seconds / f64::from(computed));
        }
    }

    pub(crate) fn earn(&mut self, decoding: f64) {
        self.balance = (self.balance + SHARE * decoding).min(BALANCE_MAX);
    }

    pub(crate) fn spend(&mut self, seconds: f64) {
        self.balance -= seconds;
    }

    pub(crate) fn save(&mut self, tokens: u32) {
        self.balance = (self.balance + f64::from(tokens) * self.worth).min(BALANCE_MAX);
    }

    /// What looks too costly is tried again one day. Given is what a token and one of a prompt cost the other model.
    pub(crate) fn fade(&mut self, single: f64, prompt_token: f64) {
        self.skipped = self.skipped.saturating_add(1);
        for (seconds, other) in [(&mut self.token, single), (&mut self.catch_up, prompt_token)] {
            if let Some(measured) = &mut seconds.0 {
                *measured += FADE * (TOKEN_ASSUMED * other - *measured).min(0.0);
            }
        }
    }
}
