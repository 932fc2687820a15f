//! A pass to the metrics: whoever can read the secret of this box makes one and looks, before anybody owns the box and
//! without a key of theirs. It opens nothing else, and for a minute only.

use std::fmt;

/// Begins every pass, and no key.
const PREFIX: &str = "allerac-pass-";
/// How long a pass opens, in seconds: each request brings a new one. Before its time it does for as long, since the
/// clock may have been set.
const VALID_S: u64 = 60;

/// Makes and checks passes.
#[derive(Clone)]
pub struct MetricsPass {
    key: [u8; 32],
}

impl MetricsPass {
    /// From the secret of the box.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self { key: blake3::derive_key("allerac 2026 pass to the metrics", secret) }
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

impl fmt::Debug for MetricsPass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MetricsPass(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_opens_its_own_box_for_a_minute() {
        let pass = MetricsPass::new(&[7; 32]);
        let text = pass.issue(1_000);
        for (now, opens) in [(940, true), (1_000, true), (1_060, true), (939, false), (1_061, false), (-1_000, false)] {
            assert_eq!(pass.opens(&text, now), opens, "at {now}");
        }
        assert!(!MetricsPass::new(&[8; 32]).opens(&text, 1_000));
        assert_eq!(format!("{pass:?}"), "MetricsPass(..)");
    }

    #[test]
    fn nothing_else_opens() {
        let pass = MetricsPass::new(&[7; 32]);
        let text = pass.issue(1_000);
        let later = text.replace("1000", "1001");
        let short = &text[..text.len() - 1];
        let key = "sk-allerac-abcdefghijkl-secret";
        for wrong in ["", PREFIX, "allerac-pass-1000", "allerac-pass-x-y", "allerac-pass-1000-", key, short, &later] {
            assert!(!pass.opens(wrong, 1_000), "{wrong}");
        }
    }
}
