//! What a run left open, settled by one rule: a request that had started is charged its prompt and the tokens that were
//! counted; one that had not is released.

use crate::error::LedgerError;
use crate::inflight::Inflight;
use crate::ledger::{Recovered, inflight_error};
use crate::reservation::{Outcome, Settlement, settle};
use crate::sql::{Connection, NONE};

/// An open reservation and what was counted of it.
pub(crate) struct Leftover {
    reservation: i64,
    settlement: Option<Settlement>,
}

/// All that this server has open, with what the file of running requests holds of it.
pub(crate) fn find(connection: &Connection, replica: &str, inflight: &Inflight) -> Result<Vec<Leftover>, LedgerError> {
    let mut statement = connection.prepare_cached("SELECT id, slot FROM reservations WHERE replica = ?1")?;
    let open = statement.query_map([replica], |row| Ok((row.get(0)?, row.get(1)?)))?;
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

/// Releases all that is open; how many requests.
pub(crate) fn release_all(connection: &Connection, now: i64) -> Result<u32, LedgerError> {
    let mut statement = connection.prepare_cached("SELECT id FROM reservations")?;
    let open = statement.query_map(NONE, |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    for reservation in &open {
        settle(connection, *reservation, None, now)?;
    }
    Ok(u32::try_from(open.len()).unwrap_or(u32::MAX))
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
