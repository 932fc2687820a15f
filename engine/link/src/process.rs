//! One engine process and the tasks that move its frames.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc;

use crate::frame;
use crate::gpu::Offload;
use crate::handle::EngineConfig;
use crate::protocol::{FromEngine, ToEngine};

/// Messages from the engine that may wait for the supervisor, which never waits itself.
const MESSAGES_WAITING_MAX: usize = 1024;
/// Frames that may wait for the socket. An engine that does not read this many is stuck.
const FRAMES_WAITING_MAX: usize = 8192;
/// Bytes that are read from an engine at once: hundreds of frames of tokens.
const READ_BYTES: usize = 64 * 1024;

/// Between the end of its socket and its own a process has nothing to do.
const EXIT_TIME_MAX: Duration = Duration::from_secs(1);

/// A running engine process. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    outgoing: mpsc::Sender<ToEngine>,
    incoming: mpsc::Receiver<FromEngine>,
}

impl Process {
    pub(crate) fn spawn(config: &EngineConfig) -> std::io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (read_half, write_half) = UnixStream::from_std(ours)?.into_split();
        let offload = config.offload.as_ref();
        if let Some(offload) = offload {
            std::fs::create_dir_all(&offload.shader_cache)?;
        }
        let mut child = Command::new(&config.binary)
            .envs(offload.into_iter().flat_map(Offload::environment))
            .args(offload.into_iter().flat_map(Offload::to_args))
            .arg("--model")
            .arg(&config.model_path)
            .args(config.encodes.then_some("--encode"))
            .args(config.parts.iter().flat_map(|(name, path)| [OsString::from("--part"), part(name, path)]))
            .args(config.draft_path.iter().flat_map(|path| [OsStr::new("--draft-model"), path.as_os_str()]))
            .args(
                config
                    .adapters
                    .iter()
                    .flat_map(|(id, path)| [OsString::from("--adapter"), part(&id.0.to_string(), path)]),
            )
            .args(config.settings.to_args())
            .args(config.kv_file.iter().flat_map(|file| [OsStr::new("--kv-file"), file.path.as_os_str()]))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(forward_log(config.name.clone(), stderr));
        }
        let (outgoing, frames) = mpsc::channel(FRAMES_WAITING_MAX);
        let (messages, incoming) = mpsc::channel(MESSAGES_WAITING_MAX);
        tokio::spawn(write(write_half, frames));
        tokio::spawn(read(read_half, messages, config.name.clone()));
        let process = Self { child, outgoing, incoming };
        process.send(ToEngine::Begin(config.begin()));
        Ok(process)
    }

    /// Its number, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The next message; `None` when the process closed its socket or sent nonsense.
    pub(crate) async fn receive(&mut self) -> Option<FromEngine> {
        self.incoming.recv().await
    }

    /// Hands a message to the process; `false` when it is gone or does not read.
    pub(crate) fn send(&self, message: ToEngine) -> bool {
        self.outgoing.try_send(message).is_ok()
    }

    /// Tells the process to end, and ends it when it has not in time.
    pub(crate) async fn stop(mut self, time_max: Duration) -> Option<ExitStatus> {
        self.send(ToEngine::Shutdown);
        // What it still says is read, or it could not go on.
        let ended = async { while self.incoming.recv().await.is_some() {} };
        let _ = tokio::time::timeout(time_max, ended).await;
        let waited = tokio::time::timeout(EXIT_TIME_MAX, self.child.wait()).await;
        match waited {
            Ok(exit) => exit.ok(),
            Err(_) => self.kill().await,
        }
    }

    /// Ends the process, whatever it is doing, and leaves no zombie.
    pub(crate) async fn kill(mut self) -> Option<ExitStatus> {
        let _ = self.child.start_kill();
        self.child.wait().await.ok()
    }
}

/// `NAME=PATH`, of a path that may be anything.
fn part(name: &str, path: &Path) -> OsString {
    let mut part = OsString::from(format!("{name}="));
    part.push(path);
    part
}

async fn read(socket: OwnedReadHalf, messages: mpsc::Sender<FromEngine>, name: String) {
    // Frames are short and come several together: they cost one system call, not two or three each.
    let mut socket = BufReader::with_capacity(READ_BYTES, socket);
    loop {
        match frame::read_async(&mut socket).await {
            Ok(Some(message)) => {
                if messages.send(message).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::error!(model = name, "the engine's socket: {error}");
                return;
            }
        }
    }
}

async fn write(mut socket: OwnedWriteHalf, mut frames: mpsc::Receiver<ToEngine>) {
    let mut buffer = Vec::new();
    while let Some(message) = frames.recv().await {
        buffer.clear();
        let mut next = Some(message);
        while let Some(message) = next {
            if let Err(error) = frame::encode(&message, &mut buffer) {
                tracing::error!("a message is not sent: {error}");
            }
            next = frames.try_recv().ok();
        }
        if socket.write_all(&buffer).await.is_err() {
            return;
        }
    }
}

/// The engine's log becomes ours, line by line.
async fn forward_log(name: String, stderr: ChildStderr) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::info!(target: "allerac_engine", model = name, "{line}");
    }
}
