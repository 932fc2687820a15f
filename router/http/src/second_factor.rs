//! Codes of authenticator programs (RFC 6238), and recovery codes that stand for them.

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use qrcode::{Color, QrCode};
use subtle::ConstantTimeEq;
use totp_rs::{Algorithm, TOTP};

/// As every authenticator program takes it: HMAC-SHA-1, six digits, 30 seconds.
const DIGITS: usize = 6;
const STEP_S: i64 = 30;
/// Steps before and after the present one whose codes open, for clocks that are not quite right (RFC 6238, 5.2).
const STEPS_OFF: i64 = 1;
/// Bytes of a secret, as RFC 4226 recommends.
const SECRET_BYTES: usize = 20;
/// Recovery codes of one person.
const RECOVERY_CODES: usize = 10;
/// Characters of one: 80 bits, so that its hash tells nothing.
const RECOVERY_CHARS: usize = 16;

/// Computes secrets and codes. A secret follows from the secret of the box and a nonce: the ledger's file alone opens
/// nothing.
pub(crate) struct Codes {
    key: [u8; 32],
}

impl Codes {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self { key: blake3::derive_key("allerac 2026 second factors", secret) }
    }

    /// The secret as authenticator programs take it.
    pub(crate) fn secret(&self, nonce: &[u8; 16]) -> String {
        BASE32_NOPAD.encode(&self.bytes(nonce))
    }

    fn bytes(&self, nonce: &[u8; 16]) -> [u8; SECRET_BYTES] {
        let mut secret = [0; SECRET_BYTES];
        blake3::Hasher::new_keyed(&self.key).update(nonce).finalize_xof().fill(&mut secret);
        secret
    }

    /// The step of time whose code this is; none where it is of no step near now.
    pub(crate) fn step(&self, nonce: &[u8; 16], code: &str, now_s: i64) -> Option<i64> {
        let digits: String = code.chars().filter(|c| !c.is_whitespace()).take(DIGITS + 1).collect();
        let totp = TOTP::new_unchecked(Algorithm::SHA1, DIGITS, 0, STEP_S.unsigned_abs(), self.bytes(nonce).to_vec());
        let present = now_s.div_euclid(STEP_S);
        let near = (present - STEPS_OFF)..=(present + STEPS_OFF);
        near.into_iter().find(|step| {
            let expected = totp.generate((step * STEP_S).unsigned_abs());
            bool::from(expected.as_bytes().ct_eq(digits.as_bytes()))
        })
    }
}

/// What an authenticator program reads from the picture (github.com/google/google-authenticator/wiki/Key-Uri-Format).
pub(crate) fn address(box_name: &str, user: &str, secret: &str) -> String {
    let [issuer, user] = [box_name, user].map(encoded);
    format!("otpauth://totp/{issuer}:{user}?secret={secret}&issuer={issuer}")
}

/// A text with all but letters and digits in the way of addresses (RFC 3986, 2.1).
fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("%{}", HEXLOWER.encode(&[byte]).to_uppercase())
        }
    };
    text.bytes().map(byte).collect()
}

/// The picture of a text, a row of `0` and `1` a line, without its margin.
pub(crate) fn picture(text: &str) -> Vec<String> {
    let Ok(code) = QrCode::new(text) else { return Vec::new() };
    let module = |color: &Color| if *color == Color::Dark { '1' } else { '0' };
    code.to_colors().chunks(code.width()).map(|row| row.iter().map(module).collect()).collect()
}

/// New recovery codes, as `abcd-efgh-ijkl-mnop`.
pub(crate) fn recovery_codes() -> Vec<String> {
    let code = || {
        let plain = BASE32_NOPAD.encode(&rand::random::<[u8; RECOVERY_CHARS * 5 / 8]>()).to_lowercase();
        [&plain[..4], &plain[4..8], &plain[8..12], &plain[12..]].join("-")
    };
    (0..RECOVERY_CODES).map(|_| code()).collect()
}

/// What is kept of one, however it is written; none where it cannot be one.
pub(crate) fn recovery_hash(code: &str) -> Option<[u8; 32]> {
    let plain: String = code.chars().filter(char::is_ascii_alphanumeric).take(RECOVERY_CHARS + 1).collect();
    (plain.len() == RECOVERY_CHARS).then(|| *blake3::hash(plain.to_ascii_lowercase().as_bytes()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_of_its_step_and_opens_near_it_only() {
        let codes = Codes::new(&[7; 32]);
        let nonce = [1; 16];
        let secret = codes.secret(&nonce);
        assert_eq!(secret.len(), 32);
        let bytes = BASE32_NOPAD.decode(secret.as_bytes()).unwrap();
        let now: i64 = 1_700_000_010;
        let code = TOTP::new_unchecked(Algorithm::SHA1, 6, 0, 30, bytes).generate(now.unsigned_abs());
        let step = now / 30;
        let spaced = format!("{} {}", &code[..3], &code[3..]);
        for (at, expected) in
            [(now, Some(step)), (now - 30, Some(step)), (now + 30, Some(step)), (now + 90, None), (now - 90, None)]
        {
            assert_eq!(codes.step(&nonce, &spaced, at), expected, "{at}");
        }
        for wrong in ["", "12345", &format!("{code}0")] {
            assert_eq!(codes.step(&nonce, wrong, now), None);
        }
        assert_ne!(Codes::new(&[8; 32]).secret(&nonce), secret);
        assert_ne!(codes.secret(&[2; 16]), secret);
    }

    /// The vectors of RFC 6238, appendix B, to six digits.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let totp = TOTP::new_unchecked(Algorithm::SHA1, DIGITS, 0, 30, b"12345678901234567890".to_vec());
        let vectors =
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")];
        for (time, code) in vectors {
            assert_eq!(totp.generate(time), code);
        }
    }

    #[test]
    fn recovery_codes_open_however_they_are_written() {
        let codes = recovery_codes();
        assert_eq!((codes.len(), codes[0].len()), (10, 19));
        assert_eq!(recovery_hash(&codes[0]), recovery_hash(&codes[0].to_uppercase().replace('-', " ")));
        assert_ne!(recovery_hash(&codes[0]), recovery_hash(&codes[1]));
        assert_eq!(recovery_hash("123456"), None);
    }

    #[test]
    fn names_do_not_break_the_address() {
        assert_eq!(address("box", "a&secret=x", "S"), "otpauth://totp/box:a%26secret%3Dx?secret=S&issuer=box");
        let rows = picture("otpauth://totp/x");
        assert!(rows.iter().all(|row| row.len() == rows.len()) && rows[0].starts_with("1111111"));
    }
}
