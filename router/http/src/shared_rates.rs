//! The limits of a minute over several servers, counted in the database that their books are in.

use std::pin::Pin;
use std::time::Duration;

use allerac_ledger::Ledger;
use allerac_router_core::{Away, Count, Limits, Rates, SharedRates};
use jiff::Timestamp;

/// Counts in the notes beside the books.
#[derive(Debug)]
struct InNotes {
    ledger: Ledger,
    /// This server's name, with the moment when it started.
    server: String,
}

/// The limits as this ledger has them counted: here, or together with the other servers that share it.
#[must_use]
pub fn limits(ledger: &Ledger) -> Limits {
    match ledger.shared_as() {
        Some(name) => {
            let server = format!("{name}/{}", Timestamp::now().as_millisecond());
            Limits::shared(std::sync::Arc::new(InNotes { ledger: ledger.clone(), server }))
        }
        None => Limits::default(),
    }
}

impl SharedRates for InNotes {
    fn count(&self, accounts: Vec<String>, mut count: Count) -> Pin<Box<dyn Future<Output = Result<(), Away>> + Send>> {
        let (ledger, server) = (self.ledger.clone(), self.server.clone());
        Box::pin(async move {
            let named = accounts.clone();
            let changed = ledger.change_notes(notes(&accounts), move |now, notes| {
                let mut rates = read(&named, notes, (&server, now));
                count(&mut rates, now);
                for (account, note) in named.iter().zip(notes) {
                    *note = rates.write(account, (&server, now));
                }
            });
            changed.await.map_err(|error| {
                tracing::error!("the limits of a minute: {error}");
                Away
            })
        })
    }

    fn look(&self, accounts: &[String]) -> Result<(Rates, Duration), Away> {
        let (now, notes) = self.ledger.notes(&notes(accounts)).map_err(|_| Away)?;
        Ok((read(accounts, &notes, (&self.server, now)), now))
    }
}

fn notes(accounts: &[String]) -> Vec<String> {
    accounts.iter().map(|account| format!("rates {account}")).collect()
}

fn read(accounts: &[String], notes: &[Option<String>], at: (&str, Duration)) -> Rates {
    let mut rates = Rates::default();
    for (account, note) in accounts.iter().zip(notes) {
        if let Some(note) = note {
            rates.read(account, note, at);
        }
    }
    rates
}
