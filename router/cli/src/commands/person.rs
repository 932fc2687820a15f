//! All that the box has of one person: handed out, or deleted.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write, stdin};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use allerac_ledger::{AuditEntry, Ledger, LedgerError, Person, Span};
use allerac_objects::{Kind, Named, Store};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::args::Place;
use crate::args::care::{UsersErase, UsersExport};
use crate::failure::{Exit, Failure};
use crate::output::{create_private, print_line};
use crate::secret;

/// How long requests of an erased person may take to end; then it is to be tried again.
const ENDING_WAIT: Duration = Duration::from_secs(60);
/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(100);

type Archive = ZipWriter<BufWriter<File>>;

pub(crate) async fn export(args: &UsersExport, place: &Place) -> Result<(), Failure> {
    let ledger = place.existing_ledger()?;
    let person = ledger.person(&args.name)?;
    let path = &args.output;
    let mut archive = ZipWriter::new(create_private(path)?);
    let written = match books(&mut archive, &ledger, &person) {
        Ok(()) => objects(&mut archive, place, &person).await,
        Err(failure) => Err(failure),
    };
    let objects = match written {
        Ok(objects) => objects,
        Err(failure) => {
            let _ = std::fs::remove_file(path);
            return Err(failure);
        }
    };
    let finish = archive
        .finish()
        .map_err(io::Error::from)
        .and_then(|file| file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all());
    finish.map_err(|error| Failure::from_io("write", path, &error))?;
    Ok(print_line(&format!("{}: what the books know of {}, and {objects} objects", path.display(), person.name))?)
}

fn books(archive: &mut Archive, ledger: &Ledger, person: &Person) -> Result<(), Failure> {
    begin(archive, "person.json")?;
    serde_json::to_writer_pretty(&mut *archive, person).map_err(io::Error::from)?;
    begin(archive, "usage.jsonl")?;
    let span = Span { user: Some(person.name.clone()), ..Span::default() };
    ledger.export_usage(&span, |request| line(archive, &request))?;
    begin(archive, "audit.jsonl")?;
    let names = names(ledger, person)?;
    ledger.export_audit(|entry| if is_about(entry, person, &names) { line(archive, entry) } else { Ok(()) })
}

/// A name of somebody, and the entries of the audit log in which it is theirs.
struct Called {
    name: String,
    entries: RangeInclusive<u64>,
}

/// What the person is and was called.
fn names(ledger: &Ledger, person: &Person) -> Result<Vec<Called>, Failure> {
    let mut renames = Vec::new();
    ledger.export_audit(|entry| {
        if entry.action == "user.rename" {
            renames.push((
                entry.id,
                entry.subject.clone(),
                entry.detail["after"].as_str().unwrap_or_default().to_owned(),
            ));
        }
        Ok::<_, LedgerError>(())
    })?;
    let mut names = Vec::new();
    let (mut name, mut until) = (person.name.clone(), u64::MAX);
    for (id, before, after) in renames.into_iter().rev().filter(|(_, before, after)| before != after) {
        if after.eq_ignore_ascii_case(&name) {
            names.push(Called { name, entries: id..=until });
            (name, until) = (before, id);
        }
    }
    names.push(Called { name, entries: 0..=until });
    Ok(names)
}

fn is_about(entry: &AuditEntry, person: &Person, names: &[Called]) -> bool {
    let is_name = |text: &str| {
        names.iter().any(|called| called.entries.contains(&entry.id) && text.eq_ignore_ascii_case(&called.name))
    };
    let is_key = |text: &str| person.keys.iter().any(|key| key.id == text);
    is_name(&entry.subject) || is_key(&entry.subject) || entry.detail["user"].as_str().is_some_and(is_name)
}

/// What the person keeps: each object's head and tail as they are kept, its pieces one after the other.
async fn objects(archive: &mut Archive, place: &Place, person: &Person) -> Result<u64, Failure> {
    let data_dir = place.data_dir()?;
    let Some(store) = store(&data_dir)? else { return Ok(0) };
    let mut count = 0;
    for Named { kind, id, .. } in store.all_of(person.owner).await? {
        // What has had its time, or does not open, is not there any more.
        let Some(object) = store.get(kind, person.owner, &id).await? else { continue };
        count += 1;
        let name = format!("{}s/{id}", kind.as_str());
        put(archive, &format!("{name}.json"), &object.head)?;
        if let Some(tail) = store.tail(kind, person.owner, &id).await? {
            put(archive, &format!("{name}.more"), &tail)?;
        }
        let pieces = store.pieces(kind, person.owner, &id).await?;
        if pieces.is_empty() {
            continue;
        }
        begin(archive, &format!("{name}.content"))?;
        for (number, _) in pieces {
            let Some(piece) = store.piece(kind, person.owner, &id, number).await? else { continue };
            archive.write_all(&piece)?;
            if kind == Kind::Batch {
                archive.write_all(b"\n")?;
            }
        }
    }
    Ok(count)
}

fn begin(archive: &mut Archive, name: &str) -> Result<(), Failure> {
    let options = SimpleFileOptions::default().unix_permissions(0o600).large_file(true);
    Ok(archive.start_file(name, options).map_err(io::Error::from)?)
}

fn put(archive: &mut Archive, name: &str, content: &[u8]) -> Result<(), Failure> {
    begin(archive, name)?;
    Ok(archive.write_all(content)?)
}

fn line(archive: &mut Archive, value: &impl serde::Serialize) -> Result<(), Failure> {
    serde_json::to_writer(&mut *archive, value).map_err(io::Error::from)?;
    Ok(archive.write_all(b"\n")?)
}

/// What people keep, beside a server that may be at work on it; `None` where nothing was ever kept.
fn store(data_dir: &Path) -> Result<Option<Store>, Failure> {
    match secret::existing(data_dir)? {
        Some(secret) if data_dir.join("objects.db").exists() => Ok(Some(Store::open_beside(data_dir, &secret)?)),
        _ => Ok(None),
    }
}

pub(crate) async fn erase(args: &UsersErase, place: &Place) -> Result<(), Failure> {
    let ledger = place.existing_ledger()?;
    let person = ledger.person(&args.name)?;
    if !args.yes && !is_sure(&person.name)? {
        return Err(Failure::new(Exit::Usage, "nothing was erased").hint("add --yes, or type the name when asked"));
    }
    // In this order, so that what was interrupted can be done again by the same name.
    ledger.lock_out(&person.name).await?;
    let wait = tokio::time::Instant::now() + ENDING_WAIT;
    while ledger.open_requests(&person.name)? > 0 {
        if tokio::time::Instant::now() > wait {
            return Err(Failure::new(Exit::Conflict, format!("requests of {} are still running", person.name))
                .hint("their keys are refused already; erase them again when the requests have ended"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let data_dir = place.data_dir()?;
    let deleted = match store(&data_dir)? {
        Some(store) => store.delete_all(person.owner).await?,
        None => 0,
    };
    secret::forget_prompts(&data_dir)?;
    let nobody = ledger.forget(&person.name).await?;
    print_line(&format!("erased; {deleted} objects are deleted, and what was used stays under {nobody}"))?;
    Ok(print_line(
        "what engines know of prompts goes when the server next starts; backups made before keep what is in them",
    )?)
}

fn is_sure(name: &str) -> Result<bool, Failure> {
    if !stdin().is_terminal() {
        return Ok(false);
    }
    print_line(&format!("This deletes all that {name} keeps. Type the name to go on:"))?;
    let mut typed = String::new();
    stdin().read_line(&mut typed)?;
    Ok(typed.trim() == name)
}
