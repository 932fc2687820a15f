//! What attention adds to a score for how far two tokens are apart (Raffel et al., "Exploring the Limits of Transfer
//! Learning with a Unified Text-to-Text Transformer", 2020, section 2.1), as MPNet has it for both directions.

/// From this distance on all are alike.
const DISTANCE_MAX: usize = 128;

/// The biases of each head.
#[derive(Debug)]
pub(crate) struct Distances {
    /// For each head, by the place of the token that is looked at before that of the token that looks: from
    /// `1 - context` to `context - 1`.
    heads: Vec<Vec<f32>>,
}

impl Distances {
    /// `bias` has a row for each bucket and a column for each head, whose queries have `size` numbers.
    pub(crate) fn new(bias: &[f32], buckets: usize, size: usize, context: usize) -> Self {
        // Scores are scaled after this is added.
        #[expect(clippy::cast_precision_loss, reason = "a head is small")]
        let unscaled = (size as f32).sqrt();
        let count = bias.len() / buckets;
        let of_head = |head: usize| {
            let behind = (1..context).rev().map(|distance| bucket(distance, buckets / 2));
            let ahead = (1..context).map(|distance| buckets / 2 + bucket(distance, buckets / 2));
            let all = behind.chain([0]).chain(ahead);
            all.map(|bucket| bias[bucket * count + head] * unscaled).collect()
        };
        Self { heads: (0..count).map(of_head).collect() }
    }

    /// Those of one head.
    pub(crate) fn of(&self, head: usize) -> &[f32] {
        &self.heads[head]
    }
}

/// Half of the buckets of one direction are for one distance each, the others for ranges that grow.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small and positive"
)]
fn bucket(distance: usize, buckets: usize) -> usize {
    let exact = buckets / 2;
    if distance < exact {
        return distance;
    }
    // In 32 bits, as models were trained: the borders of the ranges are where its logarithms have them.
    let share = (distance as f32 / exact as f32).ln() / (DISTANCE_MAX as f32 / exact as f32).ln();
    (exact + (share * (buckets - exact) as f32) as usize).min(buckets - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_tokens_have_buckets_of_their_own_and_far_ones_share() {
        let buckets: Vec<usize> =
            [1, 7, 8, 11, 12, 15, 16, 31, 32, 63, 64, 127, 128, 500].map(|d| bucket(d, 16)).into();
        assert_eq!(buckets, [1, 7, 8, 8, 9, 9, 10, 11, 12, 13, 14, 15, 15, 15]);
    }

    #[test]
    fn what_is_ahead_has_other_biases_than_what_is_behind() {
        // Two heads, four buckets: itself and behind, behind and further, ahead nothing, ahead.
        let bias = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0];
        let distances = Distances::new(&bias, 4, 4, 3);
        assert_eq!(distances.of(0), [4.0, 4.0, 2.0, 8.0, 8.0]);
        assert_eq!(distances.of(1), [40.0, 40.0, 20.0, 80.0, 80.0]);
    }
}
