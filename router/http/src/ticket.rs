//! What is given to a browser so that what comes back can be known: whether it was given out here, for this, not long ago,
//! and is not used a second time. Nothing is remembered of those that nobody used, so that asking for many costs nobody
//! anything; those of a server that ended do not open at the next.

use std::collections::HashMap;
use std::sync::Mutex;

use subtle::ConstantTimeEq;

/// Bytes of a ticket: what tells it from others, when it ends, and what proves both.
const NONCE_BYTES: usize = 16;
const END_BYTES: usize = 8;
const PROOF_BYTES: usize = 32;
/// Tickets that were used and have not ended. Only who is let in uses one, so more of them are no people.
const SPENT_MAX: usize = 65_536;

/// Gives out tickets.
pub(crate) struct Tickets {
    key: [u8; 32],
    /// Those that were used, with when they end in seconds since 1970.
    spent: Mutex<HashMap<[u8; NONCE_BYTES], i64>>,
}

impl Tickets {
    pub(crate) fn new() -> Self {
        Self { key: rand::random(), spent: Mutex::default() }
    }

    /// A ticket for something, for so many seconds from now.
    pub(crate) fn issue(&self, purpose: &str, lasts_s: i64, now_s: i64) -> Vec<u8> {
        let mut ticket = rand::random::<[u8; NONCE_BYTES]>().to_vec();
        ticket.extend((now_s + lasts_s).to_be_bytes());
        let proof = self.proof(&ticket, purpose);
        ticket.extend(proof);
        ticket
    }

    /// Whether this is a ticket for that which has not ended and was not used.
    pub(crate) fn is_open(&self, purpose: &str, ticket: &[u8], now_s: i64) -> bool {
        let Some((nonce, end)) = self.read(purpose, ticket) else { return false };
        end > now_s && !self.spent.lock().expect("no code panics while it holds them").contains_key(&nonce)
    }

    /// Uses it; whether it was open.
    pub(crate) fn spend(&self, purpose: &str, ticket: &[u8], now_s: i64) -> bool {
        let Some((nonce, end)) = self.read(purpose, ticket).filter(|(_, end)| *end > now_s) else { return false };
        let mut spent = self.spent.lock().expect("no code panics while it holds them");
        if spent.len() >= SPENT_MAX {
            spent.retain(|_, end| *end > now_s);
        }
        spent.len() < SPENT_MAX && spent.insert(nonce, end).is_none()
    }

    /// A secret that follows from a ticket, and tells nothing of it or of others.
    pub(crate) fn derive(&self, ticket: &[u8], what: &str) -> [u8; 32] {
        self.proof(ticket, what)
    }

    fn read(&self, purpose: &str, ticket: &[u8]) -> Option<([u8; NONCE_BYTES], i64)> {
        let (told, proof) = ticket.split_at_checked(NONCE_BYTES + END_BYTES)?;
        let (nonce, end) = told.split_at(NONCE_BYTES);
        let is_ours = proof.len() == PROOF_BYTES && bool::from(self.proof(told, purpose).ct_eq(proof));
        let end = i64::from_be_bytes(end.try_into().ok()?);
        is_ours.then_some((nonce.try_into().ok()?, end))
    }

    /// Over both with the length of the first before it, so that no other two come to the same.
    fn proof(&self, told: &[u8], purpose: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&u64::try_from(told.len()).unwrap_or(u64::MAX).to_be_bytes()).update(told);
        *hasher.update(purpose.as_bytes()).finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_opens_for_its_purpose_in_its_time_once() {
        let tickets = Tickets::new();
        let ticket = tickets.issue("door", 300, 1000);
        assert_eq!(ticket.len(), 56);
        for (purpose, at, opens) in [
            ("door", 1000, true),
            ("door", 1299, true),
            ("door", 1300, false),
            ("window", 1000, false),
            ("", 1000, false),
        ] {
            assert_eq!(tickets.is_open(purpose, &ticket, at), opens, "{purpose} {at}");
        }
        for index in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[index] ^= 1;
            assert!(!tickets.is_open("door", &forged, 1000) && !tickets.spend("door", &forged, 1000), "{index}");
        }
        for cut in [&[][..], &ticket[..24], &ticket[..55], &[ticket.as_slice(), b"x"].concat()] {
            assert!(!tickets.is_open("door", cut, 1000));
        }
        assert!(!Tickets::new().is_open("door", &ticket, 1000), "another server");
        assert!(!tickets.spend("window", &ticket, 1000));
        assert!(tickets.spend("door", &ticket, 1000));
        assert!(!tickets.spend("door", &ticket, 1000) && !tickets.is_open("door", &ticket, 1000));
        assert!(tickets.is_open("door", &tickets.issue("door", 300, 1000), 1000));
    }

    #[test]
    fn those_that_were_used_are_forgotten_when_they_end() {
        let tickets = Tickets::new();
        for _ in 0..SPENT_MAX {
            assert!(tickets.spend("door", &tickets.issue("door", 300, 1000), 1000));
        }
        let more = tickets.issue("door", 300, 1000);
        assert!(!tickets.spend("door", &more, 1000), "there is an end to how many are remembered");
        let later = tickets.issue("door", 300, 1300);
        assert!(tickets.spend("door", &later, 1300));
        assert_eq!(tickets.spent.lock().unwrap().len(), 1);
    }
}
