//! What was measured now beside what was measured before.

use allerac_hardware::tuning::NOISE;
use serde::Serialize;

use super::record::{Record, Row};

/// How many standard errors two means must be apart: by chance they are in one of twenty comparisons.
const ERRORS: f64 = 2.0;

/// Both, row by row.
#[derive(Debug, Serialize)]
pub(super) struct Comparison<'a> {
    pub(super) now: &'a Record,
    /// What else differs, so that a difference of speed may come from it.
    pub(super) differences: Vec<String>,
    /// In the order of the rows now.
    pub(super) rows: Vec<Compared>,
}

/// A row now and before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Compared {
    test: String,
    depth: u32,
    threads: u32,
    batch: u32,
    /// Tokens a second before; null where that was not measured.
    before: Option<f64>,
    /// Now by before.
    ratio: Option<f64>,
    pub(super) verdict: Verdict,
}

/// What a ratio means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Faster,
    Slower,
    /// The difference is within the noise.
    Same,
    /// It was not measured before.
    New,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(before: &Record, now: &'a Record) -> Self {
        let mut differences = Vec::new();
        for (what, then, now) in [
            ("the model", &before.model, &now.model),
            ("the model's file", &before.model_sha256, &now.model_sha256),
            ("the processor", &before.cpu_model, &now.cpu_model),
            ("the attention", &before.attention, &now.attention),
        ] {
            if then != now {
                differences.push(format!("{what} was {then} and is {now}"));
            }
        }
        let rows = now.rows.iter().map(|row| Compared::new(before.rows.iter().find(|then| is_same(then, row)), row));
        Self { now, differences, rows: rows.collect() }
    }

    /// How many rows came out so.
    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }
}

fn is_same(a: &Row, b: &Row) -> bool {
    (&a.test, a.depth, a.threads, a.batch) == (&b.test, b.depth, b.threads, b.batch)
}

impl Compared {
    fn new(before: Option<&Row>, now: &Row) -> Self {
        let ratio = before.map(|before| now.tokens_per_second / before.tokens_per_second);
        Self {
            test: now.test.clone(),
            depth: now.depth,
            threads: now.threads,
            batch: now.batch,
            before: before.map(|row| row.tokens_per_second),
            ratio,
            verdict: before.map_or(Verdict::New, |before| verdict(before, now)),
        }
    }

    pub(super) fn cells(&self) -> Vec<String> {
        let or_dash = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.2}"));
        let words = match self.verdict {
            Verdict::Faster => "faster",
            Verdict::Slower => "SLOWER",
            Verdict::Same => "within the noise",
            Verdict::New => "not measured before",
        };
        vec![or_dash(self.before), or_dash(self.ratio), words.to_owned()]
    }
}

/// Beyond the noise is what is further apart than two standard errors of the difference (Welch), and than what differs
/// between runs of the same on a calm machine.
fn verdict(before: &Row, now: &Row) -> Verdict {
    let squared_error = |row: &Row| row.deviation.powi(2) / row.samples.len() as f64;
    let noise = ERRORS * (squared_error(before) + squared_error(now)).sqrt();
    let difference = now.tokens_per_second - before.tokens_per_second;
    if difference.abs() <= noise.max(before.tokens_per_second * NOISE) {
        Verdict::Same
    } else if difference > 0.0 {
        Verdict::Faster
    } else {
        Verdict::Slower
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(samples: &[f64]) -> Row {
        Row::new("tg128".into(), 0, (2, 512), samples.to_vec()).unwrap()
    }

    #[test]
    fn only_what_is_beyond_the_noise_is_faster_or_slower() {
        let before = row(&[100.0, 101.0, 99.0, 100.0]);
        let said = |samples: &[f64]| verdict(&before, &row(samples));
        assert_eq!(said(&[110.0, 111.0, 109.0]), Verdict::Faster);
        assert_eq!(said(&[90.0, 91.0, 89.0]), Verdict::Slower);
        // Less than what runs of the same differ by.
        assert_eq!(said(&[102.9, 102.9, 102.9]), Verdict::Same);
        // Further apart, but so is each from the others.
        assert_eq!(said(&[80.0, 140.0, 110.0]), Verdict::Same);
        // One sample says nothing of its noise.
        assert_eq!(said(&[110.0]), Verdict::Faster);
    }

    #[test]
    fn rows_are_found_by_what_they_measured() {
        let compared = |before: Option<&Row>| Compared::new(before, &row(&[50.0]));
        let found = compared(Some(&row(&[40.0])));
        assert_eq!((found.ratio, found.verdict), (Some(1.25), Verdict::Faster));
        assert_eq!(found.cells(), ["40.00", "1.25", "faster"]);
        assert_eq!(compared(None).cells(), ["-", "-", "not measured before"]);
        assert!(is_same(&row(&[1.0]), &row(&[2.0])));
        assert!(!is_same(&row(&[1.0]), &Row { threads: 1, ..row(&[1.0]) }));
        assert!(!is_same(&row(&[1.0]), &Row { depth: 1, ..row(&[1.0]) }));
    }
}
