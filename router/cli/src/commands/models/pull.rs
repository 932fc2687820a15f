//! Fetches a model: of the catalogue, or of a hub.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::{Duration, Instant};

use allerac_models::{Downloads, Entry, Progress, Reference, Store};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{installed, models_failure, order};
use crate::args::{ModelsPull, Place};
use crate::config::ConfigFile;
use crate::failure::{Exit, Failure};
use crate::output::{bytes, print_line};
use crate::place;

/// Where stderr is no terminal, progress is a line this often: readable in a log, and alive.
const LINE_EVERY: Duration = Duration::from_secs(3);

pub(super) async fn run(args: &ModelsPull, place: &Place) -> Result<(), Failure> {
    let downloads = ConfigFile::load(args.config.as_deref())?.downloads(place.time_zone())?;
    let pace = if args.now { downloads.pace.now() } else { downloads.pace.clone() };
    let store = Store::open(&place.data_dir()?).with(Downloads { pace, ..downloads });
    let entry = if args.id.contains('/') {
        let reference: Reference = args.id.parse().map_err(|error| Failure::from_error(Exit::Usage, &error))?;
        let found = store.find(&reference).await.map_err(|error| models_failure(&error))?;
        Entry { base: args.base.clone(), ..found }
    } else {
        order(&args.id)?
    };
    if !entry.is_reference && installed(place)?.iter().any(|model| model.id == entry.id) {
        return Ok(print_line(&format!("{} is installed already", entry.id))?);
    }
    place::prepare(&place.data_dir()?)?;
    accept(&store, &entry, args.accept_licence)?;
    if args.update {
        store.unpin(&entry).map_err(|error| models_failure(&error))?;
    }
    let mut meter = Meter::new(&entry.id, entry.likely_bytes());
    let pulled = store.pull(&entry, |progress| meter.show(&progress)).await;
    meter.finish();
    let model = pulled.map_err(|error| models_failure(&error))?;
    Ok(print_line(&format!("{} is installed and verified ({})", model.id, bytes(model.size_bytes)))?)
}

/// Notes that a licence that asks for it is accepted: told so, or asked at a terminal. Else fetching says what to do.
fn accept(store: &Store, entry: &Entry, told: bool) -> Result<(), Failure> {
    if store.has_accepted(entry).map_err(|error| models_failure(&error))? {
        return Ok(());
    }
    let asks = io::stdin().is_terminal() && io::stderr().is_terminal();
    let accepted = told || (asks && ask(entry)?);
    if !accepted {
        return Ok(());
    }
    let by = format!("command line, user {}", place::user());
    store.accept(entry, &by).map_err(|error| models_failure(&error))
}

fn ask(entry: &Entry) -> Result<bool, Failure> {
    let url = entry.licence_url.as_ref().map(|url| format!(", {url}")).unwrap_or_default();
    eprint!("{} has the licence {}{url}\ndo you accept it? [y/N] ", entry.name, entry.licence);
    let mut answer = String::new();
    let read = io::stderr().flush().and_then(|()| io::stdin().lock().read_line(&mut answer));
    read.map_err(|error| Failure::new(Exit::Failure, format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Shows a download's progress on stderr: a bar on a terminal, else a line every few seconds.
struct Meter {
    id: String,
    bar: ProgressBar,
    last_line: Option<Instant>,
}

impl Meter {
    fn new(id: &str, size_bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(size_bytes), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {msg}");
        bar.set_style(style.expect("the template is well-formed").progress_chars("=> "));
        bar.set_prefix(id.to_owned());
        Self { id: id.to_owned(), bar, last_line: None }
    }

    fn show(&mut self, progress: &Progress) {
        // A package that holds the file is larger or smaller than the file.
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
        let pace = pace(progress);
        self.bar.set_message(pace.clone());
        let due = self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY);
        if self.bar.is_hidden() && due {
            self.last_line = Some(Instant::now());
            let (done, total) = (bytes(progress.done), bytes(progress.total));
            let percent = progress.done * 100 / progress.total.max(1);
            eprintln!("{}: {done} of {total} ({percent} %){pace}", self.id);
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// `, 12.5 MB/s, 3 min left`, or why nothing comes.
fn pace(progress: &Progress) -> String {
    let time = |time: Duration| match time.as_secs() {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds @ 100..=5999 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    };
    if let Some(wait) = progress.starts_in {
        return format!(", waits {} for the hours of downloads; --now does not", time(wait));
    }
    let rate = progress.bytes_per_second.map(|rate| format!(", {}/s", bytes(rate)));
    let left = progress.left().map(|left| format!(", {} left", time(left)));
    rate.unwrap_or_default() + &left.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_said_once_it_is_known() {
        let progress = Progress { done: 10_000_000, total: 1_010_000_000, ..Progress::default() };
        assert_eq!(pace(&progress), "");
        let fast = Progress { bytes_per_second: Some(2_000_000), ..progress.clone() };
        assert_eq!(pace(&fast), ", 2.00 MB/s, 9 min left");
        let slow = Progress { bytes_per_second: Some(100_000), ..progress.clone() };
        assert_eq!(pace(&slow), ", 100.00 kB/s, 2 h 46 min left");
        let waits = Progress { starts_in: Some(Duration::from_secs(90)), ..progress };
        assert_eq!(pace(&waits), ", waits 90 s for the hours of downloads; --now does not");
    }
}
