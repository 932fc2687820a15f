//! Starts the servers that are measured, and ends them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::Args;
use crate::http::Target;

/// A model is loaded within this time.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// How often a starting server is asked whether it is ready.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Requests that decode together, on both sides.
pub(crate) const SLOTS: u32 = 8;
/// Tokens that fit the KV cache, on both sides.
const CELLS: u32 = 32_768;

/// A server under measurement; ended when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) target: Target,
    folder: Option<TempDir>,
    program: PathBuf,
    command: Command,
    /// The path that answers when it is ready.
    ready: &'static str,
}

impl Server {
    /// The product, with its own engine or with another program in its place.
    pub(crate) fn allerac(args: &Args, engine: Option<&Path>) -> anyhow::Result<Self> {
        Self::allerac_with(args, engine, "")
    }

    /// Likewise, with more lines in the section `[engine]` of its configuration.
    pub(crate) fn allerac_with(args: &Args, engine: Option<&Path>, more: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(&args.data).context("a folder for the data")?;
        let data = folder.path().join("data");
        share_models(&args.models, &data.join("models"))?;
        let config = folder.path().join("allerac.toml");
        let binary = match engine {
            Some(path) => format!("binary = {:?}\n", fs::canonicalize(path)?),
            None => String::new(),
        };
        fs::write(
            &config,
            format!(
                "[mdns]\nenabled = false\n[engine]\n{binary}threads = {}\nsequences = {SLOTS}\ncells = {CELLS}\n{more}",
                args.threads
            ),
        )?;
        let mut command = Command::new(&args.allerac);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data).arg("--config").arg(&config);
        command.env("RUST_LOG", "warn").stderr(Stdio::null());
        let (child, address) = start(&mut command)?;
        let target = Target { address, key: None };
        let (folder, program) = (Some(folder), args.allerac.clone());
        let mut server = Self { child, target, folder, program, command, ready: "/readyz" };
        server.wait()?;
        let made = server.cli(&["keys", "create", "--user", "bench", "--plan", "unlimited"])?;
        server.target.key = Some(made.trim().to_owned());
        Ok(server)
    }

    /// llama.cpp's own server, from the package `xllamacpp`.
    pub(crate) fn peer(args: &Args) -> anyhow::Result<Self> {
        let mut command = Command::new(&args.python);
        command.arg(&args.peer).arg(model_file(&args.models)?);
        command.args([args.threads, CELLS, SLOTS].map(|number| number.to_string()));
        // It lives until its standard input closes.
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let (child, address) = start(&mut command)?;
        let (target, program) = (Target { address, key: None }, args.python.clone());
        let server = Self { child, target, folder: None, program, command, ready: "/health" };
        server.wait()?;
        Ok(server)
    }

    /// Ends the server as its service manager would, and starts it again on the same data.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        let terminated = Command::new("kill").arg(self.child.id().to_string()).status()?;
        ensure!(terminated.success(), "the server has ended by itself");
        self.child.wait()?;
        (self.child, self.target.address) = start(&mut self.command)?;
        self.wait()
    }

    fn wait(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIME_MAX;
        let request = self.target.get(self.ready);
        while Instant::now() < deadline {
            if matches!(self.target.connect()?.exchange(&request), Ok((200, _))) {
                return Ok(());
            }
            pause(POLL_INTERVAL);
        }
        bail!("{} is not ready in time", self.program.display())
    }

    /// What the command line prints, for this server's data.
    pub(crate) fn cli(&self, parts: &[&str]) -> anyhow::Result<String> {
        let folder = self.folder.as_ref().context("only the product has a command line")?;
        let output =
            Command::new(&self.program).args(parts).arg("--data-dir").arg(folder.path().join("data")).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Memory of the process itself, without its children, in bytes.
    pub(crate) fn memory_bytes(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024)
    }

    /// Time that the process itself has computed.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        cpu_time(self.child.id())
    }

    /// Likewise with the processes that it started.
    pub(crate) fn cpu_time_of_all(&self) -> anyhow::Result<Duration> {
        let mut total = self.cpu_time()?;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            for child in fs::read_to_string(task?.path().join("children"))?.split_whitespace() {
                total += cpu_time(child.parse()?)?;
            }
        }
        Ok(total)
    }

    /// Where the product keeps its data.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(TempDir::path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
        let nanoseconds: u64 = schedstat.split(' ').next().unwrap_or_default().parse()?;
        total += Duration::from_nanos(nanoseconds);
    }
    Ok(total)
}

/// Starts a program and reads the address that it prints.
fn start(command: &mut Command) -> anyhow::Result<(Child, SocketAddr)> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut lines = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
    let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let (_, rest) = line.split_once("http://")?;
        rest.split(|character: char| !character.is_ascii_digit() && !".:".contains(character)).next()?.parse().ok()
    });
    // The rest of its output must go somewhere, or it would block.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    let address = address.with_context(|| format!("{command:?} printed no address"))?;
    Ok((child, address))
}

/// The one model file of a store.
fn model_file(models: &Path) -> anyhow::Result<PathBuf> {
    let blobs = models.join("blobs");
    let mut files = fs::read_dir(&blobs).with_context(|| format!("{}; run: make test-model", blobs.display()))?;
    Ok(files.next().context("no model is there; run: make test-model")??.path())
}

/// Hard links where the file system lets us.
fn share_models(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("{}; run: make test-model", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            share_models(&entry.path(), &target)?;
        } else if fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "a measurement paces itself by the clock")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
