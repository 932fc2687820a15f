mod files;
pub(crate) mod fit;
mod pull;

use std::collections::HashSet;

use allerac_ledger::{LedgerError, ServeLock};
use allerac_models::{
    Ability, Catalogue, Entry, FileSpec, Header, Installed, ModelKind, ModelsError, SamplingDefaults, Store,
};
use serde::Serialize;

use crate::args::{Models, Place};
use crate::failure::{Exit, Failure};
use crate::output::{Align, Table, bytes, parameters, print_json, print_line};

pub(crate) async fn run(command: &Models, place: &Place) -> Result<(), Failure> {
    match command {
        Models::List(args) => list(args.installed, args.json, place),
        Models::Pull(args) => pull::run(args, place).await,
        Models::Fit(args) => fit::run(args, place).await,
        Models::Import(args) => files::import(args, place).await,
        Models::Gc(_) => files::collect(place),
        Models::Scrub(args) => files::scrub(args, place).await,
        Models::Rm(args) => remove(&args.id, place),
        Models::Show(args) => show(&args.id, args.json, place),
    }
}

/// What the models crate says, as an exit code.
pub(crate) fn models_failure(error: &ModelsError) -> Failure {
    let exit = match error {
        ModelsError::DiskFull { .. } | ModelsError::NoRoom { .. } => Exit::Storage,
        ModelsError::Hub(_) | ModelsError::NotInstalled(_) => Exit::NotFound,
        ModelsError::Licence { .. } | ModelsError::Taken(_) | ModelsError::NoBase { .. } => Exit::Conflict,
        ModelsError::Name(_) => Exit::Usage,
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
    active_parameters: Option<u64>,
    context: u32,
    licence: &'a str,
    licence_url: Option<&'a str>,
    abilities: &'a [Ability],
    notes: Option<&'a str>,
    draft: Option<&'a str>,
    quant: Option<&'a str>,
    quantisations: Vec<&'a str>,
    languages: &'a [String],
    sampling: SamplingDefaults,
    file: &'a str,
    /// As far as it is known before it is fetched.
    size_bytes: Option<u64>,
    likely_bytes: u64,
    sha256: Option<&'a str>,
    /// The model that it is an adapter of.
    base: Option<&'a str>,
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
            active_parameters: entry.active_parameters,
            context: entry.context,
            sampling: entry.sampling,
            licence: &entry.licence,
            licence_url: entry.licence_url.as_deref(),
            abilities: &entry.abilities,
            notes: entry.notes.as_deref(),
            draft: entry.draft.as_deref(),
            quant: entry.quant.as_deref(),
            quantisations: entry.quants.iter().map(|quant| quant.name.as_str()).collect(),
            languages: &entry.languages,
            file: &entry.file.name,
            size_bytes: entry.size_bytes(),
            likely_bytes: entry.likely_bytes(),
            sha256: entry.file.sha256.as_deref(),
            base: entry.base.as_deref(),
            installed: here.is_some(),
            path: here.map(|model| model.path.display().to_string()),
        }
    }
}

impl Row<'_> {
    /// Its size, or about how much that will be.
    fn size(&self) -> String {
        self.size_bytes.map_or_else(|| format!("~{}", bytes(self.likely_bytes)), bytes)
    }

    fn kind(&self) -> &'static str {
        if self.base.is_some() { "adapter" } else { self.kind.name() }
    }

    fn parameters(&self) -> String {
        let active = self.active_parameters.map(|active| format!(", {} at a time", parameters(active)));
        parameters(self.parameters) + &active.unwrap_or_default()
    }
}

fn list(only_installed: bool, json: bool, place: &Place) -> Result<(), Failure> {
    let installed = installed(place)?;
    let own: Vec<Entry> = installed.iter().filter(|model| !in_catalogue(&model.id)).map(own_entry).collect();
    let entries = Catalogue::builtin().entries().iter().chain(&own);
    let rows = entries.map(|entry| Row::new(entry, &installed));
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
            row.kind().to_owned(),
            parameters(row.parameters),
            row.context.to_string(),
            row.size(),
            row.licence.to_owned(),
            if row.installed { "installed" } else { "" }.to_owned(),
        ]);
    }
    Ok(table.print()?)
}

fn show(id: &str, json: bool, place: &Place) -> Result<(), Failure> {
    let installed = installed(place)?;
    let own = installed.iter().find(|model| model.id == id && !in_catalogue(id)).map(own_entry);
    let entry = own.map_or_else(|| order(id), Ok)?;
    let row = Row::new(&entry, &installed);
    if json {
        return Ok(print_json(&row)?);
    }
    let abilities: Vec<&str> = row.abilities.iter().map(|ability| ability.name()).collect();
    let at = |url: Option<&str>| url.map(|url| format!(", {url}")).unwrap_or_default();
    let facts = [
        ("id", row.id.to_owned()),
        ("name", row.name.to_owned()),
        ("family", row.family.to_owned()),
        ("kind", row.kind().to_owned()),
        ("adapter of", row.base.unwrap_or_default().to_owned()),
        ("parameters", row.parameters()),
        ("context", format!("{} tokens", row.context)),
        ("licence", row.licence.to_owned() + &at(row.licence_url)),
        ("languages", row.languages.join(", ")),
        ("abilities", abilities.join(", ")),
        ("notes", row.notes.unwrap_or_default().to_owned()),
        ("sampling", sampling(row.sampling)),
        ("file", format!("{} ({})", row.file, row.size())),
        ("also as", row.quantisations.iter().map(|quant| format!("{}:{quant}", row.id)).collect::<Vec<_>>().join(", ")),
        ("draft", row.draft.unwrap_or_default().to_owned()),
        ("sha256", row.sha256.unwrap_or("as the hub says at the first fetch").to_owned()),
        ("installed", row.path.clone().unwrap_or_else(|| "no".to_owned())),
    ];
    for (name, value) in facts.into_iter().filter(|(_, value)| !value.is_empty()) {
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

fn store(place: &Place) -> Result<Store, Failure> {
    Ok(Store::open(&place.data_dir()?))
}

fn installed(place: &Place) -> Result<Vec<Installed>, Failure> {
    store(place)?.list().map_err(|error| models_failure(&error))
}

fn in_catalogue(id: &str) -> bool {
    Catalogue::builtin().get(id).is_some()
}

/// What is known of an installed model that the catalogue does not have by this name: from its files, and from the
/// catalogue where it is another name or other numbers of a model there.
fn own_entry(model: &Installed) -> Entry {
    let known = Catalogue::builtin().get(&model.model).cloned();
    let header = Header::read_all(&model.paths()).unwrap_or_default();
    let of_header = header.own("context_length").and_then(|context| u32::try_from(context).ok());
    let (name, family) = (header.text("general.name").unwrap_or(&model.id), header.architecture());
    let entry = known.unwrap_or_else(|| Entry {
        name: name.to_owned(),
        family: family.to_owned(),
        context: of_header.unwrap_or(0),
        licence: "unknown".to_owned(),
        ..Entry::default()
    });
    let file = FileSpec {
        name: model.origin.as_ref().map_or_else(|| model.id.clone(), |origin| origin.file.clone()),
        size_bytes: Some(model.size_bytes),
        sha256: Some(model.sha256.clone()),
    };
    Entry {
        id: model.id.clone(),
        kind: model.kind,
        parameters: model.parameters,
        licence: model.licence.clone().unwrap_or(entry.licence),
        base: model.base.clone(),
        quant: None,
        quants: Vec::new(),
        parts: Vec::new(),
        file,
        ..entry
    }
}

fn order(id: &str) -> Result<Entry, Failure> {
    Catalogue::builtin().order(id).ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there is no model {id} in the catalogue"))
            .hint("see `allerac models list`, or name one of a hub: USER/REPOSITORY:QUANTISATION")
    })
}
