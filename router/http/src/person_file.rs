//! All that the box has of one person, as an archive.

use std::io::{self, Write};
use std::ops::RangeInclusive;

use allerac_ledger::{AuditEntry, Ledger, LedgerError, Person, Span};
use allerac_objects::{Kind, Named, Store};
use tokio::runtime::Handle;
use zip::ZipWriter;
use zip::write::{SimpleFileOptions, StreamWriter};

use crate::usage_file::NotWritten;

type Archive<W> = ZipWriter<StreamWriter<W>>;

/// Writes it: what the books know of them, and what they keep; how many objects. Not to be called where other tasks wait
/// for the thread.
///
/// # Errors
/// [`NotWritten`], and then what is there is not all of it.
pub fn write_person<W: Write>(
    ledger: &Ledger,
    store: Option<&Store>,
    person: &Person,
    output: W,
) -> Result<u64, NotWritten> {
    let mut archive = ZipWriter::new_stream(output);
    books(&mut archive, ledger, person)?;
    let objects = store.map_or(Ok(0), |store| objects(&mut archive, store, person))?;
    archive.finish().map_err(io::Error::from)?.into_inner().flush()?;
    Ok(objects)
}

fn books(archive: &mut Archive<impl Write>, ledger: &Ledger, person: &Person) -> Result<(), NotWritten> {
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
fn names(ledger: &Ledger, person: &Person) -> Result<Vec<Called>, NotWritten> {
    let mut renames = Vec::new();
    ledger.export_audit(|entry| {
        if entry.action == "user.rename" && entry.at >= person.created_at {
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

/// What is done to somebody, whose name it then has as its subject.
const TO_PEOPLE: [&str; 4] = ["user.", "session.", "passkey.", "identity."];

fn is_about(entry: &AuditEntry, person: &Person, names: &[Called]) -> bool {
    // Before they came, their names were others'.
    if entry.at < person.created_at {
        return false;
    }
    let is_name = |text: &str| {
        names.iter().any(|called| called.entries.contains(&entry.id) && text.eq_ignore_ascii_case(&called.name))
    };
    let is_key = |text: &str| person.keys.iter().any(|key| key.id == text);
    let is_to_somebody = TO_PEOPLE.iter().any(|begin| entry.action.starts_with(begin));
    (is_to_somebody && is_name(&entry.subject))
        || is_key(&entry.subject)
        || entry.detail["user"].as_str().is_some_and(is_name)
}

/// What the person keeps: each object's head and tail as they are kept, its pieces one after the other.
fn objects(archive: &mut Archive<impl Write>, store: &Store, person: &Person) -> Result<u64, NotWritten> {
    let runtime = Handle::current();
    let mut count = 0;
    for Named { kind, id, .. } in runtime.block_on(store.all_of(person.owner))? {
        // What has had its time, or does not open, is not there any more.
        let Some(object) = runtime.block_on(store.get(kind, person.owner, &id))? else { continue };
        count += 1;
        let name = format!("{}s/{id}", kind.as_str());
        put(archive, &format!("{name}.json"), &object.head)?;
        if let Some(tail) = runtime.block_on(store.tail(kind, person.owner, &id))? {
            put(archive, &format!("{name}.more"), &tail)?;
        }
        let pieces = runtime.block_on(store.pieces(kind, person.owner, &id))?;
        if pieces.is_empty() {
            continue;
        }
        begin(archive, &format!("{name}.content"))?;
        for (number, _) in pieces {
            let Some(piece) = runtime.block_on(store.piece(kind, person.owner, &id, number))? else { continue };
            archive.write_all(&piece)?;
            if kind == Kind::Batch {
                archive.write_all(b"\n")?;
            }
        }
    }
    Ok(count)
}

fn begin(archive: &mut Archive<impl Write>, name: &str) -> Result<(), NotWritten> {
    let options = SimpleFileOptions::default().unix_permissions(0o600).large_file(true);
    Ok(archive.start_file(name, options).map_err(io::Error::from)?)
}

fn put(archive: &mut Archive<impl Write>, name: &str, content: &[u8]) -> Result<(), NotWritten> {
    begin(archive, name)?;
    Ok(archive.write_all(content)?)
}

fn line(archive: &mut Archive<impl Write>, value: &impl serde::Serialize) -> Result<(), NotWritten> {
    serde_json::to_writer(&mut *archive, value).map_err(io::Error::from)?;
    Ok(archive.write_all(b"\n")?)
}
