//! A server that speaks as model hubs do: a description of each revision, files behind a redirect to another host.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sha1::{Digest, Sha1};
use sha2::Sha256;

pub(crate) const COMMIT: &str = "1111111111111111111111111111111111111111";

/// How one part of a file is sent.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The connection closes after so many bytes.
    Cut(usize),
    /// A status, with more headers, and nothing else.
    Status(u16, &'static str),
    /// All of it, whatever was asked for.
    IgnoreRange,
    /// The byte at this place is another one.
    Flip(usize),
    /// The file has become longer.
    Longer,
    /// In pieces, with pauses.
    Slow,
}

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) range: Option<(usize, usize)>,
    pub(crate) token: Option<String>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    main: String,
    faults: VecDeque<Fault>,
    keep: bool,
    gated: bool,
    spoilt: Option<String>,
    log: Vec<Request>,
}

pub(crate) struct HubServer {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
    digests: BTreeMap<String, String>,
}

pub(crate) fn sha256(content: &[u8]) -> String {
    format!("{:x}", Sha256::digest(content))
}

/// A GGUF file of one tensor of 256 x 4 numbers, so long in all.
pub(crate) fn gguf(size: usize) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend([text("general.architecture"), 8u32.to_le_bytes().to_vec(), text("llama")].concat());
    bytes.extend(text("blk.0.attn_q.weight"));
    bytes.extend(2u32.to_le_bytes());
    bytes.extend([256u64.to_le_bytes(), 4u64.to_le_bytes()].concat());
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    let head = bytes.len();
    bytes.extend((head..size).map(|place| u8::try_from(place / 7 % 251).unwrap()));
    bytes
}

impl HubServer {
    pub(crate) fn start(files: &[(&str, Vec<u8>)], faults: Vec<Fault>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(name, content)| ((*name).to_owned(), content.clone())).collect();
        let digests = files.iter().map(|(name, content)| (name.clone(), sha256(content))).collect();
        let state = State { files, faults: faults.into(), main: COMMIT.to_owned(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || answer(&mut stream.unwrap(), &shared, port));
            }
        });
        Self { address: format!("http://127.0.0.1:{port}"), state, digests }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn sha256(&self, name: &str) -> String {
        self.digests[name].clone()
    }

    pub(crate) fn log(&self) -> Vec<Request> {
        self.lock().log.clone()
    }

    /// How often a revision was described.
    pub(crate) fn described(&self) -> usize {
        self.log().iter().filter(|request| request.path.starts_with("/api/")).count()
    }

    /// From where to where a file was asked for.
    pub(crate) fn ranges(&self, name: &str) -> Vec<(usize, usize)> {
        let log = self.log();
        log.iter()
            .filter(|request| request.path.ends_with(name) && request.path.starts_with("/cdn/"))
            .filter_map(|request| request.range)
            .collect()
    }

    pub(crate) fn set(&self, _branch: &str, commit: String) {
        self.lock().main = commit;
    }

    pub(crate) fn gate(&self) {
        self.lock().gated = true;
    }

    /// No more faults.
    pub(crate) fn forgive(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.keep = false;
    }

    /// The next fault is that of all that is sent.
    pub(crate) fn keep_fault(&self) {
        self.lock().keep = true;
    }

    /// A file is sent with another content of the same length.
    pub(crate) fn spoil(&self, name: &str) {
        self.lock().spoilt = Some(name.to_owned());
    }
}

fn answer(stream: &mut TcpStream, state: &Mutex<State>, port: u16) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let mut request = Request { path, range: None, token: None };
    for line in lines {
        let Ok(line) = line else { return };
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap();
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (from, until) = value.trim_start_matches("bytes=").split_once('-').unwrap();
                request.range = Some((from.parse().unwrap(), until.parse::<usize>().unwrap() + 1));
            }
            "authorization" => request.token = Some(value.trim_start_matches("Bearer ").to_owned()),
            _ => {}
        }
    }
    let mut held = state.lock().unwrap();
    held.log.push(request.clone());
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["api", "models", user, name, "revision", revision] => {
            let revision = revision.trim_end_matches("?blobs=true");
            let at = if revision == "main" { held.main.clone() } else { revision.to_owned() };
            if format!("{user}/{name}") != "u/Model-GGUF" {
                return refuse(stream, 401, "x-error-code: RepoNotFound\r\n");
            }
            if at.len() != 40 {
                return refuse(stream, 404, "x-error-code: RevisionNotFound\r\n");
            }
            let body = describe(&held, &at);
            send(stream, 200, "content-type: application/json\r\n", body.as_bytes());
        }
        [_, _, "resolve", _, file] => {
            if held.gated && request.token.as_deref() != Some("hf_secret") {
                return refuse(stream, 403, "x-error-code: GatedRepo\r\nx-error-message: ask first\r\n");
            }
            refuse(stream, 302, &format!("location: http://localhost:{port}/cdn/{file}\r\n"));
        }
        ["cdn", file] => {
            let mut content = held.files[*file].clone();
            if held.spoilt.as_deref() == Some(*file) {
                content.iter_mut().for_each(|byte| *byte ^= 0x55);
            }
            let small = !is_large(file);
            let fault = match held.faults.front().cloned() {
                _ if small => None,
                fault if held.keep => fault,
                _ => held.faults.pop_front(),
            };
            drop(held);
            serve(stream, content, request.range, fault.as_ref());
        }
        _ => refuse(stream, 404, "x-error-code: EntryNotFound\r\n"),
    }
}

fn is_large(name: &str) -> bool {
    name.ends_with(".gguf")
}

fn describe(state: &State, commit: &str) -> String {
    let file = |(name, content): (&String, &Vec<u8>)| {
        let size = content.len();
        if is_large(name) {
            let sha256 = sha256(content);
            return format!(
                r#"{{"rfilename":"{name}","blobId":"{commit}","size":{size},"lfs":{{"sha256":"{sha256}","size":{size},"pointerSize":134}}}}"#
            );
        }
        let git = Sha1::new().chain_update(format!("blob {size}\0")).chain_update(content).finalize();
        format!(r#"{{"rfilename":"{name}","blobId":"{git:x}","size":{size}}}"#)
    };
    let files: Vec<String> = state.files.iter().map(file).collect();
    let gated = if state.gated { "\"manual\"" } else { "false" };
    format!(
        r#"{{"id":"u/Model-GGUF","sha":"{commit}","gated":{gated},"cardData":{{"license":"apache-2.0"}},"siblings":[{}]}}"#,
        files.join(",")
    )
}

fn serve(stream: &mut TcpStream, mut content: Vec<u8>, range: Option<(usize, usize)>, fault: Option<&Fault>) {
    match fault {
        Some(Fault::Status(status, headers)) => return refuse(stream, *status, headers),
        Some(Fault::Flip(place)) => content[*place] ^= 1,
        Some(Fault::Longer) => content.push(0),
        _ => {}
    }
    let range = range.filter(|_| !matches!(fault, Some(Fault::IgnoreRange)));
    let (from, until) = range.map_or((0, content.len()), |(from, until)| (from, until.min(content.len())));
    let part = &content[from..until];
    let head = match range {
        Some(_) => format!(
            "HTTP/1.1 206 x\r\ncontent-range: bytes {from}-{}/{}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            until - 1,
            content.len(),
            part.len()
        ),
        None => format!("HTTP/1.1 200 x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", part.len()),
    };
    let _ = stream.write_all(head.as_bytes());
    match fault {
        Some(Fault::Cut(bytes)) => drop(stream.write_all(&part[..(*bytes).min(part.len())])),
        Some(Fault::Slow) => {
            for piece in part.chunks(1 << 19) {
                #[expect(clippy::disallowed_methods, reason = "it is slow on purpose")]
                std::thread::sleep(Duration::from_millis(100));
                let _ = stream.write_all(piece);
            }
        }
        _ => drop(stream.write_all(part)),
    }
}

fn refuse(stream: &mut TcpStream, status: u16, headers: &str) {
    send(stream, status, headers, b"");
}

fn send(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}
