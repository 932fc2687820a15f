//! What energy and the machine cost at a moment.

use allerac_ledger::Hours;
use jiff::Zoned;

/// Prices in billionths of the currency.
#[derive(Debug, Clone, Default)]
pub struct Tariff {
    /// A kilowatt hour.
    pub per_kwh: u64,
    /// A kilowatt hour at certain hours of the week, by the clock on the owner's wall. The first that fit count.
    pub at_hours: Vec<(Hours, u64)>,
    /// What the machine itself cost, for an hour in which it computes.
    pub machine_per_hour: u64,
}

impl Tariff {
    /// A kilowatt hour at a moment.
    #[must_use]
    pub fn per_kwh_at(&self, moment: &Zoned) -> u64 {
        let special = self.at_hours.iter().find(|(hours, _)| hours.contain(moment));
        special.map_or(self.per_kwh, |(_, price)| *price)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn the_clock_on_the_wall_decides_also_when_it_changes() {
        let hours = |text: &str| text.parse::<Hours>().unwrap();
        let at_hours = vec![(hours("sat 00:00-24:00"), 200), (hours("02:00-03:00"), 100)];
        let tariff = Tariff { per_kwh: 300, at_hours, machine_per_hour: 0 };
        let vienna = TimeZone::get("Europe/Vienna").unwrap();
        for (moment, price) in [
            // A Saturday, all day.
            ("2026-10-24T00:30Z", 200),
            ("2026-10-24T21:59Z", 200),
            // The clock goes from three to two: the hour is there twice.
            ("2026-10-24T22:00Z", 300),
            ("2026-10-25T00:30Z", 100),
            ("2026-10-25T01:30Z", 100),
            ("2026-10-25T02:00Z", 300),
            // It goes from two to three: the hour is not there.
            ("2026-03-29T00:59Z", 300),
            ("2026-03-29T01:00Z", 300),
        ] {
            let moment: Timestamp = moment.parse().unwrap();
            assert_eq!(tariff.per_kwh_at(&moment.to_zoned(vienna.clone())), price, "{moment}");
        }
    }
}
