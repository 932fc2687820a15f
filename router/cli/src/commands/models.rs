use std::collections::HashSet;
use std::time::{Duration, Instant};

use allerac_ledger::{LedgerError, ServeLock};
use allerac_models::{Catalogue, Entry, Installed, ModelKind, ModelsError, Progress, SamplingDefaults, Store};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::args::{Models, Place};
use crate::failure::{Exit, Failure};
use crate::output::{Align, Table, bytes, parameters, print_json, print_line};
use crate::place;

/// Where stderr is no terminal, progress is a line this often: readable in a log, and alive.
const LINE_EVERY: Duration = Duration::from_secs(3);

pub(crate) async fn run(command: &Models, place: &Place) -> Result<(), Failure> {
    match command {
        Models::List(args) => list(args.installed, args.json, place),
        Models::Pull(args) => pull(&args.id, place).await,
        Models::Rm(args) => remove(&args.id, place),
        Models::Show(args) => show(&args.id, args.json, place),
    }
}

/// What the models crate says, as an exit code.
pub(crate) fn models_failure(error: &ModelsError) -> Failure {
    let exit = match error {
        ModelsError::DiskFull { .. } => Exit::Storage,
        ModelsError::File { path, source, .. } => Failure::from_io("use", path, source).exit,
        ModelsError::Busy(_) => Exit::Conflict,
        _ => Exit::Failure,
    };
    Failure::from_error(exit, error)
}

/// A model of the catalogue, and whether it is here.
#[derive(Debug, Serialize)]
struct Row<'a> {
    id: &'a str,
    name: &'a str,
    family: &'a str,
    kind: ModelKind,
    parameters: u64,
    context: u32,
    licence: &'a str,
    languages: &'a [String],
    sampling: SamplingDefaults,
    file: &'a str,
    size_bytes: u64,
    sha256: &'a str,
    installed: bool,
    path: Option<String>,
}

impl<'a> Row<'a> {
    fn new(entry: &'a Entry, installed: &[Installed]) -> Self {
        let here = installed.iter().find(|model| model.id == entry.id);
        Self {
            id: &entry.id,
            name: &entry.name,
            family: &entry.family,
            kind: entry.kind,
            parameters: entry.parameters,
            context: entry.context,
            sampling: entry.sampling,
            licence: &entry.licence,
            languages: &entry.languages,
            file: &entry.file.name,
            size_bytes: entry.size_bytes(),
            sha256: &entry.file.sha256,
            installed: here.is_some(),
            path: here.map(|model| model.path.display().to_string()),
        }
    }
}

fn list(only_installed: bool, json: bool, place: &Place) -> Result<(), Failure> {
    let installed = installed(place)?;
    let rows = Catalogue::builtin().entries().iter().map(|entry| Row::new(entry, &installed));
    let rows: Vec<Row> = rows.filter(|row| row.installed || !only_installed).collect();
    if json {
        return Ok(print_json(&rows)?);
    }
    if rows.is_empty() {
        return Ok(print_line("no model is installed yet; fetch one: allerac models pull ID")?);
    }
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("KIND", Align::Left),
        ("PARAMETERS", Align::Right),
        ("CONTEXT", Align::Right),
        ("SIZE", Align::Right),
        ("LICENCE", Align::Left),
        ("STATE", Align::Left),
    ]);
    for row in rows {
        table.row(vec![
            row.id.to_owned(),
            row.kind.name().to_owned(),
            parameters(row.parameters),
            row.context.to_string(),
            bytes(row.size_bytes),
            row.licence.to_owned(),
            if row.installed { "installed" } else { "" }.to_owned(),
        ]);
    }
    Ok(table.print()?)
}

fn show(id: &str, json: bool, place: &Place) -> Result<(), Failure> {
    let installed = installed(place)?;
    let row = Row::new(entry(id)?, &installed);
    if json {
        return Ok(print_json(&row)?);
    }
    let facts = [
        ("id", row.id.to_owned()),
        ("name", row.name.to_owned()),
        ("family", row.family.to_owned()),
        ("kind", row.kind.name().to_owned()),
        ("parameters", parameters(row.parameters)),
        ("context", format!("{} tokens", row.context)),
        ("licence", row.licence.to_owned()),
        ("languages", row.languages.join(", ")),
        ("sampling", sampling(row.sampling)),
        ("file", format!("{} ({})", row.file, bytes(row.size_bytes))),
        ("sha256", row.sha256.to_owned()),
        ("installed", row.path.unwrap_or_else(|| "no".to_owned())),
    ];
    for (name, value) in facts {
        print_line(&format!("{name:<12}{value}"))?;
    }
    Ok(())
}

/// `temperature 0.2, top_p 0.9`: what a request gets that says nothing else.
fn sampling(defaults: SamplingDefaults) -> String {
    let SamplingDefaults { temperature, top_p, top_k, min_p } = defaults;
    let facts = [
        temperature.map(|value| format!("temperature {value}")),
        top_p.map(|value| format!("top_p {value}")),
        top_k.map(|value| format!("top_k {value}")),
        min_p.map(|value| format!("min_p {value}")),
    ];
    facts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn remove(id: &str, place: &Place) -> Result<(), Failure> {
    if !installed(place)?.iter().any(|model| model.id == id) {
        return Err(Failure::new(Exit::NotFound, format!("the model {id} is not installed"))
            .hint("see `allerac models list --installed`"));
    }
    let (store, data_dir) = (store(place)?, place.data_dir()?);
    store.forget(id).map_err(|error| models_failure(&error))?;
    match ServeLock::acquire(&data_dir) {
        // Held until the files are gone, so that no server begins to read them.
        Ok(_lock) => {
            store.sweep(&HashSet::new()).map_err(|error| models_failure(&error))?;
            Ok(print_line(&format!("removed {id}"))?)
        }
        Err(LedgerError::InUse(_)) => {
            Ok(print_line(&format!("removed {id}; the server frees its disk space when nobody uses it any more"))?)
        }
        Err(error) => Err(error.into()),
    }
}

async fn pull(id: &str, place: &Place) -> Result<(), Failure> {
    let entry = entry(id)?;
    place::prepare(&place.data_dir()?)?;
    let store = store(place)?;
    if installed(place)?.iter().any(|model| model.id == id) {
        return Ok(print_line(&format!("{id} is installed already"))?);
    }
    let mut meter = Meter::new(id, entry.size_bytes());
    let pulled = store.pull(entry, |progress| meter.show(&progress)).await;
    meter.finish();
    let model = pulled.map_err(|error| models_failure(&error))?;
    Ok(print_line(&format!("{id} is installed and verified ({})", bytes(model.size_bytes)))?)
}

fn store(place: &Place) -> Result<Store, Failure> {
    Ok(Store::open(&place.data_dir()?))
}

fn installed(place: &Place) -> Result<Vec<Installed>, Failure> {
    store(place)?.list().map_err(|error| models_failure(&error))
}

fn entry(id: &str) -> Result<&'static Entry, Failure> {
    Catalogue::builtin().get(id).ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there is no model {id} in the catalogue"))
            .hint("see `allerac models list`")
    })
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
        let style = ProgressStyle::with_template(
            "{prefix} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left {msg}",
        );
        bar.set_style(style.expect("the template is well-formed").progress_chars("=> "));
        bar.set_prefix(id.to_owned());
        Self { id: id.to_owned(), bar, last_line: None }
    }

    fn show(&mut self, progress: &Progress) {
        // A package that holds the file is larger or smaller than the file.
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
        let due = self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY);
        if self.bar.is_hidden() && due {
            self.last_line = Some(Instant::now());
            let (done, total) = (bytes(progress.done), bytes(progress.total));
            let percent = progress.done * 100 / progress.total.max(1);
            eprintln!("{}: {done} of {total} ({percent} %), {}/s", self.id, bytes(self.bytes_a_second()));
        }
    }

    fn bytes_a_second(&self) -> u64 {
        let rate = self.bar.per_sec();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is positive and small")]
        if rate.is_finite() { rate as u64 } else { 0 }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
