//! One way to tell somebody.

use std::time::Duration;

use allerac_ledger::Alert;

use crate::mail::Mail;
use crate::webhook::Webhook;

/// How long one alert may take over one channel, all in all: the others wait meanwhile.
const SEND_WAIT: Duration = Duration::from_secs(40);

/// A way to tell somebody, by its name.
#[derive(Debug)]
pub enum Channel {
    /// A signed request to a server.
    Webhook(Box<Webhook>),
    /// A mail.
    Mail(Box<Mail>),
}

/// Why something was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotSent {
    /// Why.
    pub why: String,
    /// Trying again is in vain.
    pub is_lasting: bool,
}

impl NotSent {
    pub(crate) fn now(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_lasting: false }
    }

    pub(crate) fn ever(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_lasting: true }
    }
}

impl Channel {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Webhook(webhook) => webhook.name(),
            Self::Mail(_) => "email",
        }
    }

    /// Whether it wants alerts of a kind: all where no kinds were named.
    #[must_use]
    pub fn wants(&self, kind: &str) -> bool {
        let events = match self {
            Self::Webhook(webhook) => webhook.events(),
            Self::Mail(mail) => mail.events(),
        };
        events.is_empty() || kind == "test" || events.iter().any(|event| event == kind)
    }

    /// Tells it.
    ///
    /// # Errors
    /// [`NotSent`].
    pub async fn send(&self, alert: &Alert, box_name: &str) -> Result<(), NotSent> {
        let sending = async {
            match self {
                Self::Webhook(webhook) => webhook.send(alert, box_name).await,
                Self::Mail(mail) => mail.send(alert, box_name).await,
            }
        };
        let sent = tokio::time::timeout(SEND_WAIT, sending).await;
        sent.unwrap_or_else(|_| Err(NotSent::now("it did not take it in time")))
    }
}
