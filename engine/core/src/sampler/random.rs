//! A small random generator that belongs to one request.

/// `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, uniform in 0.0..1.0.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are exact in an f64")]
    pub(super) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        // SplitMix64 with seed 0 begins with 0xE220A8397B1DCDAF.
        let first = Random::new(0).unit();
        assert!((first - (0xE220_A839_7B1D_CDAFu64 >> 11) as f64 / (1u64 << 53) as f64).abs() < f64::EPSILON);
    }
}
