//! The system's own programs, which do what they do best: each waited for within a limit, its failure told with its words.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Debian keeps some of them out of the path of who is not root.
const PATH: &str = "/usr/bin:/usr/sbin:/bin:/sbin";
/// The slowest of them formats a large disk.
const RUN_SECONDS_MAX: u32 = 15 * 60;
/// A program that does not end when it is asked to.
const KILL_AFTER_SECONDS: u32 = 10;
/// How timeout(1) says that the time was up.
const TIMED_OUT: i32 = 124;
/// Of what a program says when it fails.
const ERROR_CHARS_MAX: usize = 400;

/// Runs a program; its output.
///
/// # Errors
/// It is not there, failed, or did not end.
pub(crate) fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    run_with_input(program, arguments, "")
}

/// The same, with this text as its input, which must be shorter than a pipe holds (64 KiB).
///
/// # Errors
/// As [`run`].
pub(crate) fn run_with_input(program: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut child = Command::new("timeout")
        .arg(format!("--kill-after={KILL_AFTER_SECONDS}"))
        .arg(RUN_SECONDS_MAX.to_string())
        .arg(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .env("PATH", PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // A program that does not read its input has failed already, and says why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {program}"))?;
    if output.status.code() == Some(TIMED_OUT) {
        bail!("{program} did not end within {} minutes", RUN_SECONDS_MAX / 60);
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String = said.trim().chars().take(ERROR_CHARS_MAX).collect();
        bail!("{program} {} failed ({}): {said}", arguments.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_failures_are_told() {
        assert_eq!(run_with_input("cat", &[], "label: gpt\n").unwrap(), "label: gpt\n");
        let failed = run("sh", &["-c", "echo no such disk >&2; exit 3"]).unwrap_err().to_string();
        assert!(failed.ends_with("failed (exit status: 3): no such disk"), "{failed}");
        let missing = run("no-such-program", &[]).unwrap_err().to_string();
        assert!(missing.contains("no-such-program") && missing.contains("No such file"), "{missing}");
    }
}
