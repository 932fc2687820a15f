//! The sharing itself: pure.

use std::collections::BTreeMap;

use allerac_engine_core::work::share;
use allerac_ledger::{OwnEnergy, Taken};
use uuid::Uuid;

/// Millionths of a joule in a kilowatt hour.
const UJ_A_KWH: u128 = 3_600_000_000_000;
/// Nanoseconds in an hour.
const NS_AN_HOUR: u128 = 3_600_000_000_000;

/// What happened between two looks.
#[derive(Debug, Clone, Default)]
pub struct Interval {
    /// Energy that was measured, in millionths of a joule.
    pub energy_uj: u64,
    /// What a kilowatt hour cost, in billionths of the currency.
    pub per_kwh: u64,
    /// What engines did for whom: by account, nanoseconds of steps and of processors.
    pub work: Vec<(u64, u64, u64)>,
    /// Whether engines have any request.
    pub is_running: bool,
}

/// Energy, and its price: in millionths of a joule times billionths of the currency for a kilowatt hour, so that nothing
/// is rounded before it is booked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amount {
    energy_uj: u64,
    price: u128,
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.energy_uj = self.energy_uj.saturating_add(other.energy_uj);
        self.price = self.price.saturating_add(other.price);
    }

    /// A part of the energy, with its part of the price.
    fn part(self, energy_uj: u64) -> Self {
        let (part, whole) = (u128::from(energy_uj), u128::from(self.energy_uj.max(1)));
        // As price * part / whole, which might be too large on the way.
        Self { energy_uj, price: self.price / whole * part + self.price % whole * part / whole }
    }

    /// In billionths of the currency.
    fn cost(self) -> u64 {
        u64::try_from(self.price / UJ_A_KWH).unwrap_or(u64::MAX)
    }
}

#[derive(Debug)]
struct Open {
    request: Uuid,
    taken: Amount,
    time_ns: u64,
    cpu_ns: u64,
}

/// Shares what is measured among those that engines work for.
#[derive(Debug, Default)]
pub struct Meter {
    open: BTreeMap<u64, Open>,
    own: Amount,
    /// Measured while engines had requests that they have not told of yet.
    untold: Amount,
    machine_per_hour: u64,
}

impl Meter {
    /// `machine_per_hour` is what an hour of computing costs, in billionths of the currency.
    #[must_use]
    pub fn new(machine_per_hour: u64) -> Self {
        Self { machine_per_hour, ..Self::default() }
    }

    /// Opens an account.
    pub fn open(&mut self, account: u64, request: Uuid) {
        self.open.insert(account, Open { request, taken: Amount::default(), time_ns: 0, cpu_ns: 0 });
    }

    /// Shares what was measured by what was done. While nothing is told of requests that are running, it waits; what is
    /// measured while there is none is the box's own.
    pub fn share(&mut self, interval: &Interval) {
        let price = u128::from(interval.energy_uj) * u128::from(interval.per_kwh);
        self.untold.add(Amount { energy_uj: interval.energy_uj, price });
        let known = interval.work.iter().filter(|(account, time, _)| *time > 0 && self.open.contains_key(account));
        let work: Vec<(u64, u64, u64)> = known.copied().collect();
        if work.is_empty() {
            if !interval.is_running {
                self.own.add(std::mem::take(&mut self.untold));
            }
            return;
        }
        let all = std::mem::take(&mut self.untold);
        let times: Vec<u64> = work.iter().map(|(_, time, _)| *time).collect();
        for ((account, time, cpu), energy_uj) in work.into_iter().zip(share(all.energy_uj, &times)) {
            let Some(open) = self.open.get_mut(&account) else { continue };
            open.taken.add(all.part(energy_uj));
            open.time_ns = open.time_ns.saturating_add(time);
            open.cpu_ns = open.cpu_ns.saturating_add(cpu);
        }
    }

    /// Closes an account; what its request took, where that is anything.
    pub fn close(&mut self, account: u64) -> Option<Taken> {
        let open = self.open.remove(&account)?;
        let machine = u128::from(open.time_ns) * u128::from(self.machine_per_hour) / NS_AN_HOUR;
        let taken = Taken {
            request_id: open.request,
            energy_uj: open.taken.energy_uj,
            cpu_us: open.cpu_ns / 1000,
            electricity: open.taken.cost(),
            machine: u64::try_from(machine).unwrap_or(u64::MAX),
        };
        (open.time_ns > 0).then_some(taken)
    }

    /// Takes what the box took for itself. What is left of a billionth stays for the next time.
    pub fn take_own(&mut self) -> OwnEnergy {
        let own = OwnEnergy { energy_uj: self.own.energy_uj, electricity: self.own.cost() };
        self.own = Amount { energy_uj: 0, price: self.own.price % UJ_A_KWH };
        own
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KWH: u64 = 3_600_000_000_000;

    fn interval(energy_uj: u64, work: &[(u64, u64, u64)]) -> Interval {
        Interval { energy_uj, per_kwh: 300_000_000, work: work.to_vec(), is_running: !work.is_empty() }
    }

    #[test]
    fn energy_follows_the_work_and_prices_the_moment() {
        let mut meter = Meter::new(36_000_000);
        meter.share(&interval(KWH, &[]));
        meter.open(1, Uuid::nil());
        meter.open(2, Uuid::max());
        meter.share(&interval(4 * KWH, &[(1, 3_000_000_000, 5_000), (2, 1_000_000_000, 2_000)]));
        // At night, and told late.
        let night = Interval { per_kwh: 100_000_000, is_running: true, ..interval(KWH, &[]) };
        meter.share(&night);
        assert_eq!(meter.close(1).map(|taken| (taken.energy_uj, taken.electricity)), Some((3 * KWH, 900_000_000)));
        meter.share(&Interval { per_kwh: 100_000_000, ..interval(KWH, &[(2, 500_000_000, 1_000)]) });
        let second = Taken {
            request_id: Uuid::max(),
            energy_uj: 3 * KWH,
            cpu_us: 3,
            electricity: 300_000_000 + 2 * 100_000_000,
            // A second and a half.
            machine: 15_000,
        };
        assert_eq!(meter.close(2), Some(second));
        assert_eq!(meter.take_own(), OwnEnergy { energy_uj: KWH, electricity: 300_000_000 });
        assert_eq!(meter.take_own(), OwnEnergy::default());
    }

    #[test]
    fn a_request_that_nothing_was_done_for_took_nothing() {
        let mut meter = Meter::new(1);
        meter.open(1, Uuid::nil());
        meter.share(&Interval { is_running: true, ..interval(5, &[]) });
        assert_eq!(meter.close(1), None);
        meter.share(&interval(2, &[]));
        assert_eq!(meter.take_own().energy_uj, 7);
    }

    #[test]
    fn the_parts_of_a_billionth_add_up() {
        let mut meter = Meter::default();
        let mut cost = 0;
        // A joule at a time: 83 1/3 billionths each.
        for _ in 0..3_600_000 / 1000 {
            meter.share(&interval(1_000_000, &[]));
            cost += meter.take_own().electricity;
        }
        assert_eq!(cost, 300_000);
    }

    /// Opens, closes, and intervals in any order.
    #[derive(Debug, Clone)]
    enum Deed {
        Open(u64),
        Close(u64),
        Pass(Interval),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let work = prop::collection::vec((0u64..6, 0u64..2_000_000_000, 0u64..9_000_000_000), 0..6);
        let pass = (0u64..1 << 50, 0u64..1_000_000_000, work, any::<bool>());
        prop_oneof![
            (0u64..6).prop_map(Deed::Open),
            (0u64..6).prop_map(Deed::Close),
            pass.prop_map(|(energy_uj, per_kwh, work, is_running)| Deed::Pass(Interval {
                energy_uj,
                per_kwh,
                work,
                is_running
            })),
        ]
    }

    proptest! {
        #[test]
        fn what_requests_and_the_box_took_is_what_was_measured(deeds in prop::collection::vec(deed(), 1..60)) {
            let (mut meter, mut measured, mut told) = (Meter::new(7), 0u64, 0u64);
            for deed in deeds {
                match deed {
                    // A number that is open stands for its request until it is closed.
                    Deed::Open(account) if !meter.open.contains_key(&account) => meter.open(account, Uuid::nil()),
                    Deed::Open(_) => {}
                    Deed::Close(account) => told += meter.close(account).map_or(0, |taken| taken.energy_uj),
                    Deed::Pass(interval) => {
                        measured += interval.energy_uj;
                        meter.share(&interval);
                    }
                }
            }
            for account in 0..6 {
                told += meter.close(account).map_or(0, |taken| taken.energy_uj);
            }
            meter.share(&Interval::default());
            prop_assert_eq!(told + meter.take_own().energy_uj, measured);
        }
    }
}
