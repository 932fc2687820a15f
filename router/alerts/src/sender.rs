//! Sends what is due, for as long as it runs.

use std::sync::Arc;
use std::time::Duration;

use allerac_ledger::{Delivery, Ledger, LedgerError, Tried};
use jiff::Timestamp;

use crate::channel::Channel;

/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long is waited after the first try that failed; after each next twice as long.
const FIRST_WAIT_S: i64 = 10;
/// The longest wait between two tries.
const WAIT_MAX_S: i64 = 3600;
/// Tries after which an alert is given up: about six hours.
pub const TRIES_MAX: u32 = 14;

/// Sends what is due.
#[derive(Debug)]
pub struct Sender {
    ledger: Ledger,
    channels: Arc<Vec<Channel>>,
    box_name: String,
}

impl Sender {
    /// Over these channels, in the name of a box.
    #[must_use]
    pub fn new(ledger: Ledger, channels: Vec<Channel>, box_name: String) -> Self {
        Self { ledger, channels: Arc::new(channels), box_name }
    }

    /// Sends until it is dropped.
    pub async fn run(self) {
        loop {
            if let Err(error) = self.send_due().await {
                tracing::warn!("alerts cannot be sent now: {error}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn send_due(&self) -> Result<(), LedgerError> {
        let names: Vec<String> = self.channels.iter().map(|channel| channel.name().to_owned()).collect();
        let channels = Arc::clone(&self.channels);
        let wanted =
            move |name: &str, kind: &str| channels.iter().any(|channel| channel.name() == name && channel.wants(kind));
        for delivery in self.ledger.due_alerts(&names, wanted).await? {
            let tried = self.try_one(&delivery).await;
            self.ledger.alert_tried(&delivery, tried).await?;
        }
        Ok(())
    }

    async fn try_one(&self, delivery: &Delivery) -> Tried {
        let Some(channel) = self.channels.iter().find(|channel| channel.name() == delivery.channel) else {
            return Tried::Dead { error: "this channel is no longer in the configuration".to_owned() };
        };
        let Err(not_sent) = channel.send(&delivery.alert, &self.box_name).await else { return Tried::Delivered };
        let (id, name) = (&delivery.alert.id, &delivery.channel);
        if not_sent.is_lasting || delivery.tries + 1 >= TRIES_MAX {
            tracing::error!(id, channel = name, "an alert could not be delivered and is given up: {not_sent}");
            return Tried::Dead { error: not_sent.why };
        }
        tracing::warn!(id, channel = name, "an alert could not be delivered yet: {not_sent}");
        let at = Timestamp::now().as_second() + wait_s(delivery.tries);
        Tried::Again { at, error: not_sent.why }
    }
}

/// How long to wait after so many tries before the last one.
fn wait_s(tries: u32) -> i64 {
    FIRST_WAIT_S.saturating_mul(2_i64.saturating_pow(tries)).min(WAIT_MAX_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        assert_eq!([0, 1, 2, 8, 9, 40, 63, 64].map(wait_s), [10, 20, 40, 2560, 3600, 3600, 3600, 3600]);
        let all: i64 = (0..TRIES_MAX - 1).map(wait_s).sum();
        assert_eq!(all / 3600, 5, "hours until it is given up");
    }
}
