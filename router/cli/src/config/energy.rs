//! `[energy]`: what a kilowatt hour costs, and the machine.

use allerac_energy::Tariff;
use allerac_ledger::Hours;
use serde::Deserialize;

use super::load::Bounded;
use super::money::Money;

/// What electricity and the machine cost, in the currency. Nothing, where the file does not say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EnergySection {
    price_per_kwh: Option<Money>,
    /// Other prices at certain hours of the week.
    times: Vec<TimeSection>,
    machine: Option<MachineSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeSection {
    #[serde(deserialize_with = "hours")]
    hours: Hours,
    price_per_kwh: Money,
}

/// What the machine cost, and for how long it is to serve.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MachineSection {
    price: Money,
    years: Bounded<1, 50>,
    /// Hours in which it computes on an average day.
    #[serde(default = "all_day")]
    hours_a_day: Bounded<1, 24>,
}

impl EnergySection {
    /// The prices at each moment.
    pub(crate) fn tariff(&self) -> Tariff {
        Tariff {
            per_kwh: self.price_per_kwh.map_or(0, |price| price.0),
            at_hours: self.times.iter().map(|time| (time.hours.clone(), time.price_per_kwh.0)).collect(),
            machine_per_hour: self.machine.as_ref().map_or(0, MachineSection::per_hour),
        }
    }
}

impl MachineSection {
    /// For an hour in which it computes. A year has 365.25 days.
    fn per_hour(&self) -> u64 {
        let hours_in_four_years = 1461 * u64::from(self.hours_a_day.get());
        self.price.0.saturating_mul(4) / (hours_in_four_years * u64::from(self.years.get()))
    }
}

fn all_day() -> Bounded<1, 24> {
    Bounded::try_from(24).expect("a day has 24 hours")
}

fn hours<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Hours, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_to_a_billionth() {
        let text = "price_per_kwh = 0.2975
            [[times]]
            hours = \"mon-fri 22:00-06:00; sat,sun 00:00-24:00\"
            price_per_kwh = 0.2
            [machine]
            price = 876.6
            years = 5
            hours_a_day = 8";
        let tariff = toml::from_str::<EnergySection>(text).unwrap().tariff();
        assert_eq!((tariff.per_kwh, tariff.machine_per_hour), (297_500_000, 60_000_000));
        let at = |moment: &str| tariff.per_kwh_at(&moment.parse().unwrap());
        assert_eq!(at("2026-11-20T21:59[Europe/Vienna]"), 297_500_000);
        assert_eq!(at("2026-11-20T22:00[Europe/Vienna]"), 200_000_000);
        let none = EnergySection::default().tariff();
        assert_eq!((none.per_kwh, none.machine_per_hour, none.at_hours.len()), (0, 0, 0));
    }
}
