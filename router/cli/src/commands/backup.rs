//! Backups by hand; `serve` makes them by itself.

use std::io::{IsTerminal, stdin};
use std::path::{Path, PathBuf};

use allerac_backup::{Checked, Lock, Made, Manifest, Name, Target, Unlock, What, check, create, restore, unpack};
use allerac_ledger::Ledger;
use allerac_models::Store;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::models::models_failure;
use crate::args::Place;
use crate::args::care::{Backup, BackupCreate, BackupList, Opened, Words};
use crate::config::{ConfigFile, line};
use crate::failure::{Exit, Failure};
use crate::output::{Align, Table, bytes, grouped, print_json, print_line};
use crate::place;

pub(crate) async fn run(command: &Backup, place: &Place) -> Result<(), Failure> {
    match command {
        Backup::Create(args) => make(args, place).await,
        Backup::List(args) => list(args, place).await,
        Backup::Verify(args) => {
            let (manifest, checked) = opened(&args.opened, |file, unlock| {
                let work = temporary()?;
                let manifest = unpack(file, unlock, work.path())?;
                Ok((manifest, check(work.path())?))
            })
            .await?;
            tell(&args.opened, "the backup is whole", &manifest, &checked, place)
        }
        Backup::Restore(args) => {
            let data_dir = place.data_dir()?;
            place::prepare(&data_dir)?;
            if place.database()?.is_some() {
                return Err(Failure::new(
                    Exit::Usage,
                    "a backup is restored into files, and the ledger is on a server",
                )
                .hint("restore it without --database into an empty data directory, then: allerac ledger move"));
            }
            let (into, replace) = (data_dir.clone(), args.replace);
            let restored = opened(&args.opened, move |file, unlock| Ok(restore(file, unlock, &into, replace)?)).await?;
            let old = data_dir.join("replaced");
            let kept =
                if restored.replaced { format!("; what was there is in {}", old.display()) } else { String::new() };
            let done = format!("restored into {}{kept}", data_dir.display());
            tell(&args.opened, &done, &restored.manifest, &restored.checked, place)?;
            let installed = Store::open(&data_dir).list().map_err(|error| models_failure(&error))?;
            for model in &restored.manifest.models {
                if !args.opened.common.json && !installed.iter().any(|here| here.id == *model) {
                    print_line(&format!("the model {model} is not here: allerac models pull {model}"))?;
                }
            }
            Ok(())
        }
    }
}

async fn make(args: &BackupCreate, place: &Place) -> Result<(), Failure> {
    let config = ConfigFile::load(args.common.config.as_deref())?;
    let data_dir = place.data_dir()?;
    let ledger = place.existing_ledger()?;
    let lock = lock(args, &config)?;
    lock.check()?;
    let file = args.to.as_ref().filter(|path| !path.is_dir());
    let now = Timestamp::now();
    let (made, place_of_it) = if let Some(file) = file {
        if file.exists() {
            return Err(Failure::new(Exit::Conflict, format!("{} is there already", file.display()))
                .hint("name a file that is not there, or a folder"));
        }
        let source = Source { data_dir, ledger, name: config.label().to_string(), now };
        let (lock, to) = (lock, file.clone());
        (blocking(move || source.create(&lock, &to)).await?, file.display().to_string())
    } else {
        let target = target(args.to.as_deref(), &config)?;
        let source = Source { data_dir, ledger, name: config.label().to_string(), now };
        let (made, name) = keep_one(&target, source, lock).await?;
        (made, format!("{}/{name}", target.describe().trim_end_matches('/')))
    };
    if args.common.json {
        return Ok(print_json(&json!({"backup": place_of_it, "bytes": made.bytes, "manifest": made.manifest}))?);
    }
    Ok(print_line(&format!("{place_of_it}: {}", bytes(made.bytes)))?)
}

/// What a backup is made of, to be taken to another thread.
pub(crate) struct Source {
    pub(crate) data_dir: PathBuf,
    pub(crate) ledger: Ledger,
    pub(crate) name: String,
    pub(crate) now: Timestamp,
}

impl Source {
    fn create(&self, lock: &Lock, file: &Path) -> Result<Made, Failure> {
        let installed = Store::open(&self.data_dir).list().map_err(|error| models_failure(&error))?;
        let what = What {
            data_dir: &self.data_dir,
            ledger: &self.ledger,
            name: &self.name,
            models: installed.into_iter().map(|model| model.id).collect(),
            now: self.now,
        };
        Ok(create(&what, lock, file)?)
    }
}

/// Makes a backup in a place.
pub(crate) async fn keep_one(target: &Target, source: Source, lock: Lock) -> Result<(Made, Name), Failure> {
    let name = Name::new(&source.name, source.now);
    let staged = target.stage(&source.data_dir, &name)?;
    let file = staged.clone();
    let made = blocking(move || source.create(&lock, &file)).await?;
    target.keep(&staged, &name).await?;
    Ok((made, name))
}

async fn list(args: &BackupList, place: &Place) -> Result<(), Failure> {
    let config = ConfigFile::load(args.common.config.as_deref())?;
    let stored = target(args.from.as_deref(), &config)?.list().await?;
    if args.common.json {
        let rows = stored.iter().map(|one| {
            json!({"name": one.name.to_string(), "of": one.name.of, "made_at": one.name.made_at, "bytes": one.bytes})
        });
        return Ok(print_json(&rows.collect::<Vec<_>>())?);
    }
    if stored.is_empty() {
        return Ok(print_line("there are no backups; make one: allerac backup create")?);
    }
    let mut table =
        Table::new(&[("MADE", Align::Left), ("BOX", Align::Left), ("SIZE", Align::Right), ("NAME", Align::Left)]);
    let zone = place.time_zone();
    for one in stored {
        table.row(vec![moment(one.name.made_at, &zone), one.name.of.clone(), bytes(one.bytes), one.name.to_string()]);
    }
    Ok(table.print()?)
}

/// Does something with the backup that is meant.
async fn opened<T: Send + 'static>(
    args: &Opened,
    work: impl FnOnce(&Path, &Unlock) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let config = ConfigFile::load(args.common.config.as_deref())?;
    // Where it comes from elsewhere it is brought here first.
    let brought = temporary()?;
    let file = match &args.backup {
        Some(path) if path.exists() => path.clone(),
        named => {
            let elsewhere = || target(args.from.as_deref(), &config);
            let (target, name) = match named {
                Some(name) => {
                    let known = name.to_str().and_then(Name::parse);
                    let missing = || Failure::new(Exit::NotFound, format!("there is no file {}", name.display()));
                    (elsewhere()?, known.ok_or_else(missing)?)
                }
                None => {
                    let target = elsewhere()?;
                    let newest = target.list().await?.into_iter().map(|one| one.name).max_by_key(|name| name.made_at);
                    let none = || Failure::new(Exit::NotFound, format!("there is no backup in {}", target.describe()));
                    let newest = newest.ok_or_else(none)?;
                    (target, newest)
                }
            };
            target.bring(&name, brought.path()).await?
        }
    };
    let unlock = unlock(args, &config)?;
    blocking(move || work(&file, &unlock)).await
}

fn tell(args: &Opened, what: &str, manifest: &Manifest, checked: &Checked, place: &Place) -> Result<(), Failure> {
    if args.common.json {
        return Ok(print_json(&json!({"manifest": manifest, "checked": checked}))?);
    }
    let zone = place.time_zone();
    print_line(&format!(
        "{what}: of {}, made {} by {}",
        manifest.name,
        moment(manifest.made_at, &zone),
        manifest.made_by
    ))?;
    let Checked { users, requests, audit_entries, objects, unreadable_objects } = checked;
    let counts = [users, requests, audit_entries, objects].map(|count| grouped(*count));
    let [users, requests, audit_entries, objects] = counts;
    print_line(&format!(
        "{users} users, {requests} settled requests, {audit_entries} entries of the audit log, {objects} objects; the books add up"
    ))?;
    if *unreadable_objects > 0 {
        print_line(&format!("{unreadable_objects} objects do not open: they were damaged before the backup was made"))?;
    }
    Ok(())
}

fn moment(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
}

fn target(folder: Option<&Path>, config: &ConfigFile) -> Result<Target, Failure> {
    if let Some(folder) = folder {
        return Ok(Target::folder(folder.to_owned(), false));
    }
    config.backup.target(config.folder())?.ok_or_else(|| {
        Failure::new(Exit::Usage, "no place for backups is named")
            .hint("name a folder, or the configuration file whose [backup] names one: --config FILE")
    })
}

fn lock(args: &BackupCreate, config: &ConfigFile) -> Result<Lock, Failure> {
    if !args.recipient.is_empty() {
        return Ok(Lock::Recipients(args.recipient.clone()));
    }
    if let Some(passphrase) = given(&args.words)? {
        return Ok(Lock::Passphrase(passphrase));
    }
    if let Some(lock) = config.backup.lock(config.folder())? {
        return Ok(lock);
    }
    let passphrase = ask("Passphrase for the backup: ")?;
    if ask("The same again: ")? != passphrase {
        return Err(Failure::new(Exit::Usage, "the two are not the same").hint("type it again"));
    }
    Ok(Lock::Passphrase(passphrase))
}

fn unlock(args: &Opened, config: &ConfigFile) -> Result<Unlock, Failure> {
    if let Some(path) = &args.identity {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::from_io("read", path, &error))?;
        return Ok(Unlock::Identities(text));
    }
    if let Some(passphrase) = given(&args.words)? {
        return Ok(Unlock::Passphrase(passphrase));
    }
    if let Some(Lock::Passphrase(passphrase)) = config.backup.lock(config.folder())? {
        return Ok(Unlock::Passphrase(passphrase));
    }
    Ok(Unlock::Passphrase(ask("Passphrase of the backup: ")?))
}

fn given(words: &Words) -> Result<Option<String>, Failure> {
    match &words.passphrase_file {
        Some(path) => line(path).map(Some),
        None => Ok(words.passphrase.clone()),
    }
}

fn ask(prompt: &str) -> Result<String, Failure> {
    let nobody = || {
        Failure::new(Exit::Usage, "no passphrase is given").hint(
            "set ALLERAC_BACKUP_PASSPHRASE, or use --passphrase-file FILE; --recipient or --identity for age's keys",
        )
    };
    if !stdin().is_terminal() {
        return Err(nobody());
    }
    rpassword::prompt_password(prompt).map_err(|_| nobody())
}

/// A folder of this run's own, for nobody else to read.
fn temporary() -> Result<tempfile::TempDir, Failure> {
    tempfile::tempdir().map_err(|error| Failure::from_io("use the folder", &std::env::temp_dir(), &error))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::new(Exit::Failure, format!("the work broke off: {error}"))))
}
