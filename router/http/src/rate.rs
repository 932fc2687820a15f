//! What answers say of the limits of a minute, in the words of each API.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use allerac_router_core::{Gauge, Gauges, Limited, Limits};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::api::Api;

/// Says that a soft limit was passed this month.
const SOFT_LIMIT: HeaderName = HeaderName::from_static("x-allerac-soft-limit");

/// Whose limits an answer is to tell of: set once it is known who asks, read when there is an answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Arc<OnceLock<Whose>>);

#[derive(Debug)]
struct Whose {
    accounts: Vec<Limited>,
    past_soft_limit: bool,
}

impl Told {
    pub(crate) fn set(&self, accounts: &[Limited], past_soft_limit: bool) {
        // A request has one caller: a second time says the same.
        let _ = self.0.set(Whose { accounts: accounts.to_vec(), past_soft_limit });
    }

    /// Writes how far the limits are used as an answer begins.
    pub(crate) fn write(&self, api: Api, limits: &Limits, headers: &mut HeaderMap) {
        let Some(whose) = self.0.get() else { return };
        if whose.past_soft_limit {
            headers.insert(SOFT_LIMIT, HeaderValue::from_static("passed"));
        }
        if whose.accounts.is_empty() {
            return;
        }
        let Gauges { requests, tokens } = limits.gauges(&whose.accounts);
        let names = if api == Api::Anthropic { &ANTHROPIC } else { &OPENAI };
        for (gauge, [limit, remaining, reset]) in [requests, tokens].into_iter().zip(names) {
            let Some(gauge) = gauge else { continue };
            headers.insert(HeaderName::from_static(limit), HeaderValue::from(gauge.limit));
            headers.insert(HeaderName::from_static(remaining), HeaderValue::from(gauge.remaining));
            if let Ok(value) = HeaderValue::from_str(&told(api, &gauge)) {
                headers.insert(HeaderName::from_static(reset), value);
            }
        }
    }
}

/// OpenAI's headers: <https://platform.openai.com/docs/guides/rate-limits>.
const OPENAI: [[&str; 3]; 2] = [
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
];
/// Anthropic's: <https://docs.claude.com/en/api/rate-limits>.
const ANTHROPIC: [[&str; 3]; 2] = [
    [
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ],
    ["anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"],
];

/// When all may come again: as a moment for Anthropic's clients, as a time from now for others.
fn told(api: Api, gauge: &Gauge) -> String {
    if api != Api::Anthropic {
        return duration(gauge.reset);
    }
    let seconds = i64::try_from(gauge.reset.as_millis().div_ceil(1000)).unwrap_or(0);
    let reset = Timestamp::from_second(Timestamp::now().as_second().saturating_add(seconds));
    reset.unwrap_or(Timestamp::MAX).to_string()
}

/// As OpenAI writes it, and Go reads it: `0s`, `340ms`, `17.5s`, `1m0.5s`.
fn duration(time: Duration) -> String {
    let ms = time.as_millis();
    let seconds = |ms: u128| match (ms / 1000, ms % 1000) {
        (seconds, 0) => format!("{seconds}s"),
        (seconds, rest) => format!("{seconds}.{}s", format!("{rest:03}").trim_end_matches('0')),
    };
    match ms {
        0 => "0s".to_owned(),
        1..1000 => format!("{ms}ms"),
        1000..60_000 => seconds(ms),
        _ => format!("{}m{}", ms / 60_000, seconds(ms % 60_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use allerac_router_core::RateLimits;

    #[test]
    fn times_are_written_as_openai_does() {
        let written =
            [0, 7, 1000, 17_500, 59_999, 60_000, 60_500, 125_040].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(written, ["0s", "7ms", "1s", "17.5s", "59.999s", "1m0s", "1m0.5s", "2m5.04s"]);
    }

    #[tokio::test]
    async fn each_api_has_its_own_words() {
        let limits = Limits::default();
        let few = RateLimits { requests_a_minute: Some(3), tokens_a_minute: Some(100), concurrency: None };
        let accounts = [Limited { account: "user:1".into(), limits: few }];
        let _permit = limits.admit(&accounts).await.unwrap();
        let told = Told::default();
        told.set(&accounts, true);
        let write = |api| {
            let mut headers = HeaderMap::new();
            told.write(api, &limits, &mut headers);
            headers
        };
        let headers = write(Api::OpenAi);
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(
            (text("x-ratelimit-limit-requests"), text("x-ratelimit-remaining-requests")),
            ("3".into(), "2".into())
        );
        assert!(text("x-ratelimit-reset-requests").ends_with('s'));
        let tokens = ["limit", "remaining", "reset"].map(|what| text(&format!("x-ratelimit-{what}-tokens")));
        assert_eq!(tokens, ["100", "100", "0s"]);
        assert_eq!(text("x-allerac-soft-limit"), "passed");
        assert_eq!(headers.len(), 7);
        let headers = write(Api::Anthropic);
        assert_eq!(headers["anthropic-ratelimit-requests-remaining"], "2");
        let reset: Timestamp = headers["anthropic-ratelimit-requests-reset"].to_str().unwrap().parse().unwrap();
        assert!((55..=62).contains(&(reset.as_second() - Timestamp::now().as_second())));
        assert_eq!(headers.len(), 7);
        let mut none = HeaderMap::new();
        Told::default().write(Api::OpenAi, &limits, &mut none);
        assert!(none.is_empty());
    }
}
