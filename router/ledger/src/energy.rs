//! What requests took of the box beside tokens: energy, the time of processors, and what both cost. It is known a moment
//! after a request is settled, and added then; so a settled request has two states here, and no more.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::settings;
use crate::sql::{Connection, DatabaseError, NONE, OptionalExtension, params};
use crate::time::Moment;

/// What is counted on this box, as JSON.
const SOURCES: &str = "energy_sources";

/// What a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its name in the books.
    pub request_id: Uuid,
    /// Millionths of a joule.
    pub energy_uj: u64,
    /// Millionths of a second, of all processors.
    pub cpu_us: u64,
    /// What the energy cost, in billionths of the currency.
    pub electricity: u64,
    /// Its part of the machine's price, in billionths of the currency.
    pub machine: u64,
}

/// What the box took while nobody's request was computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct OwnEnergy {
    /// Millionths of a joule.
    pub energy_uj: u64,
    /// What it cost, in billionths of the currency.
    pub electricity: u64,
}

/// What is to be written down together: it adds up to what was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnergyBooking {
    /// Of requests that ended.
    pub requests: Vec<Taken>,
    /// Of none.
    pub own: OwnEnergy,
}

/// What of the box is measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergySources {
    /// Counters that are read.
    pub counters: Vec<String>,
    /// Counters that are there and may not be read.
    pub unreadable: Vec<String>,
}

impl Ledger {
    /// Adds what requests took to them and to the sums. What is of a request that is not in the books, because nothing
    /// was charged for it, is the box's own.
    ///
    /// # Errors
    /// When it cannot be written; then none of it is.
    pub async fn book_energy(&self, booking: EnergyBooking) -> Result<(), LedgerError> {
        let now = self.now();
        self.writer.call(move |connection| book(connection, &booking, &now)).await
    }

    /// What the box took for itself, in a month (`2026-11`) or ever.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn own_energy(&self, month: Option<&str>) -> Result<OwnEnergy, LedgerError> {
        self.read(|connection| {
            let query = "SELECT coalesce(sum(energy_uj), 0), coalesce(sum(electricity), 0) FROM own_energy
                WHERE ?1 IS NULL OR month = ?1";
            Ok(connection.prepare_cached(query)?.query_row([month], |row| {
                let number = |index| Ok::<_, DatabaseError>(row.get::<i64>(index)?.unsigned_abs());
                Ok(OwnEnergy { energy_uj: number(0)?, electricity: number(1)? })
            })?)
        })
    }

    /// What the box's own energy cost by day (`2026-11-22`), in billionths of the currency.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn own_electricity_by_day(&self) -> Result<BTreeMap<String, i64>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT day, electricity FROM own_energy")?;
            let rows = statement.query_map(NONE, |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The day (`2026-11-22`) of a moment, in seconds since 1970.
    #[must_use]
    pub fn day(&self, moment: i64) -> String {
        Moment::at(Timestamp::from_second(moment).unwrap_or_default(), self.zone()).day
    }

    /// What of the box is measured, as the server said when it began; `None` before there was one.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn energy_sources(&self) -> Result<Option<EnergySources>, LedgerError> {
        let text = self.read(|connection| settings::get(connection, SOURCES))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Remembers what of the box is measured.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn keep_energy_sources(&self, sources: &EnergySources) -> Result<(), LedgerError> {
        let text = serde_json::to_string(sources).expect("lists of names are plain data");
        self.writer.call(move |connection| settings::set(connection, SOURCES, &text)).await
    }
}

fn book(connection: &Connection, booking: &EnergyBooking, now: &Moment) -> Result<(), LedgerError> {
    let mut own = [booking.own.energy_uj, booking.own.electricity].map(signed);
    for taken in &booking.requests {
        if !add(connection, taken)? {
            own[0] = own[0].saturating_add(signed(taken.energy_uj));
            own[1] = own[1].saturating_add(signed(taken.electricity));
        }
    }
    add_own(connection, (&now.month, &now.day), own)
}

/// Adds what a request took to it, its day and its month; whether it is in the books.
fn add(connection: &Connection, taken: &Taken) -> Result<bool, LedgerError> {
    const ADD: &str = "SET energy_uj = energy_uj + ?1, cpu_us = cpu_us + ?2, electricity = electricity + ?3,
        machine = machine + ?4";
    let [energy, cpu, electricity, machine] =
        [taken.energy_uj, taken.cpu_us, taken.electricity, taken.machine].map(signed);
    let place: Option<(String, String, i64, String, String, String)> = connection
        .prepare_cached(&format!(
            "UPDATE usage {ADD} WHERE request_id = ?5 RETURNING month, day, key_id, model, served_by, endpoint"
        ))?
        .query_row(params![energy, cpu, electricity, machine, taken.request_id.to_string()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })
        .optional()?;
    let Some((month, day, key, model, served_by, endpoint)) = place else { return Ok(false) };
    connection
        .prepare_cached(&format!(
            "UPDATE usage_daily {ADD} WHERE month = ?5 AND day = ?6 AND key_id = ?7 AND model = ?8 AND served_by = ?9
             AND endpoint = ?10"
        ))?
        .execute(params![energy, cpu, electricity, machine, month, day, key, model, served_by, endpoint])?;
    connection
        .prepare_cached(&format!("UPDATE usage_monthly {ADD} WHERE month = ?5 AND key_id = ?6 AND model = ?7"))?
        .execute(params![energy, cpu, electricity, machine, month, key, model])?;
    Ok(true)
}

/// Adds to the box's own of a day: energy, and what it cost.
pub(crate) fn add_own(
    connection: &Connection,
    (month, day): (&str, &str),
    [energy, electricity]: [i64; 2],
) -> Result<(), LedgerError> {
    if energy == 0 {
        return Ok(());
    }
    connection
        .prepare_cached(
            "INSERT INTO own_energy AS own (day, month, energy_uj, electricity) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (day) DO UPDATE SET energy_uj = own.energy_uj + excluded.energy_uj,
             electricity = own.electricity + excluded.electricity",
        )?
        .execute(params![day, month, energy, electricity])?;
    Ok(())
}

/// As the database keeps it: far beyond what a box takes in its life.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
