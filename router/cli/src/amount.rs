//! Amounts as people write them.

use std::str::FromStr;

use allerac_ledger::Weight;

/// A limit, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit<T>(pub(crate) Option<T>);

/// A name, or `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named(pub(crate) Option<String>);

/// The size of models up to which a plan goes. Names of models round down: an "8B" has up to 8.99 billion parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ModelSize {
    /// They have fewer parameters than this.
    pub(crate) below: u64,
}

/// Bytes, as a number of gigabytes (thousand millions).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gigabytes(pub(crate) u64);

/// Money, in billionths of the currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Money(pub(crate) u64);

impl FromStr for Limit<Money> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let billionths = decimal(text, 1_000_000_000).and_then(|(digits, step)| digits.checked_mul(step));
        billionths
            .map(|billionths| Self(Some(Money(billionths))))
            .ok_or_else(|| "write money like 20 or 12.50".to_owned())
    }
}

impl FromStr for Limit<Gigabytes> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let bytes = decimal(text, 1_000_000_000).and_then(|(digits, step)| digits.checked_mul(step));
        bytes.map(|bytes| Self(Some(Gigabytes(bytes)))).ok_or_else(|| "write a number like 5 or 0.5".to_owned())
    }
}

impl FromStr for Limit<u64> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { parse_amount(text).map(|amount| Self(Some(amount))) }
    }
}

impl FromStr for Limit<u32> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Limit(amount) = text.parse::<Limit<u64>>()?;
        let small = |amount| u32::try_from(amount).map_err(|_| format!("{amount} is too large; write `none`"));
        amount.map(small).transpose().map(Self)
    }
}

impl FromStr for Limit<ModelSize> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|size| Self(Some(size))) }
    }
}

impl FromStr for Named {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Some(text.to_owned()).filter(|name| name != "none")))
    }
}

impl FromStr for ModelSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write a size like 8B, 1.5B or 135M".to_owned();
        let unit = match text.chars().last() {
            Some('B' | 'b') => 1_000_000_000,
            Some('M' | 'm') => 1_000_000,
            _ => return Err(wrong()),
        };
        let (digits, step) = decimal(&text[..text.len() - 1], unit).ok_or_else(wrong)?;
        let below = digits.checked_add(1).and_then(|next| next.checked_mul(step)).ok_or_else(wrong)?;
        Ok(Self { below })
    }
}

impl ModelSize {
    /// As [`parse`](str::parse) reads it.
    pub(crate) fn text(self) -> String {
        let steps = [(1_000_000_000, 'B'), (1_000_000, 'M')];
        for (unit, letter) in steps {
            if self.below.is_multiple_of(unit) && self.below > unit {
                return format!("{}{letter}", self.below / unit - 1);
            }
            if self.below.is_multiple_of(unit / 10) && self.below > unit {
                let tenths = self.below / (unit / 10) - 1;
                return format!("{}.{}{letter}", tenths / 10, tenths % 10);
            }
        }
        format!("fewer than {}", self.below)
    }
}

/// A number of tokens: `1000000`, `1M`, `1.5M`, `500k`.
pub(crate) fn parse_amount(text: &str) -> Result<u64, String> {
    let wrong = || "write a number like 500000, 500k or 1.5M".to_owned();
    let (number, unit) = match text.chars().last() {
        Some('k' | 'K') => (&text[..text.len() - 1], 1_000),
        Some('M' | 'm') => (&text[..text.len() - 1], 1_000_000),
        Some('G' | 'g') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let (digits, step) = decimal(number, unit).ok_or_else(wrong)?;
    digits.checked_mul(step).ok_or_else(wrong)
}

/// What tokens of a model count: `MODEL=INPUT,OUTPUT`.
pub(crate) fn parse_weight(text: &str) -> Result<Weight, String> {
    let wrong = || "write a weight like llama-3.3-70b=2,4".to_owned();
    let (model, weights) = text.rsplit_once('=').ok_or_else(wrong)?;
    let (input, output) = weights.split_once(',').ok_or_else(wrong)?;
    let thousandths = |number: &str| {
        let (digits, step) = decimal(number, 1000).ok_or_else(wrong)?;
        digits.checked_mul(step).and_then(|weight| u32::try_from(weight).ok()).ok_or_else(wrong)
    };
    let (input_thousandths, output_thousandths) = (thousandths(input)?, thousandths(output)?);
    Ok(Weight { model: model.to_owned(), input_thousandths, output_thousandths })
}

/// The digits of a number of units, and what the last of them stands for: `1.5` of 1000 are 15 of 100. `None` where it
/// is no number, or where it is finer than the unit.
fn decimal(text: &str, unit: u64) -> Option<(u64, u64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    if whole.is_empty() || text.ends_with('.') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    if !unit.is_multiple_of(scale) {
        return None;
    }
    Some((digits.parse().ok()?, unit / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        let good = [("0", 0), ("7", 7), ("500k", 500_000), ("1.5M", 1_500_000), ("0.001k", 1), ("2G", 2_000_000_000)];
        for (text, amount) in good {
            assert_eq!(parse_amount(text), Ok(amount), "{text}");
        }
        for text in [
            "",
            "k",
            "-5",
            "+5",
            "1.",
            ".5",
            "1e6",
            "0.0001k",
            "1.5",
            "1,000",
            "99999999999999999999",
            "9999999999999G",
        ] {
            assert!(parse_amount(text).is_err(), "{text} was accepted");
        }
        assert_eq!("none".parse(), Ok(Limit::<u64>(None)));
        assert!("5G".parse::<Limit<u32>>().is_err());
    }

    #[test]
    fn money_is_exact() {
        for (text, billionths) in [("0", 0), ("20", 20_000_000_000), ("12.50", 12_500_000_000), ("0.000000001", 1)] {
            assert_eq!(text.parse(), Ok(Limit(Some(Money(billionths)))), "{text}");
        }
        assert_eq!("none".parse(), Ok(Limit::<Money>(None)));
        for text in ["", "-1", "1e3", "1,5", "0.0000000001", "99999999999999"] {
            assert!(text.parse::<Limit<Money>>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn sizes_of_models_are_those_of_their_names() {
        for (text, below) in
            [("8B", 9_000_000_000), ("14B", 15_000_000_000), ("1.5B", 1_600_000_000), ("135M", 136_000_000)]
        {
            let size: ModelSize = text.parse().unwrap();
            assert_eq!((size.below, size.text().as_str()), (below, text));
        }
        for text in ["", "8", "B", "xB", "-1B", "8BB"] {
            assert!(text.parse::<ModelSize>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn weights_are_in_thousandths() {
        let weight = parse_weight("a=b=2,0.25").unwrap();
        assert_eq!((weight.model.as_str(), weight.input_thousandths, weight.output_thousandths), ("a=b", 2000, 250));
        for text in ["m", "m=1", "m=1,x", "m=1,-2", "m=1,0.0001", "m=1,2,3"] {
            assert!(parse_weight(text).is_err(), "{text} was accepted");
        }
    }
}
