//! What was used in spans of time of one length, by whom and with what.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::sql::{self, Connection, Row, Value};

/// Spans at once.
pub const BUCKETS_MAX: usize = 1440;

/// How long spans are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A calendar day of the owner's time zone.
    Day,
}

/// What usage is told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Who.
    User,
    /// With which key.
    Key,
    /// With which model.
    Model,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// How long spans are.
    pub width: Width,
    /// A moment in the first span, in seconds since 1970.
    pub from: i64,
    /// Where it ends, not included; now where `None`.
    pub to: Option<i64>,
    /// Spans, [`BUCKETS_MAX`] at most.
    pub limit: usize,
    /// What is told apart.
    pub by: Vec<Part>,
    /// Of these endpoints only.
    pub endpoints: Vec<&'static str>,
    /// Of these users only; of all where empty.
    pub users: Vec<String>,
    /// With these keys only, by public id; with all where empty.
    pub keys: Vec<String>,
    /// With these models only; with all where empty.
    pub models: Vec<String>,
}

/// A span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its begin, in seconds since 1970.
    pub start: i64,
    /// Its end, not included.
    pub end: i64,
    /// What was used in it; nothing where nothing was.
    pub sums: Vec<BucketSum>,
}

/// What was used in a span by one of those told apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketSum {
    /// Who, where that is told apart.
    pub user: Option<String>,
    /// With which key.
    pub key: Option<String>,
    /// With which model.
    pub model: Option<String>,
    /// Requests.
    pub requests: i64,
    /// Tokens of prompts.
    pub prompt_tokens: i64,
    /// Of these, known from before.
    pub cached_tokens: i64,
    /// Tokens of output.
    pub completion_tokens: i64,
    /// What other servers take for it, in billionths of the currency.
    pub cost: i64,
    /// What its energy and its part of the machine cost here, in billionths of the currency.
    pub cost_here: i64,
}

impl Ledger {
    /// Usage in spans, oldest first, and where the next page begins where there is one.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn buckets(&self, wanted: &Wanted) -> Result<(Vec<Bucket>, Option<i64>), LedgerError> {
        let to = wanted.to.unwrap_or_else(|| self.now().seconds + 1);
        let (mut buckets, next) = spans(wanted, to, self.zone());
        let Some((first, last)) = buckets.first().zip(buckets.last()) else { return Ok((buckets, None)) };
        let asked = match wanted.width {
            Width::Day => of_days(wanted, (first.start, last.start), self.zone()),
            Width::Hour => of_moments(wanted, (first.start, last.end.min(to)), 3600),
            Width::Minute => of_moments(wanted, (first.start, last.end.min(to)), 60),
        };
        let rows = self.read(|connection| asked.rows(connection))?;
        for (mark, sum) in rows {
            let place = buckets.binary_search_by(|bucket| mark_of(bucket, wanted.width, self.zone()).cmp(&mark));
            if let Ok(place) = place {
                buckets[place].sums.push(sum);
            }
        }
        Ok((buckets, next))
    }
}

/// The empty spans, and where the next page begins.
fn spans(wanted: &Wanted, to: i64, zone: &TimeZone) -> (Vec<Bucket>, Option<i64>) {
    let mut buckets = Vec::new();
    let mut start = match wanted.width {
        Width::Minute => wanted.from - wanted.from.rem_euclid(60),
        Width::Hour => wanted.from - wanted.from.rem_euclid(3600),
        Width::Day => day_of(wanted.from, zone, 0),
    };
    while start < to {
        if buckets.len() == wanted.limit.min(BUCKETS_MAX) {
            return (buckets, Some(start));
        }
        let end = match wanted.width {
            Width::Minute => start + 60,
            Width::Hour => start + 3600,
            Width::Day => day_of(start, zone, 1),
        };
        if end <= start {
            break;
        }
        buckets.push(Bucket { start, end, sums: Vec::new() });
        start = end;
    }
    (buckets, None)
}

/// The begin of the day so many days after that of a moment.
fn day_of(moment: i64, zone: &TimeZone, later: i64) -> i64 {
    let zoned = Timestamp::from_second(moment).unwrap_or_default().to_zoned(zone.clone());
    let day = zoned.date().saturating_add(later.days());
    day.to_zoned(zone.clone()).map_or(moment, |begin| begin.timestamp().as_second())
}

/// What rows of a span have in common: its day, or its begin.
fn mark_of(bucket: &Bucket, width: Width, zone: &TimeZone) -> Mark {
    match width {
        Width::Day => Mark::Day(day_text(bucket.start, zone)),
        Width::Minute | Width::Hour => Mark::Moment(bucket.start),
    }
}

fn day_text(moment: i64, zone: &TimeZone) -> String {
    Timestamp::from_second(moment).unwrap_or_default().to_zoned(zone.clone()).strftime("%Y-%m-%d").to_string()
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Day(String),
    Moment(i64),
}

/// A query and what is put into it.
struct Asked {
    text: String,
    values: Vec<Value>,
}

impl Asked {
    fn rows(&self, connection: &Connection) -> Result<Vec<(Mark, BucketSum)>, LedgerError> {
        let mut statement = connection.prepare_cached(&self.text)?;
        let rows = statement.query_map(&self.values, row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn row(row: Row<'_>) -> sql::Result<(Mark, BucketSum)> {
    let mark = match row.get::<Value>(0)? {
        Value::Text(day) => Mark::Day(day),
        _ => Mark::Moment(row.get(0)?),
    };
    Ok((
        mark,
        BucketSum {
            user: row.get(1)?,
            key: row.get(2)?,
            model: row.get(3)?,
            requests: row.get(4)?,
            prompt_tokens: row.get(5)?,
            cached_tokens: row.get(6)?,
            completion_tokens: row.get(7)?,
            cost: row.get(8)?,
            cost_here: row.get(9)?,
        },
    ))
}

/// From the sums of days.
fn of_days(wanted: &Wanted, (first, last): (i64, i64), zone: &TimeZone) -> Asked {
    let (first, last) = (day_text(first, zone), day_text(last, zone));
    let counts = "sum(requests), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(cost),
        sum(electricity + machine) FROM usage_daily AS used";
    let months = [&first[..7], &last[..7]].map(|month| Value::Text(month.to_owned()));
    let values = months.into_iter().chain([first, last].map(Value::Text)).collect();
    assemble(wanted, "day", counts, "month BETWEEN ? AND ? AND day BETWEEN ? AND ?", values)
}

/// From settled requests one by one, by when they began.
fn of_moments(wanted: &Wanted, (from, to): (i64, i64), width: i64) -> Asked {
    let mark = format!("created_at - created_at % {width}");
    let counts =
        "count(*), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(cost), sum(electricity + machine)
         FROM usage AS used";
    assemble(
        wanted,
        &mark,
        counts,
        "used.created_at >= ? AND used.created_at < ?",
        vec![Value::Number(from), Value::Number(to)],
    )
}

fn assemble(wanted: &Wanted, mark: &str, counts: &str, when: &str, mut values: Vec<Value>) -> Asked {
    let mark = mark.replace("created_at", "used.created_at");
    let of = |part: Part, column: &'static str| if wanted.by.contains(&part) { column } else { "NULL" };
    let (user, key, model) =
        (of(Part::User, "users.name"), of(Part::Key, "keys.public_id"), of(Part::Model, "used.model"));
    let mut text = format!(
        "SELECT {mark}, {user}, {key}, {model}, {counts} JOIN keys ON keys.id = used.key_id
         JOIN users ON users.id = keys.user_id WHERE {when}"
    );
    let endpoints: Vec<String> = wanted.endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect();
    let filters = [
        ("used.endpoint", &endpoints),
        ("users.name", &wanted.users),
        ("keys.public_id", &wanted.keys),
        ("used.model", &wanted.models),
    ];
    for (column, wanted) in filters.into_iter().filter(|(_, wanted)| !wanted.is_empty()) {
        let places = vec!["?"; wanted.len()].join(", ");
        text.push_str(&format!(" AND {column} IN ({places})"));
        values.extend(wanted.iter().cloned().map(Value::Text));
    }
    text.push_str(" GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4");
    Asked { text, values }
}
