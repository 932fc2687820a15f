//! What to do when a server did not give what it should have.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};

use crate::error::ModelsError;

/// How often a broken download is taken up again before the user hears of it. Progress begins the count anew.
pub(crate) const TRIES_MAX: u32 = 5;
/// The first wait after a failure; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// A server that wants to be left alone for longer is said to do so.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// One try's failure, and whether another is worth it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// None is.
    Final(ModelsError),
    /// One is, after this time where the server said so.
    Again {
        /// What went wrong.
        reason: String,
        /// What the server asked for.
        after: Option<Duration>,
    },
}

impl Failure {
    pub(crate) fn again(reason: impl Into<String>) -> Self {
        Self::Again { reason: reason.into(), after: None }
    }

    /// Of an answer that is no success.
    pub(crate) fn of(response: &Response) -> Self {
        let status = response.status();
        let reason = format!("the server answered {status}");
        let passing =
            status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        if !passing {
            return Self::Final(ModelsError::Download(reason));
        }
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        match seconds.map(Duration::from_secs) {
            Some(after) if after > RETRY_AFTER_MAX => {
                let minutes = after.as_secs().div_ceil(60);
                Self::Final(ModelsError::Download(format!("{reason} and asks to come back in {minutes} minutes")))
            }
            after => Self::Again { reason, after },
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::again(explain(&error))
    }
}

/// How long to wait before the so manieth try in a row that brought nothing; an error when there were enough.
pub(crate) fn wait(failure: Failure, tries: u32) -> Result<Duration, ModelsError> {
    match failure {
        Failure::Final(error) => Err(error),
        Failure::Again { reason, .. } if tries >= TRIES_MAX => Err(ModelsError::Download(reason)),
        Failure::Again { reason, after } => {
            tracing::warn!("the download is taken up again: {reason}");
            let backoff = RETRY_FIRST * 2u32.pow(tries.saturating_sub(1));
            Ok(after.map_or(backoff, |after| after.max(backoff)))
        }
    }
}

/// An error with its causes; reqwest's own text leaves the reason out.
pub(crate) fn explain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
