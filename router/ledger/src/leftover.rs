//! What a run left open, settled by one rule: a request that had started is charged its prompt and the tokens that were
//! counted; one that had not is released.

use rusqlite::Connection;

use crate::error::LedgerError;
use crate::inflight::Inflight;
use crate::ledger::{Recovered, inflight_error};
use crate::reservation::{Outcome, Settlement, settle};

/// An open reservation and what was counted of it.
pub(crate) struct Leftover {
    reservation: i64,
    settlement: Option<Settlement>,
}

/// All that is open, with what the file of running requests holds of it.
pub(crate) fn find(connection: &Connection, inflight: &Inflight) -> Result<Vec<Leftover>, LedgerError> {
    let mut statement = connection.prepare("SELECT id, slot FROM reservations")?;
    let open = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let open: Vec<(i64, u32)> = open.collect::<Result<_, _>>()?;
    open.into_iter()
        .map(|(reservation, slot)| {
            let counted = inflight.read(slot, reservation).map_err(inflight_error)?;
            let settlement = counted.map(|counted| Settlement {
                prompt_tokens: counted.prompt_tokens,
                cached_tokens: counted.cached_tokens,
                completion_tokens: counted.completion_tokens,
                outcome: Outcome::Crashed,
            });
            Ok(Leftover { reservation, settlement })
        })
        .collect()
}

/// Settles it.
pub(crate) fn settle_all(connection: &Connection, leftovers: &[Leftover], now: i64) -> Result<Recovered, LedgerError> {
    let mut recovered = Recovered::default();
    for Leftover { reservation, settlement } in leftovers {
        settle(connection, *reservation, *settlement, now)?;
        *(if settlement.is_some() { &mut recovered.charged } else { &mut recovered.released }) += 1;
    }
    Ok(recovered)
}
