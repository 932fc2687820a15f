//! What requests take of the box: energy and the time of processors, and what both cost by tariff.
//!
//! Whoever runs a request opens an [`Account`] for it and has engines count in its [`Worked`]. A few times a second, the
//! energy that was measured meanwhile is shared among the accounts by what engines did for each since the last time.
//! While no engine has a request, it is the box's own. So what requests and the box took is what was measured, to the
//! millionth of a joule. It is written into the books once a request has ended.
//!
//! [`Worked`]: allerac_engine_link::Worked

mod accounts;
mod meter;
mod tariff;

pub use accounts::{Account, Accounts, Counter, Keeper};
pub use meter::{Interval, Meter};
pub use tariff::Tariff;
