//! A client that costs little: one kept connection, blocking, HTTP/1.1.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// Nothing that is measured takes this long.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// A server and how to be let in.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) key: Option<String>,
}

/// A kept connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    reader: BufReader<TcpStream>,
    body: Vec<u8>,
    line: String,
}

impl Target {
    /// The bytes of a request that may be sent again and again.
    pub(crate) fn post(&self, path: &str, body: &str) -> Vec<u8> {
        let key = self.key.as_ref().map_or_else(String::new, |key| format!("authorization: Bearer {key}\r\n"));
        format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{key}content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .into_bytes()
    }

    /// Likewise.
    pub(crate) fn get(&self, path: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address).into_bytes()
    }

    pub(crate) fn connect(&self) -> anyhow::Result<Connection> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(WAIT_MAX))?;
        let reader = BufReader::new(socket.try_clone()?);
        Ok(Connection { socket, reader, body: Vec::new(), line: String::new() })
    }
}

impl Connection {
    /// Sends a request and reads its whole answer: the status and the body.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        self.socket.write_all(request)?;
        let (status, length) = self.head()?;
        self.body.clear();
        match length {
            Some(length) => {
                self.body.resize(length, 0);
                self.reader.read_exact(&mut self.body)?;
            }
            None => while self.chunk()? {},
        }
        Ok((status, &self.body))
    }

    /// Sends a request and hands over each event of the answered stream with the moment it came.
    pub(crate) fn stream(&mut self, request: &[u8], mut event: impl FnMut(Instant, &str)) -> anyhow::Result<()> {
        self.socket.write_all(request)?;
        let (status, length) = self.head()?;
        ensure!(status == 200 && length.is_none(), "no stream came, but status {status}");
        self.body.clear();
        let mut rest = Vec::new();
        loop {
            let more = self.chunk()?;
            let now = Instant::now();
            rest.append(&mut self.body);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if let Some(data) = std::str::from_utf8(&line)?.trim_end().strip_prefix("data: ") {
                    event(now, data);
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Status and length; no length means chunks.
    fn head(&mut self) -> anyhow::Result<(u16, Option<usize>)> {
        self.line()?;
        let status = self.line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("no status line: {:?}", self.line))?;
        let mut length = None;
        loop {
            self.line()?;
            if self.line.is_empty() {
                return Ok((status, length));
            }
            let (name, value) = self.line.split_once(':').context("a header has no colon")?;
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse()?);
            }
        }
    }

    /// Appends the next chunk to the body; false after the last.
    fn chunk(&mut self) -> anyhow::Result<bool> {
        self.line()?;
        let size = self.line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).with_context(|| format!("no chunk size: {:?}", self.line))?;
        let start = self.body.len();
        self.body.resize(start + size, 0);
        self.reader.read_exact(&mut self.body[start..])?;
        self.line()?;
        Ok(size > 0)
    }

    /// Reads a line without its end.
    fn line(&mut self) -> anyhow::Result<()> {
        self.line.clear();
        if self.reader.read_line(&mut self.line)? == 0 {
            bail!("the server closed the connection");
        }
        self.line.truncate(self.line.trim_end().len());
        Ok(())
    }
}
