//! Reads the server's own metrics: the part of OpenMetrics that it writes.

/// The numbers of one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Scrape(Vec<Sample>);

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Labels that a sample must have.
pub(super) type Wanted<'a> = &'a [(&'a str, &'a str)];

impl Scrape {
    /// The samples of a text; what is wrong with it otherwise.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.lines().next_back() != Some("# EOF") {
            return Err("the text is not whole".to_owned());
        }
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let samples = lines.map(|line| sample(line).ok_or_else(|| format!("it has a line that says nothing: {line}")));
        samples.collect::<Result<_, _>>().map(Self)
    }

    /// All samples of a name that have these labels, added up.
    pub(super) fn sum(&self, name: &str, wanted: Wanted<'_>) -> f64 {
        // An empty sum of floats is a negative zero.
        self.of(name, wanted).map(|sample| sample.value).sum::<f64>() + 0.0
    }

    /// The values of a label among the samples of a name that have these labels, in their order, each once.
    pub(super) fn values(&self, name: &str, wanted: Wanted<'_>, label: &str) -> Vec<String> {
        let mut values: Vec<String> = Vec::new();
        for value in self.of(name, wanted).filter_map(|sample| sample.label(label)) {
            if !values.iter().any(|known| known == value) {
                values.push(value.to_owned());
            }
        }
        values
    }

    /// The upper bounds of a histogram's buckets, in order, with how many values are at most so large; all that have
    /// these labels together.
    pub(super) fn buckets(&self, name: &str, wanted: Wanted<'_>) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.of(&format!("{name}_bucket"), wanted) {
            let Some(bound) = sample.label("le").and_then(|bound| bound.parse::<f64>().ok()) else { continue };
            match buckets.iter_mut().find(|(other, _)| other.total_cmp(&bound).is_eq()) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((bound, sample.value)),
            }
        }
        buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        buckets
    }

    /// Whether this comes from a younger process than `last`: something that only grows has shrunk.
    pub(super) fn began_anew(&self, last: &Self) -> bool {
        let grows = |sample: &&Sample| sample.name.ends_with("_total");
        last.0.iter().filter(grows).any(|before| {
            let same = |sample: &&Sample| sample.name == before.name && sample.labels == before.labels;
            self.0.iter().find(same).is_none_or(|now| now.value < before.value)
        })
    }

    fn of<'a>(&'a self, name: &'a str, wanted: Wanted<'a>) -> impl Iterator<Item = &'a Sample> {
        let has = |sample: &Sample| wanted.iter().all(|(label, value)| sample.label(label) == Some(value));
        self.0.iter().filter(move |sample| sample.name == name && has(sample))
    }
}

impl Sample {
    fn label(&self, wanted: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == wanted).map(|(_, value)| value.as_str())
    }
}

/// `name value`, or `name{label="value",...} value`.
fn sample(line: &str) -> Option<Sample> {
    let (name, labels, value) = match line.split_once('{') {
        None => {
            let (name, value) = line.split_once(' ')?;
            (name, Vec::new(), value)
        }
        Some((name, rest)) => {
            let (labels, value) = read_labels(rest)?;
            (name, labels, value.strip_prefix(' ')?)
        }
    };
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

/// Labels, and what follows the brace that closes them.
fn read_labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (label, quoted) = rest.split_once("=\"")?;
        let (value, after) = read_value(quoted)?;
        labels.push((label.to_owned(), value));
        rest = after.strip_prefix(',').unwrap_or(after);
    }
}

/// A value, and what follows the quote that closes it.
fn read_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (place, '"') => return Some((value, &text[place + 1..])),
            (_, '\\') => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            (_, other) => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE a counter\na_total{model=\"m\",kind=\"x\"} 3\na_total{model=\"m\",kind=\"y\"} 4\n\
        a_total{model=\"n\",kind=\"x\"} 5\n# TYPE g gauge\ng 1.5\n# TYPE h histogram\n\
        h_bucket{le=\"0.5\",c=\"1\"} 1\nh_bucket{le=\"+Inf\",c=\"1\"} 2\nh_bucket{le=\"0.5\",c=\"2\"} 3\n\
        h_bucket{le=\"+Inf\",c=\"2\"} 3\nodd{a=\"q\\\"}\\\\\\n, {\"} 7\n# EOF\n";

    #[test]
    fn samples_are_found_by_their_labels() {
        let scrape = Scrape::parse(TEXT).unwrap();
        assert_eq!(scrape.sum("a_total", &[]), 12.0);
        assert_eq!(scrape.sum("a_total", &[("model", "m")]), 7.0);
        assert_eq!(scrape.sum("a_total", &[("model", "m"), ("kind", "y")]), 4.0);
        assert_eq!((scrape.sum("g", &[]), scrape.sum("none", &[])), (1.5, 0.0));
        assert_eq!(scrape.values("a_total", &[], "model"), ["m", "n"]);
        assert_eq!(scrape.values("odd", &[], "a"), ["q\"}\\\n, {"]);
        assert_eq!(scrape.buckets("h", &[]), [(0.5, 4.0), (f64::INFINITY, 5.0)]);
        assert_eq!(scrape.buckets("h", &[("c", "1")]), [(0.5, 1.0), (f64::INFINITY, 2.0)]);
    }

    #[test]
    fn a_server_that_began_anew_is_noticed() {
        let scrape = Scrape::parse(TEXT).unwrap();
        let later = Scrape::parse(&TEXT.replace("} 5", "} 6").replace("g 1.5", "g 1")).unwrap();
        assert_eq!([later.began_anew(&scrape), scrape.began_anew(&later)], [false, true]);
        assert!(Scrape::default().began_anew(&scrape));
    }

    #[test]
    fn what_is_cut_or_no_metric_is_refused() {
        assert!(Scrape::parse("").is_err());
        assert!(Scrape::parse(&TEXT[..TEXT.len() - 6]).is_err());
        for line in ["a", "a x", "a{ 1", "a{b=\"c} 1", "a{b=\"c\"}", "<html>"] {
            assert!(Scrape::parse(&format!("{line}\n# EOF\n")).is_err(), "{line}");
        }
    }
}
