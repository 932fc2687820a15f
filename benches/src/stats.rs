//! Medians and percentiles.

/// Measurements in order of size, at least one.
#[derive(Debug, Clone)]
pub(crate) struct Sorted(Vec<f64>);

impl Sorted {
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "nothing was measured");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub(crate) fn least(&self) -> f64 {
        self.0[0]
    }

    pub(crate) fn greatest(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// The smallest value that at least this share of all values does not exceed (nearest rank).
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let sorted = Sorted::new((1..=100).rev().map(f64::from).collect());
        assert_eq!((sorted.least(), sorted.median(), sorted.greatest()), (1.0, 50.0, 100.0));
        assert_eq!((sorted.quantile(0.99), sorted.quantile(1.0), sorted.quantile(0.0)), (99.0, 100.0, 1.0));
        assert_eq!(Sorted::new(vec![3.0]).median(), 3.0);
    }
}
