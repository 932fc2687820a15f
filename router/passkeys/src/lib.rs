//! Passkeys: what an authenticator signed, checked (Web Authentication Level 2, <https://www.w3.org/TR/webauthn-2/>).
//!
//! Pure: no clock, no storage, no HTTP. Who keeps passkeys, gives out challenges and lets in is elsewhere. Of the
//! standard there is what a box needs: keys that verify their person (with a finger, a face or a PIN), found without a
//! name, over ES256, `EdDSA` and RS256. What the maker of a device vouches for is not asked and not looked at.

mod authenticator;
mod ceremony;
mod client;
mod key;
mod party;

pub use ceremony::{Asserted, Assertion, Registered, assert, register};
pub use client::challenge_of;
pub use key::ALGORITHMS;
pub use party::{NoParty, RelyingParty};

/// Why what came does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not of the form that it is to have.
    #[error("{0} is not as Web Authentication has it")]
    Malformed(&'static str),
    /// Made for another page.
    #[error("this passkey was used at the page of another address")]
    Origin,
    /// Made for something else that was asked.
    #[error("this answers something else than what was asked")]
    Challenge,
    /// Nobody touched, or showed who they are.
    #[error("the device did not make sure who you are; use one with a PIN, a finger or a face")]
    Unverified,
    /// Of a kind that is not known here.
    #[error("this device has keys of a kind that is not known here; it needs ES256, EdDSA or RS256")]
    Algorithm,
    /// Signed by something else.
    #[error("the signature is not of this passkey")]
    Signature,
}
