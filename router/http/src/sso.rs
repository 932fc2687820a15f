//! Signing in with another provider, as far as the browser goes: what it is given to come back with.

use std::fmt;

use allerac_ledger::Role;
use allerac_sso::{Provider, Secrets};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::ticket::Tickets;

/// How long somebody may take to sign in with the provider, in seconds.
pub(crate) const WAY_S: i64 = 600;
/// The longest that a browser brings back, in characters.
const COOKIE_CHARS_MAX: usize = 2048;

/// A provider with which people sign in.
pub struct SingleSignOn {
    /// What it is called at the door.
    pub name: String,
    /// It.
    pub provider: Provider,
    /// What somebody whom only the provider knows becomes, and under which plan; nothing where people are invited.
    pub newcomers: Option<(Role, String)>,
}

impl fmt::Debug for SingleSignOn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SingleSignOn({})", self.name)
    }
}

/// Why somebody goes to the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// To come in.
    Door,
    /// To become a person here.
    Invitation {
        /// What opens it.
        secret: String,
        /// The name that they choose.
        name: Option<String>,
    },
    /// To come in by it from now on.
    Link {
        /// Who is signed in.
        user: String,
        /// Their session.
        session: String,
    },
}

/// Somebody's way to the provider and back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Way {
    /// The page where it began.
    pub(crate) origin: String,
    pub(crate) purpose: Purpose,
}

/// A way that began here, with what proves it.
pub(crate) struct Begun {
    pub(crate) way: Way,
    ticket: Vec<u8>,
    sealed: String,
}

impl Way {
    /// Where the provider sends the browser back to.
    pub(crate) fn back(&self) -> String {
        format!("{}/auth/sso/callback", self.origin)
    }

    /// Begins it.
    pub(crate) fn begin(self, tickets: &Tickets, now_s: i64) -> Begun {
        let sealed = serde_json::to_string(&self).expect("a way is text");
        let ticket = tickets.issue(&purpose(&sealed), WAY_S, now_s);
        Begun { way: self, ticket, sealed }
    }
}

impl Begun {
    /// What the browser brings back.
    pub(crate) fn cookie(&self) -> String {
        format!("{}.{}", BASE64URL_NOPAD.encode(&self.ticket), BASE64URL_NOPAD.encode(self.sealed.as_bytes()))
    }

    /// The way of a browser that comes back in time, where this box gave it this.
    pub(crate) fn read(cookie: &str, tickets: &Tickets, now_s: i64) -> Option<Self> {
        let (ticket, sealed) = Some(cookie).filter(|cookie| cookie.len() <= COOKIE_CHARS_MAX)?.split_once('.')?;
        let ticket = BASE64URL_NOPAD.decode(ticket.as_bytes()).ok()?;
        let sealed = String::from_utf8(BASE64URL_NOPAD.decode(sealed.as_bytes()).ok()?).ok()?;
        if !tickets.is_open(&purpose(&sealed), &ticket, now_s) {
            return None;
        }
        Some(Self { way: serde_json::from_str(&sealed).ok()?, ticket, sealed })
    }

    /// Ends it; whether it had not ended.
    pub(crate) fn spend(&self, tickets: &Tickets, now_s: i64) -> bool {
        tickets.spend(&purpose(&self.sealed), &self.ticket, now_s)
    }

    /// What ties the way together. The browser has the ticket, and cannot compute them.
    pub(crate) fn secrets(&self, tickets: &Tickets) -> Secrets {
        let derive = |what| tickets.derive(&self.ticket, what);
        Secrets { state: derive("sso state"), nonce: derive("sso nonce"), verifier: derive("sso verifier") }
    }
}

fn purpose(sealed: &str) -> String {
    format!("way to the provider: {sealed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(user: &str) -> Way {
        let purpose = Purpose::Link { user: user.into(), session: "s".into() };
        Way { origin: "https://box.example".into(), purpose }
    }

    #[test]
    fn a_way_is_the_browsers_own_and_ends() {
        let tickets = Tickets::new();
        let begun = way("anna").begin(&tickets, 1000);
        let cookie = begun.cookie();
        let back = Begun::read(&cookie, &tickets, 1599).unwrap();
        assert_eq!(back.way, way("anna"));
        assert_eq!(back.way.back(), "https://box.example/auth/sso/callback");
        assert_eq!(back.secrets(&tickets).state, begun.secrets(&tickets).state);
        let Secrets { state, nonce, verifier } = begun.secrets(&tickets);
        assert!(state != nonce && nonce != verifier && state != verifier);
        assert_ne!(way("anna").begin(&tickets, 1000).secrets(&tickets).state, state);
        // Nobody puts in another name, nor another time.
        let (ticket, _) = cookie.split_once('.').unwrap();
        let forged = format!("{ticket}.{}", way("olga").begin(&tickets, 1000).cookie().split_once('.').unwrap().1);
        let long = format!("{cookie}{}", "A".repeat(2048));
        for wrong in [forged.as_str(), "", ".", "a.b", ticket, &long] {
            assert!(Begun::read(wrong, &tickets, 1000).is_none(), "{wrong}");
        }
        assert!(Begun::read(&cookie, &tickets, 1600).is_none());
        assert!(Begun::read(&cookie, &Tickets::new(), 1000).is_none());
        assert!(back.spend(&tickets, 1000) && !back.spend(&tickets, 1000));
        assert!(Begun::read(&cookie, &tickets, 1000).is_none());
    }
}
