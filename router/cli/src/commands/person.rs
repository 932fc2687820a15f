//! All that the box has of one person: handed out, or deleted.

use std::io::{IsTerminal, stdin};
use std::path::Path;
use std::time::Duration;

use allerac_http::write_person;
use allerac_objects::Store;

use crate::args::Place;
use crate::args::care::{UsersErase, UsersExport};
use crate::failure::{Exit, Failure};
use crate::output::{create_private, print_line};
use crate::secret;

/// How long requests of an erased person may take to end; then it is to be tried again.
const ENDING_WAIT: Duration = Duration::from_secs(60);
/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) async fn export(args: &UsersExport, place: &Place) -> Result<(), Failure> {
    let ledger = place.existing_ledger()?;
    let person = ledger.person(&args.name)?;
    let store = store(&place.data_dir()?)?;
    let path = args.output.clone();
    let output = create_private(&path)?;
    let (name, target) = (person.name.clone(), path.clone());
    let written = tokio::task::spawn_blocking(move || -> Result<u64, Failure> {
        let mut output = output;
        let objects = write_person(&ledger, store.as_ref(), &person, &mut output)?;
        let file = output.into_inner().map_err(std::io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all()).map_err(|error| Failure::from_io("write", &target, &error))?;
        Ok(objects)
    });
    match written.await.map_err(|error| Failure::new(Exit::Failure, error.to_string()))? {
        Ok(objects) => {
            Ok(print_line(&format!("{}: what the books know of {name}, and {objects} objects", path.display()))?)
        }
        Err(failure) => {
            let _ = std::fs::remove_file(&path);
            Err(failure)
        }
    }
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
