//! Asking the steward.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::{Answered, LOG_BYTES_MAX, Order};

/// How long the steward may be silent: looking for updates waits for a server somewhere, and is given up before this.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// The longest first line, in bytes: a sentence or two.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no steward here.
    #[error("this server does not run on a box of Allerac's image; whoever looks after its machine does that there")]
    NotABox,
    /// The steward says why.
    #[error("{0}")]
    Refused(String),
    /// It did not answer, or not in its language.
    #[error("the system of the box does not answer; try again, or switch the box off and on")]
    Broken(#[source] io::Error),
}

/// Has an order carried out; what was asked for. It waits, so it is nothing for an async thread.
///
/// # Errors
/// [`AskError`].
pub fn ask(socket: &Path, order: Order) -> Result<Vec<u8>, AskError> {
    let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => AskError::NotABox,
        _ => AskError::Broken(error),
    })?;
    let (refused, body) = talk(stream, order).map_err(AskError::Broken)?;
    refused.map_or(Ok(body), |reason| Err(AskError::Refused(reason)))
}

fn talk(mut stream: UnixStream, order: Order) -> io::Result<(Option<String>, Vec<u8>)> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let mut line = serde_json::to_vec(&order)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reader = BufReader::new(stream);
    let mut first = Vec::new();
    reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut first)?;
    let Answered { refused } = serde_json::from_slice(&first)?;
    let mut body = Vec::new();
    reader.take(LOG_BYTES_MAX as u64).read_to_end(&mut body)?;
    Ok((refused, body))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    fn answered(answer: &'static [u8]) -> (Result<Vec<u8>, AskError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let steward = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            stream.write_all(answer).unwrap();
            line
        });
        (ask(&socket, Order::FactoryReset), steward.join().unwrap())
    }

    #[test]
    fn what_is_asked_for_follows_the_first_line() {
        let (answer, asked) = answered(b"{\"refused\":null}\nline one\nline two\n");
        assert_eq!(answer.unwrap(), b"line one\nline two\n");
        assert_eq!(asked, "\"factory_reset\"\n");
    }

    #[test]
    fn refusals_are_told_and_what_is_no_steward_is_known() {
        let (refused, _) = answered(b"{\"refused\":\"no version before this one is here\"}\n");
        assert_eq!(refused.unwrap_err().to_string(), "no version before this one is here");
        for broken in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n"] {
            assert!(matches!(answered(broken).0, Err(AskError::Broken(_))));
        }
        let nowhere = ask(Path::new("/nowhere/socket"), Order::Logs).unwrap_err();
        assert!(matches!(nowhere, AskError::NotABox), "{nowhere}");
    }
}
