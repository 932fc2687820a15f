//! Passwords, as Argon2id in the PHC string format (RFC 9106). What is here takes tens of milliseconds and 19 MiB: never
//! call it on a thread that serves.

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::error::LedgerError;

/// The shortest password, in characters. NIST SP 800-63B has 8 beside a second factor; guessing is throttled here.
const CHARS_MIN: usize = 10;
/// The longest password, in characters, which is what NIST SP 800-63B asks for at least: more only burns time.
const CHARS_MAX: usize = 64;
/// The same in bytes.
const BYTES_MAX: usize = 4 * CHARS_MAX;

/// Memory in KiB, passes and lanes, as OWASP's cheat sheet has them for Argon2id.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);

/// What is compared where there is no password, so that it takes as long.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGlzIGhlcmU$Gqk/4GmNlq9gGTJaSHWVyOXGDm7wgYzYPqHcdJYHYPM";

fn argon2() -> Argon2<'static> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None).expect("the cost is one that Argon2 allows");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// What is kept of a new password.
///
/// # Errors
/// [`LedgerError::Invalid`] when it is too short or too long.
pub fn hash_password(password: &str) -> Result<String, LedgerError> {
    if !(CHARS_MIN..=CHARS_MAX).contains(&password.chars().count()) {
        let reason = format!("a password has {CHARS_MIN} to {CHARS_MAX} characters");
        return Err(LedgerError::Invalid { field: "password", reason });
    }
    let salt = SaltString::generate(&mut OsRng);
    let hash = argon2().hash_password(password.as_bytes(), &salt);
    Ok(hash.expect("salt and cost are ours").to_string())
}

/// Whether this is the password that was kept. Where none was, it takes as long to say no.
#[must_use]
pub fn verify_password(password: &str, kept: Option<&str>) -> bool {
    let parsed = PasswordHash::new(kept.unwrap_or(NOBODY));
    let Ok(hash) = parsed else { return false };
    let cut = &password.as_bytes()[..password.len().min(BYTES_MAX + 1)];
    // The parameters are those of the hash, so that a later cost does not lock anybody out.
    argon2().verify_password(cut, &hash).is_ok() && kept.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_opens_and_nothing_else_does() {
        let kept = hash_password("correct horse battery").unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(verify_password("correct horse battery", Some(&kept)));
        for (wrong, kept) in [("correct horse", Some(kept.as_str())), ("", Some("")), ("nobody is here", None)] {
            assert!(!verify_password(wrong, kept), "{wrong}");
        }
        assert_ne!(hash_password("correct horse battery").unwrap(), kept);
    }

    #[test]
    fn nobody_takes_as_long_as_somebody() {
        // That its hash can be parsed, and has the same cost: else the time would tell who exists.
        let hash = PasswordHash::new(NOBODY).unwrap();
        let params = Params::try_from(&hash).unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), COST);
    }

    #[test]
    fn what_is_too_short_or_too_long_is_refused() {
        assert!(hash_password("ninechars").is_err());
        assert!(hash_password(&"x".repeat(65)).is_err());
        assert!(hash_password("zehn Zeich").is_ok() && hash_password(&"ü".repeat(64)).is_ok());
    }
}
