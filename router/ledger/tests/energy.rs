//! What requests take of the box beside tokens: booked once they are settled, in the same sums, and lost to nobody.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use allerac_ledger::{EnergyBooking, EnergySources, OwnEnergy, Taken};
use support::{Home, principal, reserve, settlement};
use uuid::Uuid;

fn taken(request_id: Uuid, energy_uj: u64) -> Taken {
    Taken { request_id, energy_uj, cpu_us: 7, electricity: 11, machine: 13 }
}

fn booking(requests: Vec<Taken>, energy_uj: u64) -> EnergyBooking {
    EnergyBooking { requests, own: OwnEnergy { energy_uj, electricity: energy_uj / 10 } }
}

/// What is in the books: of requests, and of the box.
fn booked(home: &Home) -> (u64, OwnEnergy) {
    home.check();
    let of_months = home.ledger.usage_by_month(None).unwrap();
    let energy = of_months.iter().map(|row| row.energy_uj).sum();
    assert_eq!(home.ledger.usage(None).unwrap().iter().map(|row| row.energy_uj).sum::<u64>(), energy);
    (energy, home.ledger.own_energy(None).unwrap())
}

#[tokio::test]
async fn requests_get_their_part_and_the_box_the_rest() {
    let home = Home::new();
    let anna = principal(&home.ledger, "anna", None).await;
    let asked = reserve(10, 20);
    let id = asked.request_id;
    home.ledger.reserve(&anna, asked).await.unwrap().settle(settlement(10, 5)).await.unwrap();
    // Of a request that is not in the books, because nothing was charged for it.
    home.ledger.book_energy(booking(vec![taken(id, 100), taken(Uuid::now_v7(), 40)], 50)).await.unwrap();
    assert_eq!(booked(&home), (100, OwnEnergy { energy_uj: 90, electricity: 16 }));
    home.ledger.book_energy(booking(vec![], 10)).await.unwrap();
    assert_eq!(booked(&home), (100, OwnEnergy { energy_uj: 100, electricity: 17 }));
    let row = &home.ledger.usage_by_month(None).unwrap()[0];
    assert_eq!((row.cpu_us, row.electricity, row.machine, row.cost), (7, 11, 13, 0));
    let month = home.ledger.month();
    assert_eq!(home.ledger.own_energy(Some(&month)).unwrap().energy_uj, 100);
    assert_eq!(home.ledger.own_energy(Some("1999-01")).unwrap(), OwnEnergy::default());
    let days = home.ledger.own_electricity_by_day().unwrap();
    assert_eq!(days.into_values().collect::<Vec<_>>(), [17]);
}

#[tokio::test]
async fn the_energy_of_an_answer_that_was_lost_is_the_boxs_own() {
    let home = Home::new();
    let anna = principal(&home.ledger, "anna", None).await;
    let asked = reserve(10, 20);
    for energy in [100, 30] {
        let reservation = home.ledger.reserve(&anna, asked.clone()).await.unwrap();
        reservation.settle(settlement(10, 5)).await.unwrap();
        home.ledger.book_energy(booking(vec![taken(asked.request_id, energy)], 0)).await.unwrap();
    }
    assert_eq!(booked(&home), (30, OwnEnergy { energy_uj: 100, electricity: 11 }));
}

#[tokio::test]
async fn sums_that_are_off_are_named() {
    let home = Home::new();
    let anna = principal(&home.ledger, "anna", None).await;
    let asked = reserve(10, 20);
    let id = asked.request_id;
    home.ledger.reserve(&anna, asked).await.unwrap().settle(settlement(10, 5)).await.unwrap();
    home.ledger.book_energy(booking(vec![taken(id, 100)], 0)).await.unwrap();
    if support::server::database(home.folder.path()).is_some() {
        return;
    }
    let books = rusqlite::Connection::open(home.folder.path().join("ledger.db")).unwrap();
    books.execute_batch("UPDATE usage SET energy_uj = 99, machine = 14").unwrap();
    let off = home.ledger.verify().unwrap().differences.into_iter();
    let off: Vec<_> = off.map(|difference| (difference.what, difference.books, difference.journal)).collect();
    assert_eq!(off, [("energy", 100, 99), ("machine", 13, 14), ("energy", 100, 99), ("machine", 13, 14)]);
}

#[tokio::test]
async fn what_is_measured_is_remembered() {
    let home = Home::new();
    assert_eq!(home.ledger.energy_sources().unwrap(), None);
    let sources = EnergySources { counters: vec!["package-0".into()], unreadable: vec!["/sys/x".into()] };
    home.ledger.keep_energy_sources(&sources).await.unwrap();
    assert_eq!(home.open_again().energy_sources().unwrap(), Some(sources));
}
