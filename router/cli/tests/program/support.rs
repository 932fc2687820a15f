//! Runs the real binary.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Far beyond what anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A box with a data directory of its own.
pub(crate) struct Home {
    pub(crate) folder: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// `allerac` with these arguments and this box's data.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_allerac"));
        command
            .args(arguments)
            .env("ALLERAC_DATA_DIR", self.data_dir())
            .env_remove("RUST_LOG")
            .env("ALLERAC_CHECK_BOOKS", "1")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::new(&self.command(arguments).output().unwrap())
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// Writes a configuration file.
    pub(crate) fn config(&self, text: &str) -> String {
        let path = self.folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A file that can be executed and is no engine: enough where no model is loaded.
    pub(crate) fn engine_stand_in(&self) -> String {
        self.config("[engine]\nbinary = \"/bin/true\"\n")
    }

    /// Installs the test model without copying it.
    pub(crate) fn install_test_model(&self) {
        const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let cached = root.join(format!(".cache/test-data/models/blobs/sha256-{SHA256}"));
        let model = std::env::var_os("ALLERAC_TEST_MODEL").map_or(cached, PathBuf::from);
        assert!(model.exists(), "the test model is missing; fetch it: make test-model");
        let blobs = self.data_dir().join("models/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::os::unix::fs::symlink(model, blobs.join(format!("sha256-{SHA256}"))).unwrap();
        let pulled = self.run(&["models", "pull", "smollm2-135m-instruct"]);
        assert_eq!(pulled.code, 0, "{}", pulled.stderr);
    }

    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        self.serve_with(arguments, |_| {})
    }

    /// Starts the server on a free port and waits until it says where.
    pub(crate) fn serve_with(&self, arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Server {
        let mut command = self.command(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat());
        prepare(&mut command);
        Server::start(command)
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn new(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code().unwrap(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// It failed with this code, printed nothing on stdout, and said what happened and what to do.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, error: &str, hint: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let line = |start: &str| self.stderr.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        assert!(line("error: ").contains(error), "{self:?}");
        assert!(line("hint: ").contains(hint), "{self:?}");
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
    /// What it printed so far.
    pub(crate) banner: String,
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        // It ends with an empty line.
        while !banner.ends_with("\n\n") || banner.matches("\n\n").count() < 3 {
            if stdout.read_line(&mut banner).unwrap() == 0 {
                let mut stderr = String::new();
                child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
                panic!("the server did not start: {banner}{stderr}");
            }
        }
        let address = banner.lines().next().unwrap().split("http://").nth(1).unwrap().parse().unwrap();
        Self { child, stdout, address, banner }
    }

    /// One request on a connection of its own: the status and the body.
    pub(crate) fn get(&self, path: &str, key: Option<&str>) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let authorization = key.map_or(String::new(), |key| format!("Authorization: Bearer {key}\r\n"));
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{authorization}Connection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, which a signal began.
    pub(crate) fn ended(mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), start.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
