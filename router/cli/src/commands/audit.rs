use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use allerac_ledger::{AuditEntry, AuditVerified, Chain, Tampered};
use jiff::Timestamp;

use crate::args::Place;
use crate::args::books::{Audit, AuditList, AuditVerify, Switch};
use crate::failure::{Exit, Failure};
use crate::output::{Align, Table, print_json, print_line};

/// The longest line of an export, in bytes: far beyond any entry.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

pub(crate) async fn run(command: &Audit, place: &Place) -> Result<(), Failure> {
    match command {
        Audit::List(args) => list(args, place),
        Audit::Verify(args) => verify(args, place),
        Audit::Export(_) => export(place),
        Audit::Requests(args) => {
            let wanted = args.wanted == Switch::On;
            place.ledger()?.note_requests(wanted).await?;
            let what = if wanted { "requests are noted from now on" } else { "requests are no longer noted" };
            Ok(print_line(what)?)
        }
    }
}

fn list(args: &AuditList, place: &Place) -> Result<(), Failure> {
    let entries = place.existing_ledger()?.audit(args.before, args.last)?;
    if args.json {
        return Ok(print_json(&entries)?);
    }
    if entries.is_empty() {
        return Ok(print_line("nothing was noted")?);
    }
    let columns = [("ID", Align::Right), ("TIME", Align::Left), ("WHO", Align::Left), ("WHAT", Align::Left)];
    let columns = columns.into_iter().chain([("TO", Align::Left), ("DETAIL", Align::Left)]);
    let mut table = Table::new(&columns.collect::<Vec<_>>());
    let zone = place.time_zone();
    for AuditEntry { id, at, actor, action, subject, detail, .. } in entries {
        let at = Timestamp::from_second(at).unwrap_or_default().to_zoned(zone.clone());
        let time = at.strftime("%Y-%m-%d %H:%M:%S").to_string();
        table.row(vec![id.to_string(), time, actor, action, subject, detail.to_string()]);
    }
    Ok(table.print()?)
}

fn verify(args: &AuditVerify, place: &Place) -> Result<(), Failure> {
    let noted = args.noted.as_ref().map(|(id, hash)| (*id, hash.as_str()));
    let verified = match &args.file {
        Some(file) => verify_file(file, noted)?,
        None => place.existing_ledger()?.verify_audit(noted)?,
    };
    let AuditVerified { entries, head } = verified;
    let end = if entries == 0 { String::new() } else { format!("; the last is {entries}:{head}") };
    Ok(print_line(&format!("the audit log is whole: {entries} entries{end}"))?)
}

fn verify_file(path: &Path, noted: Option<(u64, &str)>) -> Result<AuditVerified, Failure> {
    let unreadable = |error: &io::Error| Failure::from_io("read", path, error);
    let mut reader = BufReader::new(File::open(path).map_err(|error| unreadable(&error))?);
    let (mut chain, mut is_there) = (Chain::default(), noted.is_none());
    let mut line = String::new();
    while io::Read::take(&mut reader, LINE_BYTES_MAX).read_line(&mut line).map_err(|error| unreadable(&error))? > 0 {
        let entry: AuditEntry = serde_json::from_str(&line).map_err(|error| {
            Failure::new(Exit::Failure, format!("{} is no export of an audit log: {error}", path.display()))
                .hint("make one with `allerac audit export`")
        })?;
        chain.push(&entry).map_err(tampered)?;
        is_there |= noted.is_some_and(|(id, hash)| id == entry.id && hash == entry.hash);
        line.clear();
    }
    match noted {
        Some((id, _)) if !is_there => Err(tampered(Tampered::Replaced(id))),
        _ => Ok(chain.verified()),
    }
}

fn tampered(how: Tampered) -> Failure {
    allerac_ledger::LedgerError::from(how).into()
}

fn export(place: &Place) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    place.existing_ledger()?.export_audit(|entry| {
        serde_json::to_writer(&mut out, entry).map_err(io::Error::from)?;
        Ok::<_, Failure>(out.write_all(b"\n")?)
    })?;
    Ok(out.flush()?)
}
