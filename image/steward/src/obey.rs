//! Carrying out orders, as root. Everything is done by the system's own programs; nothing here decides who may ask.

use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use allerac_steward::{Answered, Cause, Facts, LOG_BYTES_MAX, Order, Trouble, entries};
use anyhow::{Context, bail};
use rustix::fs::{StatVfsMountFlags, statvfs};

/// The longest order, in bytes.
const ORDER_BYTES_MAX: u64 = 64;
/// The server's unit.
const SERVER: &str = "allerac.service";
/// How much of the log is handed out, in lines; what is longer than [`LOG_BYTES_MAX`] loses its beginning.
const LOG_LINES_MAX: &str = "20000";
/// What the server said last, in lines.
const SAID_LINES: &str = "20";
/// The slowest of the programs asks a server somewhere, in seconds; whoever asked waits a little longer.
const RUN_SECONDS_MAX: &str = "60";
/// Of what a program says when it fails.
const ERROR_CHARS_MAX: usize = 400;
/// Where `allerac update source` keeps the address of updates.
const UPDATE_SOURCE: &str = "var/lib/allerac-update/source";
/// What the box remembers.
const STATE: &str = "var/lib/allerac";

/// Reads an order from standard input, carries it out on the system below `root`, and answers on standard output.
///
/// # Errors
/// When nobody waits for the answer any more, or what was asked is no order.
pub(crate) fn obey(root: &Path) -> anyhow::Result<()> {
    let mut line = String::new();
    io::stdin().lock().take(ORDER_BYTES_MAX).read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line).context("that is no order")?;
    let done = carry_out(order, root);
    let (refused, body) = match done {
        Ok(body) => (None, body),
        Err(error) => (Some(format!("{error:#}")), Vec::new()),
    };
    eprintln!("{order:?}: {}", refused.as_deref().unwrap_or("done"));
    let mut output = io::stdout().lock();
    serde_json::to_writer(&mut output, &Answered { refused })?;
    output.write_all(b"\n")?;
    output.write_all(&body)?;
    Ok(output.flush()?)
}

fn carry_out(order: Order, root: &Path) -> anyhow::Result<Vec<u8>> {
    match order {
        Order::Logs => {
            let whole = run("journalctl", &["--quiet", "--no-pager", "--output=short-iso", "--lines", LOG_LINES_MAX])?;
            Ok(end(whole))
        }
        Order::Look => Ok(serde_json::to_vec(&look(root)?)?),
        Order::Start => {
            run("systemctl", &["reset-failed", SERVER])?;
            run("systemctl", &["--no-block", "start", SERVER])
        }
        Order::Restart => restart(),
        Order::Check => run("allerac", &["update", "check"]),
        Order::Update => {
            if !root.join(UPDATE_SOURCE).exists() {
                bail!(
                    "the box was not told where updates come from; plug in a stick labelled ALLERAC with the update, or \
                     with a file `update-source` that has the address"
                );
            }
            run("systemctl", &["--no-block", "start", "allerac-update.service"])
        }
        Order::Back => back(root),
        Order::FactoryReset => factory_reset(root),
    }
}

fn restart() -> anyhow::Result<Vec<u8>> {
    run("systemctl", &["--no-block", "reboot"])
}

fn back(root: &Path) -> anyhow::Result<Vec<u8>> {
    let version = version(root)?;
    let entries = entries::all(root);
    let running = entries.iter().find(|entry| entry.version == version);
    let running = running.with_context(|| format!("the boot partition has no version {version}"))?;
    if entries::before(&version, &entries).is_none() {
        bail!("there is no version to go back to; there is one after the first update");
    }
    running.give_up().context("the boot partition cannot be written")?;
    restart().inspect_err(|_| {
        // The box stays at this version, and may boot it again.
        if let Err(error) = running.keep() {
            eprintln!("version {version} stays given up: {error}");
        }
    })
}

/// The boot menu's own entry does it, once: it erases before anything is mounted.
fn factory_reset(root: &Path) -> anyhow::Result<Vec<u8>> {
    // The boot loader names entries in small letters and without their tries.
    let entry = format!("allerac_{}.efi@factory-reset", version(root)?).to_lowercase();
    run("bootctl", &["set-oneshot", &entry])?;
    restart()
}

fn version(root: &Path) -> anyhow::Result<String> {
    allerac_steward::running(root).context("this system was not made from Allerac's image")
}

fn look(root: &Path) -> anyhow::Result<Trouble> {
    let shown = run("systemctl", &["show", "--property=ActiveState,ExecMainCode,ExecMainStatus", SERVER])?;
    let shown = String::from_utf8_lossy(&shown);
    let property = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let said = run("journalctl", &["--quiet", "--no-pager", "--output=cat", "--unit", SERVER, "--lines", SAID_LINES])?;
    let disk = statvfs(root.join(STATE)).ok();
    // By SIGCHLD's codes, of which the first is an end of its own accord.
    let has_exited = property("ExecMainCode") == Some("1");
    let facts = Facts {
        is_running: property("ActiveState") == Some("active"),
        exit: property("ExecMainStatus").filter(|_| has_exited).and_then(|status| status.parse().ok()),
        free_bytes: disk.as_ref().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
        is_read_only: disk.is_some_and(|disk| disk.f_flag.contains(StatVfsMountFlags::RDONLY)),
        said: String::from_utf8_lossy(&said).lines().map(str::to_owned).collect(),
    };
    let version = allerac_steward::running(root).unwrap_or_default();
    let previous = entries::before(&version, &entries::all(root)).map(|entry| entry.version.clone());
    Ok(Trouble { cause: Cause::of(&facts), said: facts.said, version, previous })
}

/// The end of a text that is too long, from the beginning of a line.
fn end(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(over) = text.len().checked_sub(LOG_BYTES_MAX).filter(|over| *over > 0) {
        let line = text[over..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |place| over + place + 1);
        text.drain(..line);
    }
    text
}

/// Runs a program for a bounded time; its output, or what it said when it failed.
fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("timeout")
        .args(["--kill-after=5", RUN_SECONDS_MAX, program])
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String = said.trim().trim_start_matches("error: ").chars().take(ERROR_CHARS_MAX).collect();
        bail!("{}", if said.is_empty() { format!("{program} failed ({})", output.status) } else { said });
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_loses_whole_lines_at_its_beginning() {
        let short = b"one\ntwo\n".to_vec();
        assert_eq!(end(short.clone()), short);
        let mut long = b"lost\n".to_vec();
        long.extend(std::iter::repeat_n(b'x', LOG_BYTES_MAX - 2));
        long.extend(b"\nlast\n");
        assert_eq!(end(long), b"last\n");
    }
}
