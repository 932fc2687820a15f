//! Amounts of money.

use serde::Deserialize;

/// Money, in billionths of the currency; written to a millionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Money(pub(super) u64);

impl TryFrom<f64> for Money {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        let millionths = (value * 1e6).round();
        if !(0.0..=1e12).contains(&millionths) || (value * 1e6 - millionths).abs() > 1e-3 {
            return Err(format!("{value} is no price: write 0 to 1000000, with six digits after the point at most"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be small and whole")]
        Ok(Self(millionths as u64 * 1000))
    }
}
