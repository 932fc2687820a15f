//! The functions between the halves of a layer.

use crate::config::Activation;

/// Adds the bias to a row and applies the function.
#[inline(always)]
pub(crate) fn finish(row: &mut [f32], bias: &[f32], activation: Option<Activation>) {
    for (number, bias) in row.iter_mut().zip(bias) {
        *number += bias;
    }
    match activation {
        None => {}
        Some(Activation::Relu) => row.iter_mut().for_each(|number| *number = number.max(0.0)),
        Some(Activation::Gelu) => row.iter_mut().for_each(|number| *number = gelu(*number)),
    }
}

/// Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016), with the error function itself.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The error function to the last places of an `f32`, as a quotient of polynomials: without a branch, so that it is
/// computed for many numbers at once. The coefficients are those of Eigen's `erf`.
#[inline(always)]
fn erf(x: f32) -> f32 {
    const ABOVE: [f32; 7] =
        [-2.726_142e-10, 2.770_681_4e-8, -2.101_024e-6, -5.692_506_5e-5, -7.349_906_5e-4, -2.954_6e-3, -1.609_603_3e-2];
    const BELOW: [f32; 5] = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2];
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let polynomial = |coefficients: &[f32]| coefficients.iter().fold(0.0, |sum, next| sum * square + next);
    x * polynomial(&ABOVE) / polynomial(&BELOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_is_right_to_six_places() {
        // As Python's math.erf has it.
        let known = [
            (-5.0, -1.433_257_6e-6),
            (-3.0, -0.004_049_694),
            (-1.0, -0.158_655_26),
            (-0.1, -0.046_017_215),
            (0.0, 0.0),
            (0.5, 0.345_731_23),
            (1.0, 0.841_344_8),
            (2.5, 2.484_475_8),
            (6.0, 6.0),
        ];
        for (x, wanted) in known {
            let found = gelu(x);
            assert!((found - wanted).abs() <= 1e-6 * f32::max(1.0, x.abs()), "{x}: {found} {wanted}");
        }
    }

    #[test]
    fn the_bias_comes_before_the_function() {
        let mut row = [1.0, -3.0];
        finish(&mut row, &[-2.0, 4.0], Some(Activation::Relu));
        assert_eq!(row, [0.0, 1.0]);
        finish(&mut row, &[0.5, 0.5], None);
        assert_eq!(row, [0.5, 1.5]);
    }
}
