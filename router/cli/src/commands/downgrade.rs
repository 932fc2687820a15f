use allerac_ledger::{Ledger, ServeLock};

use crate::args::Place;
use crate::failure::Failure;
use crate::output::print_line;
use crate::place;

/// Each file goes back by itself: where the second fails, the first stays as this version knows it, and can be taken up
/// again by the newer one.
pub(crate) fn run(place: &Place) -> Result<(), Failure> {
    let data_dir = place.data_dir()?;
    let _lock = ServeLock::acquire(&data_dir)?;
    place::finish_restore(&data_dir)?;
    // Books on a database's server are not this box's alone.
    let books = if place.database()?.is_some() { 0 } else { Ledger::downgrade(&data_dir)? };
    let objects = allerac_objects::downgrade(&data_dir)?;
    for (what, changes) in [("the ledger", books), ("what people keep", objects)] {
        match changes {
            0 => print_line(&format!("{what}: nothing to do"))?,
            changes => print_line(&format!("{what}: {changes} changes of a newer version were taken back"))?,
        }
    }
    Ok(())
}
