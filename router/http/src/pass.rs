//! Passes: whoever can read the secret of this box makes one, before anybody owns the box and without a key of theirs. One
//! opens the metrics, another what has to do with the graphics processor, and each for a minute only.

use std::fmt;

/// Begins every pass, and no key.
const PREFIX: &str = "allerac-pass-";
/// How long a pass opens, in seconds: each request brings a new one. Before its time it does for as long, since the
/// clock may have been set.
const VALID_S: u64 = 60;

/// Makes and checks passes for one purpose.
#[derive(Clone)]
pub struct Pass {
    key: [u8; 32],
}

impl Pass {
    /// To the metrics, from the secret of the box.
    #[must_use]
    pub fn to_metrics(secret: &[u8; 32]) -> Self {
        Self { key: blake3::derive_key("allerac 2026 pass to the metrics", secret) }
    }

    /// To look at the graphics processor, to eject it, and to use it again.
    #[must_use]
    pub fn to_gpu(secret: &[u8; 32]) -> Self {
        Self { key: blake3::derive_key("allerac 2026 pass to the graphics processor", secret) }
    }

    /// A pass for about this time, in seconds since 1970: `allerac-pass-<time>-<keyed BLAKE3 of the time>`.
    #[must_use]
    pub fn issue(&self, now_s: i64) -> String {
        format!("{PREFIX}{now_s}-{}", self.seal(now_s))
    }

    /// Whether this is a pass, and its time is now.
    pub(crate) fn opens(&self, presented: &str, now_s: i64) -> bool {
        let parts = presented.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
        let Some((Ok(issued_s), seal)) = parts.map(|(issued, seal)| (issued.parse(), seal)) else { return false };
        // The comparison of hashes takes the same time whatever differs.
        blake3::Hash::from_hex(seal).is_ok_and(|seal| seal == self.seal(issued_s))
            && now_s.abs_diff(issued_s) <= VALID_S
    }

    fn seal(&self, time_s: i64) -> blake3::Hash {
        blake3::keyed_hash(&self.key, &time_s.to_le_bytes())
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pass(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_opens_its_own_box_for_a_minute() {
        let pass = Pass::to_metrics(&[7; 32]);
        let text = pass.issue(1_000);
        for (now, opens) in [(940, true), (1_000, true), (1_060, true), (939, false), (1_061, false), (-1_000, false)] {
            assert_eq!(pass.opens(&text, now), opens, "at {now}");
        }
        assert!(!Pass::to_metrics(&[8; 32]).opens(&text, 1_000));
        assert!(!Pass::to_gpu(&[7; 32]).opens(&text, 1_000));
        assert_eq!(format!("{pass:?}"), "Pass(..)");
    }

    #[test]
    fn nothing_else_opens() {
        let pass = Pass::to_metrics(&[7; 32]);
        let text = pass.issue(1_000);
        let later = text.replace("1000", "1001");
        let short = &text[..text.len() - 1];
        let key = "sk-allerac-abcdefghijkl-secret";
        for wrong in ["", PREFIX, "allerac-pass-1000", "allerac-pass-x-y", "allerac-pass-1000-", key, short, &later] {
            assert!(!pass.opens(wrong, 1_000), "{wrong}");
        }
    }
}
