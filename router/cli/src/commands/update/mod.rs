//! `allerac update`: a thin front of systemd-sysupdate for the box's image: what runs, what is newer, and the change to it.
//!
//! The system lies in two slots. An update goes to the one that does not run, and the boot loader counts how often it was
//! tried; only when `allerac health` is content, the new version stays (docs/updates.md).

mod source;
mod state;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::args::update::Update;
use crate::failure::{Exit, Failure};
use crate::output::{print_json, print_line};
use source::Source;
use state::State;

/// What a transfer is like, but for where it comes from; the image brings them.
const TEMPLATES: &str = "/usr/lib/allerac/sysupdate";
/// Stands in the templates for the source.
const PLACEHOLDER: &str = "@SOURCE@";
/// Of this boot.
const RUN: &str = "/run/allerac-update";
const SYSUPDATE: &str = "/usr/lib/systemd/systemd-sysupdate";
/// Why the last update did not come, in [`RUN`].
const LAST_ERROR: &str = "last-error";

pub(crate) async fn run(command: &Update) -> Result<(), Failure> {
    match command {
        Update::Status(args) => {
            let state = State::look(Path::new(RUN))?;
            if let Some(file) = &args.write {
                write(file, &state)?;
            }
            let printed = if args.json { print_json(&state) } else { print_line(&state.to_string()) };
            Ok(printed?)
        }
        Update::Check(args) => check(&source::of(args.source.as_deref())?).await,
        Update::Apply(args) => apply(&source::of(args.from.source.as_deref())?, args.restart).await,
        Update::Source(args) => set_source(&args.source),
    }
}

async fn check(source: &Source) -> Result<(), Failure> {
    let definitions = definitions(source)?;
    // Its output is the newer version, and nothing where there is none.
    let output = sysupdate(&definitions, "check-new").stderr(Stdio::inherit()).output().await;
    let output = output.map_err(|error| Failure::from_io("run", Path::new(SYSUPDATE), &error))?;
    let newer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let said = if newer.is_empty() { "nothing newer is there".to_owned() } else { format!("version {newer} is there") };
    Ok(print_line(&said)?)
}

async fn apply(source: &Source, restart: bool) -> Result<(), Failure> {
    let before = State::look(Path::new(RUN))?;
    if before.is_on_trial() {
        let message = format!("version {} is still being tried", before.version);
        return Err(
            Failure::new(Exit::Conflict, message).hint("update again when it has proven itself, in some minutes")
        );
    }
    let result = transfer(source).await;
    let reason = Path::new(RUN).join(LAST_ERROR);
    match &result {
        Ok(()) => remove(&reason)?,
        Err(failure) => {
            let text = failure.to_string();
            let text = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            fs::write(&reason, text).map_err(|error| Failure::from_io("write", &reason, &error))?;
        }
    }
    result?;
    let after = State::look(Path::new(RUN))?;
    let Some(version) = after.waiting().filter(|version| !before.has(version)) else {
        return Ok(print_line("nothing newer is there")?);
    };
    print_line(&format!("version {version} is installed; it starts with the next boot"))?;
    if restart {
        let status = Command::new("systemctl").arg("reboot").status().await;
        status.map_err(|error| Failure::new(Exit::Failure, format!("cannot restart the box: {error}")))?;
    }
    Ok(())
}

async fn transfer(source: &Source) -> Result<(), Failure> {
    let definitions = definitions(source)?;
    let status = sysupdate(&definitions, "update").status().await;
    let status = status.map_err(|error| Failure::from_io("run", Path::new(SYSUPDATE), &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(Exit::Failure, format!("the update from {source} did not come"))
        .hint("its signature or a checksum is wrong, or the source cannot be reached; the lines above tell"))
}

fn sysupdate(definitions: &Path, verb: &str) -> Command {
    let mut command = Command::new(SYSUPDATE);
    // An update that waits for the next boot is enough: a version that was given up is not fetched a second time.
    command.arg("--definitions").arg(definitions).args(["--verify=yes", verb]).stdin(Stdio::null());
    command
}

/// Writes the transfers for this source; where they lie.
fn definitions(source: &Source) -> Result<std::path::PathBuf, Failure> {
    let into = Path::new(RUN).join("definitions");
    fill(Path::new(TEMPLATES), &into, source).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(Exit::NotFound, "this system was not made from Allerac's image")
            .hint("update it in the way that it was installed"),
        _ => Failure::from_io("write", &into, &error),
    })?;
    Ok(into)
}

fn fill(templates: &Path, into: &Path, source: &Source) -> io::Result<()> {
    let templates: Vec<_> = fs::read_dir(templates)?.collect::<Result<_, _>>()?;
    fs::create_dir_all(into)?;
    for template in templates {
        let text = fs::read_to_string(template.path())?.replace(PLACEHOLDER, &source.escaped());
        fs::write(into.join(template.file_name()), text)?;
    }
    Ok(())
}

fn set_source(wanted: &str) -> Result<(), Failure> {
    let file = Path::new(source::FILE);
    if wanted == "none" {
        remove(file)?;
        return Ok(print_line("the box looks for updates on sticks alone")?);
    }
    let source: Source = wanted.parse()?;
    source.keep(file).map_err(|error| Failure::from_io("write", file, &error))?;
    Ok(print_line(&format!("the box looks for updates at {source}"))?)
}

/// Leaves the state where the server reads it, whole or not at all.
fn write(file: &Path, state: &State) -> Result<(), Failure> {
    let partial = file.with_extension("partial");
    let text = serde_json::to_vec(state).expect("a state is plain data");
    let written = fs::write(&partial, text)
        .and_then(|()| fs::set_permissions(&partial, fs::Permissions::from_mode(0o644)))
        .and_then(|()| fs::rename(&partial, file));
    written.map_err(|error| Failure::from_io("write", file, &error))
}

fn remove(file: &Path) -> Result<(), Failure> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::from_io("remove", file, &error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_with_the_source() {
        let folder = tempfile::tempdir().unwrap();
        let (templates, into) = (folder.path().join("templates"), folder.path().join("a/b"));
        fs::create_dir(&templates).unwrap();
        fs::write(templates.join("20-usr.transfer"), "[Source]\nPath=@SOURCE@\n").unwrap();
        fill(&templates, &into, &"https://example.org/a%20b".parse().unwrap()).unwrap();
        let filled = fs::read_to_string(into.join("20-usr.transfer")).unwrap();
        assert_eq!(filled, "[Source]\nPath=https://example.org/a%%20b\n");
        let missing = fill(&folder.path().join("none"), &into, &"/media".parse().unwrap()).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
