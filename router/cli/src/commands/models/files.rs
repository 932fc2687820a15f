//! The files of models: taken from this machine, swept, and looked through for damage.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use allerac_ledger::{LedgerError, ServeLock};
use allerac_models::{Import, Mended, ModelsError, Scrubbed, Store};
use tokio::process::Command;

use super::{installed, models_failure, store};
use crate::args::{ModelsImport, ModelsScrub, Place};
use crate::config::ConfigFile;
use crate::failure::{Exit, Failure};
use crate::output::{bytes, print_line};
use crate::{place, setup};

/// What a model may take to be loaded from a slow stick.
const CHECK_WAIT: Duration = Duration::from_secs(600);

/// What an adapter is called while it is looked at.
const CHECKED: &str = "1";

/// Installs a file of this machine, after an engine has looked at it behind its confinement.
pub(super) async fn import(args: &ModelsImport, place: &Place) -> Result<(), Failure> {
    let config = ConfigFile::load(args.config.as_deref())?;
    place::prepare(&place.data_dir()?)?;
    let file = std::path::absolute(&args.file).map_err(|error| Failure::from_io("use", &args.file, &error))?;
    let store = store(place)?;
    // What its header says is looked at first: nothing is loaded that is no model.
    let import = store.look(&file, args.base.as_deref()).map_err(|error| look_failure(&error))?;
    let id = args.name.clone().unwrap_or_else(|| import.usual_name());
    let said = check(&setup::engine_binary(&config)?, &import).await?;
    let model = store.import(&import, &id, args.licence.as_deref()).await.map_err(|error| models_failure(&error))?;
    let what = model.base.as_ref().map_or(said, |base| format!("an adapter of {base}"));
    print_line(&format!("{} is installed ({}); {what}", model.id, bytes(model.size_bytes)))?;
    Ok(())
}

fn look_failure(error: &ModelsError) -> Failure {
    let failure = models_failure(error);
    match error {
        ModelsError::NotModel { .. } => failure.hint("a model is a GGUF file; fetch it again where it came from"),
        _ => failure,
    }
}

/// What an engine says of a model, or of an adapter with its model.
async fn check(binary: &Path, import: &Import) -> Result<String, Failure> {
    let mut ask = Command::new(binary);
    ask.arg("--check").stdin(Stdio::null()).kill_on_drop(true);
    let file = &import.files[0];
    let parts: Vec<&Path> = match &import.base {
        None => {
            ask.arg("--model").arg(file);
            import.files.iter().map(PathBuf::as_path).collect()
        }
        Some(base) => {
            ask.arg("--model").arg(&base.load_path).arg("--adapter").arg(named(CHECKED, file));
            base.paths()
        }
    };
    for part in &parts[1..] {
        ask.arg("--part").arg(named("part", part));
    }
    let broken = |reason: String| Failure::new(Exit::Failure, format!("{} cannot be used: {reason}", file.display()));
    match tokio::time::timeout(CHECK_WAIT, ask.output()).await {
        Err(_) => Err(broken(format!("it was not loaded within {} s", CHECK_WAIT.as_secs()))),
        Ok(Err(error)) => Err(Failure::from_io("start", binary, &error)),
        Ok(Ok(output)) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout);
            let line = said.lines().find_map(|line| line.strip_prefix("checked: "));
            Ok(line.unwrap_or("checked").to_owned())
        }
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or("its engine ended without a word");
            Err(broken(last.trim_start_matches(|character: char| character.is_whitespace()).to_owned()))
        }
    }
}

/// `NAME=PATH`, of a path that may be anything.
fn named(name: &str, path: &Path) -> OsString {
    let mut named = OsString::from(format!("{name}="));
    named.push(path);
    named
}

/// Removes what belongs to no model.
pub(super) fn collect(place: &Place) -> Result<(), Failure> {
    let (store, data_dir) = (store(place)?, place.data_dir()?);
    let swept = store.collect().map_err(|error| models_failure(&error))?;
    print_line(&format!("removed {} files of unfinished downloads ({})", swept.files, bytes(swept.bytes)))?;
    if !data_dir.join("models").exists() {
        return Ok(());
    }
    match ServeLock::acquire(&data_dir) {
        Ok(_lock) => match store.sweep(&HashSet::new()).map_err(|error| models_failure(&error))? {
            true => Ok(print_line("files of models that were removed are gone")?),
            false => Ok(print_line(
                "a model is being fetched; files of removed models go with the next one that is removed",
            )?),
        },
        Err(LedgerError::InUse(_)) => {
            Ok(print_line("the server is running; it removes files of models itself when nobody uses them")?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads all files, and mends those that are damaged.
pub(super) async fn scrub(args: &ModelsScrub, place: &Place) -> Result<(), Failure> {
    let downloads = ConfigFile::load(args.config.as_deref())?.downloads(place.time_zone())?;
    let store = Store::open(&place.data_dir()?).with(downloads);
    let models = installed(place)?;
    if let Some(missing) = args.id.as_ref().filter(|id| models.iter().all(|model| model.id != **id)) {
        return Err(Failure::new(Exit::NotFound, format!("the model {missing} is not installed"))
            .hint("see `allerac models list --installed`"));
    }
    let mut damaged = 0;
    for model in models.iter().filter(|model| args.id.as_ref().is_none_or(|id| *id == model.id)) {
        for scrubbed in store.scrub(model, !args.dry_run).await.map_err(|error| models_failure(&error))? {
            print_line(&told(&scrubbed))?;
            damaged += usize::from(matches!(scrubbed.mended, Mended::Not(_)));
        }
    }
    if damaged == 0 {
        return Ok(());
    }
    Err(Failure::new(Exit::Failure, format!("{damaged} files are damaged and were not mended")))
}

fn told(scrubbed: &Scrubbed) -> String {
    let what =
        if scrubbed.file == scrubbed.id { scrubbed.id.clone() } else { format!("{} {}", scrubbed.id, scrubbed.file) };
    let damage = match &scrubbed.damaged {
        None => "damaged, and where is not known".to_owned(),
        Some(blocks) => format!("{} blocks of 1 MiB are damaged", blocks.len()),
    };
    match &scrubbed.mended {
        Mended::Whole => format!("{what}: whole ({})", bytes(scrubbed.size_bytes)),
        Mended::Fetched(came) => format!("{what}: {damage}; mended, {} were fetched", bytes(*came)),
        Mended::Not(why) => format!("{what}: {damage}; not mended: {why}"),
    }
}
