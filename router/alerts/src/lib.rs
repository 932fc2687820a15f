//! Tells somebody what they are to know: over webhooks and by mail.
//!
//! What is to be told lies in the ledger; here it is sent, at least once under the same id, again and again with growing
//! waits, and given up for dead after hours, where people see it and may have it tried again.

mod channel;
mod mail;
mod sender;
mod text;
mod webhook;

pub use channel::{Channel, NotSent};
pub use mail::{Mail, MailConfig, Security};
pub use sender::{Sender, TRIES_MAX};
pub use webhook::{Webhook, WebhookConfig};
