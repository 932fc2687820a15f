//! `keep_alive`: how long a model is to stay in memory after a request.

use std::time::Duration;

use serde_json::Value;

use crate::fields::{Fields, WireError};

/// What clients may write besides a time, for errors.
const WANTED: &str = "a time like 5m, seconds, 0 for not at all, or less than 0 for ever";
/// Units of time as Go has them, longest first where one begins like another, in seconds.
const UNITS: [(&str, f64); 8] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// How long a model is to stay after a request: [`Duration::MAX`] for ever, `None` where nothing is said.
///
/// # Errors
/// [`WireError`] when it is no time.
pub(super) fn keep_alive(fields: &mut Fields) -> Result<Option<Duration>, WireError> {
    let seconds = match fields.take("keep_alive") {
        None => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => seconds(text.trim()),
        Some(other) => return Err(fields.wrong_type("keep_alive", "a string or a number", &other)),
    };
    let seconds = seconds.ok_or_else(|| fields.out_of_range("keep_alive", WANTED))?;
    if seconds < 0.0 {
        return Ok(Some(Duration::MAX));
    }
    Ok(Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
}

/// Seconds of a time as Go writes it (`1h30m`, `-1m`), or of a plain number.
fn seconds(text: &str) -> Option<f64> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(number) = number(rest) {
        return Some(sign * number);
    }
    if rest.is_empty() {
        return None;
    }
    let mut rest = rest;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|character: char| !(character.is_ascii_digit() || character == '.'))?;
        let value = number(&rest[..end])?;
        let (unit, seconds) = UNITS.iter().find(|(unit, _)| {
            // `m` is no unit where `ms` stands.
            rest[end..].starts_with(unit) && !(*unit == "m" && rest[end..].starts_with("ms"))
        })?;
        sum += value * seconds;
        rest = &rest[end + unit.len()..];
    }
    Some(sign * sum)
}

/// A number of digits and perhaps a point, and nothing else.
fn number(text: &str) -> Option<f64> {
    let is_plain = text.chars().all(|character| character.is_ascii_digit() || character == '.');
    if is_plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        let read = |value: Value| {
            let mut fields = Fields::of("body", json!({"keep_alive": value})).unwrap();
            keep_alive(&mut fields)
        };
        let ms = Duration::from_millis;
        for (value, time) in [
            (json!(null), None),
            (json!(0), Some(ms(0))),
            (json!(300), Some(ms(300_000))),
            (json!(0.5), Some(ms(500))),
            (json!(-1), Some(Duration::MAX)),
            (json!(1e300), Some(Duration::MAX)),
            (json!("5m"), Some(ms(300_000))),
            (json!("1h30m"), Some(ms(5_400_000))),
            (json!("1.5s"), Some(ms(1500))),
            (json!("250ms"), Some(ms(250))),
            (json!("0"), Some(ms(0))),
            (json!("0s"), Some(ms(0))),
            (json!("-1"), Some(Duration::MAX)),
            (json!("-1m"), Some(Duration::MAX)),
            (json!("60"), Some(ms(60_000))),
        ] {
            assert_eq!(read(value.clone()).unwrap(), time, "{value}");
        }
        for wrong in ["", "forever!", "5 m", "m", "5x", "-", "1e3", "1..2s", "5m3"] {
            assert_eq!(read(json!(wrong)).unwrap_err().param.as_deref(), Some("body.keep_alive"), "{wrong}");
        }
        assert_eq!(read(json!(true)).unwrap_err().code, Some("invalid_type"));
    }
}
