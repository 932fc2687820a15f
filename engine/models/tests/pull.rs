//! Downloads against a server with faults, over a real socket.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{HashSet, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use allerac_models::{Catalogue, Entry, FileSpec, ModelKind, ModelsError, Progress, Store};
use sha2::{Digest, Sha256};

/// How the server treats one request.
#[derive(Debug, Clone)]
enum Behave {
    /// As it should.
    Well,
    /// Closes the connection after so many bytes of the body.
    CutAfter(usize),
    /// Sends the whole file whatever range was asked for.
    IgnoreRange,
    /// Answers with a status and nothing else.
    Status(u16),
    /// Sends something else.
    Other(&'static [u8]),
    /// Sends somebody elsewhere.
    Redirect(&'static str),
}

/// A server of one file. It follows its script, then behaves well; it remembers the ranges asked for.
struct Server {
    address: String,
    ranges: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    fn start(content: Vec<u8>, script: Vec<Behave>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let ranges: Arc<Mutex<Vec<Option<usize>>>> = Arc::default();
        let seen = Arc::clone(&ranges);
        std::thread::spawn(move || {
            let mut script = VecDeque::from(script);
            for stream in listener.incoming() {
                let behave = script.pop_front().unwrap_or(Behave::Well);
                if let Some(range) = answer(&mut stream.unwrap(), &content, &behave) {
                    seen.lock().unwrap().push(range);
                }
            }
        });
        Self { address, ranges }
    }

    fn ranges(&self) -> Vec<Option<usize>> {
        self.ranges.lock().unwrap().clone()
    }
}

/// Answers one request; where its range began, or `None` when nobody asked anything.
fn answer(stream: &mut TcpStream, content: &[u8], behave: &Behave) -> Option<Option<usize>> {
    let mut range = None;
    let mut asked = false;
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let line = line.ok()?.to_ascii_lowercase();
        asked |= line.starts_with("get ");
        if let Some(from) = line.strip_prefix("range: bytes=") {
            range = Some(from.trim_end_matches('-').parse().unwrap());
        }
        if line.is_empty() {
            break;
        }
    }
    let content = if let Behave::Other(other) = behave { other } else { content };
    let from = range.filter(|_| !matches!(behave, Behave::IgnoreRange)).unwrap_or(0);
    let (status, mut extra) = match behave {
        Behave::Status(status) => (*status, "content-length: 0\r\n".to_owned()),
        Behave::Redirect(to) => (302, format!("location: {to}\r\ncontent-length: 0\r\n")),
        _ if from >= content.len() && from > 0 => (416, "content-length: 0\r\n".to_owned()),
        _ => {
            let status = if from > 0 { 206 } else { 200 };
            (status, format!("content-length: {}\r\n", content.len() - from))
        }
    };
    if status == 206 {
        extra += &format!("content-range: bytes {from}-{}/{}\r\n", content.len() - 1, content.len());
    }
    let head = format!("HTTP/1.1 {status} x\r\netag: \"1\"\r\nconnection: close\r\n{extra}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let body = match behave {
        _ if status != 200 && status != 206 => &[][..],
        Behave::CutAfter(bytes) => &content[from..(from + bytes).min(content.len())],
        _ => &content[from..],
    };
    let _ = stream.write_all(body);
    asked.then_some(range)
}

fn content() -> Vec<u8> {
    (0..300_000u32).flat_map(u32::to_le_bytes).collect()
}

fn entry(url: &str, content: &[u8]) -> Entry {
    let text = format!(
        "version = 1\n[[model]]\nid = \"m\"\nname = \"M\"\nfamily = \"f\"\nparameters = 5\ncontext = 10\nlicence = \"MIT\"\n\
         languages = []\n[model.file]\nname = \"m.gguf\"\nsize_bytes = {}\nsha256 = \"{:x}\"\n\
         [[model.source]]\nkind = \"url\"\nurl = \"{url}/m.gguf\"\n",
        content.len(),
        Sha256::digest(content),
    );
    Catalogue::parse(&text).unwrap().get("m").unwrap().clone()
}

async fn pull(directory: &Path, entry: &Entry) -> Result<Vec<Progress>, ModelsError> {
    let store = Store::open(directory);
    let mut progress = Vec::new();
    let installed = store.pull(entry, |at| progress.push(at)).await?;
    assert_eq!(std::fs::read(&installed.path).unwrap(), content());
    assert_eq!((installed.id.as_str(), installed.parameters), ("m", 5));
    assert_eq!(store.list().unwrap(), std::slice::from_ref(&installed));
    store.verify(&installed).unwrap();
    assert_eq!(
        std::fs::read_dir(directory.join("models/partial"))
            .unwrap()
            .filter(|file| { file.as_ref().unwrap().path().extension().is_none_or(|extension| extension != "lock") })
            .count(),
        0,
        "nothing is left over"
    );
    Ok(progress)
}

#[tokio::test]
async fn a_whole_file_comes_with_progress_and_is_not_fetched_again() {
    let server = Server::start(content(), vec![]);
    let directory = tempfile::tempdir().unwrap();
    let entry = entry(&server.address, &content());
    let progress = pull(directory.path(), &entry).await.unwrap();
    let at = |progress: Option<&Progress>| progress.map(|progress| (progress.done, progress.total));
    assert_eq!(at(progress.first()), Some((0, 1_200_000)));
    assert_eq!(at(progress.last()), Some((1_200_000, 1_200_000)));
    pull(directory.path(), &entry).await.unwrap();
    assert_eq!(server.ranges(), [None]);
}

#[tokio::test]
async fn a_cut_download_asks_only_for_the_rest() {
    let server = Server::start(content(), vec![Behave::CutAfter(500_000), Behave::CutAfter(300_000)]);
    let directory = tempfile::tempdir().unwrap();
    pull(directory.path(), &entry(&server.address, &content())).await.unwrap();
    assert_eq!(server.ranges(), [None, Some(500_000), Some(800_000)]);
}

#[tokio::test]
async fn a_part_left_by_a_killed_process_is_taken_up() {
    let server = Server::start(content(), vec![]);
    let directory = tempfile::tempdir().unwrap();
    let entry = entry(&server.address, &content());
    let partial = directory.path().join("models/partial");
    std::fs::create_dir_all(&partial).unwrap();
    std::fs::write(partial.join(format!("{}.part", entry.file.sha256.as_deref().unwrap())), &content()[..700_000])
        .unwrap();
    pull(directory.path(), &entry).await.unwrap();
    assert_eq!(server.ranges(), [Some(700_000)]);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_starts_over() {
    let server = Server::start(content(), vec![Behave::CutAfter(500_000), Behave::IgnoreRange]);
    let directory = tempfile::tempdir().unwrap();
    pull(directory.path(), &entry(&server.address, &content())).await.unwrap();
}

#[tokio::test]
async fn passing_faults_are_ridden_out() {
    let script = vec![Behave::Status(503), Behave::Status(429), Behave::Redirect("/elsewhere")];
    let server = Server::start(content(), script);
    let directory = tempfile::tempdir().unwrap();
    pull(directory.path(), &entry(&server.address, &content())).await.unwrap();
}

#[tokio::test]
async fn a_missing_file_is_said_at_once() {
    let server = Server::start(content(), vec![Behave::Status(404); 9]);
    let directory = tempfile::tempdir().unwrap();
    let error = pull(directory.path(), &entry(&server.address, &content())).await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
    assert_eq!(server.ranges().len(), 1);
}

#[tokio::test]
async fn a_wrong_file_is_removed_and_never_installed() {
    let mut wrong = content();
    wrong[7] ^= 1;
    let server = Server::start(wrong, vec![]);
    let directory = tempfile::tempdir().unwrap();
    let entry = entry(&server.address, &content());
    let error = pull(directory.path(), &entry).await.unwrap_err();
    assert!(matches!(error, ModelsError::WrongDigest { .. }), "{error}");
    assert_eq!(Store::open(directory.path()).list().unwrap(), []);
    assert!(!directory.path().join(format!("models/partial/{}.part", entry.file.sha256.as_deref().unwrap())).exists());
}

#[tokio::test]
async fn a_file_that_is_too_long_is_not_kept() {
    let mut long = content();
    long.push(0);
    let server = Server::start(long, vec![]);
    let directory = tempfile::tempdir().unwrap();
    let error = pull(directory.path(), &entry(&server.address, &content())).await.unwrap_err();
    assert!(error.to_string().contains("longer than it should be"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let error = pull(directory.path(), &entry("http://127.0.0.1:1", &content())).await.unwrap_err();
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn damage_is_found_and_removal_leaves_nothing() {
    let server = Server::start(content(), vec![]);
    let directory = tempfile::tempdir().unwrap();
    pull(directory.path(), &entry(&server.address, &content())).await.unwrap();
    let store = Store::open(directory.path());
    let model = store.get("m").unwrap().unwrap();
    let mut damaged = Vec::new();
    std::fs::File::open(&model.path).unwrap().read_to_end(&mut damaged).unwrap();
    damaged[1_000_000] ^= 1;
    std::fs::write(&model.path, damaged).unwrap();
    assert!(matches!(store.verify(&model), Err(ModelsError::Damaged { .. })));
    store.remove("m").unwrap();
    assert_eq!(store.list().unwrap(), []);
    assert!(!model.path.exists());
    store.remove("m").unwrap();
}

#[tokio::test]
async fn files_go_apart_from_models_and_never_while_something_is_fetched() {
    let server = Server::start(content(), vec![]);
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path());
    assert_eq!(store.changed(), None);
    assert!(store.sweep(&HashSet::new()).unwrap());
    let model = store.pull(&entry(&server.address, &content()), |_| ()).await.unwrap();
    let before = store.changed().unwrap();
    let copy = store.copy("m", "Mine:v1").unwrap();
    assert_eq!((copy.id.as_str(), copy.model.as_str(), &copy.path), ("Mine:v1", "m", &model.path));
    assert!(store.changed().unwrap() >= before);
    // A copy of a copy is one of the model; a copy can be replaced, a model not.
    assert_eq!(store.copy("Mine:v1", "again").unwrap().model, "m");
    assert_eq!(store.copy("m", "again").unwrap().model, "m");
    for (from, to) in [("Mine:v1", "m"), ("m", "m"), ("m", "smollm2-135m-instruct")] {
        assert!(matches!(store.copy(from, to), Err(ModelsError::Taken(_))), "{from} {to}");
    }
    for to in ["", ".", "..", "../m", "a/b", "-a", "a b", "ä", &"x".repeat(129)] {
        assert!(matches!(store.copy("m", to), Err(ModelsError::Name(_))), "{to}");
    }
    assert!(matches!(store.copy("nope", "a"), Err(ModelsError::NotInstalled(_))));
    // The file stays for as long as a name has it, or an engine.
    assert!(store.forget("m").unwrap());
    assert!(!store.forget("m").unwrap());
    store.remove("again").unwrap();
    assert!(store.sweep(&HashSet::new()).unwrap() && model.path.exists());
    assert!(store.forget("Mine:v1").unwrap());
    assert!(store.sweep(&HashSet::from([model.path.clone()])).unwrap() && model.path.exists());
    let fetching = std::fs::File::open(directory.path().join("models/lock")).unwrap();
    fetching.lock_shared().unwrap();
    assert!(!store.sweep(&HashSet::new()).unwrap());
    assert!(model.path.exists());
    drop(fetching);
    assert!(store.sweep(&HashSet::new()).unwrap() && !model.path.exists());
}

#[tokio::test]
async fn nothing_goes_while_a_record_cannot_be_read() {
    let server = Server::start(content(), vec![]);
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path());
    let model = store.pull(&entry(&server.address, &content()), |_| ()).await.unwrap();
    let record = directory.path().join("models/installed/m.toml");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, "damaged").unwrap();
    assert!(matches!(store.sweep(&HashSet::new()), Err(ModelsError::Record { .. })));
    assert_eq!(store.list().unwrap(), []);
    std::fs::write(&record, text).unwrap();
    assert_eq!(store.list().unwrap(), [model]);
}

#[tokio::test]
async fn a_model_of_several_files_is_whole_or_not_there() {
    let script = vec![Behave::Well, Behave::Other(b"too long"), Behave::Other(b"{}")];
    let server = Server::start(content(), script);
    let directory = tempfile::tempdir().unwrap();
    let mut entry = entry(&server.address, &content());
    let sha256 = format!("{:x}", Sha256::digest(b"{}"));
    entry.parts = vec![FileSpec { name: "sub/config.json".into(), size_bytes: Some(2), sha256: Some(sha256.clone()) }];
    entry.kind = ModelKind::Embedding;
    let store = Store::open(directory.path());
    let error = store.pull(&entry, |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("longer than it should be"), "{error}");
    assert_eq!(store.list().unwrap(), []);
    let model = store.pull(&entry, |_| ()).await.unwrap();
    // What was there of it was not fetched again.
    assert_eq!(server.ranges(), [None, None, None]);
    assert_eq!((model.kind, model.size_bytes), (ModelKind::Embedding, 1_200_002));
    let [part] = model.parts.as_slice() else { panic!("{:?}", model.parts) };
    assert_eq!((part.name.as_str(), &part.sha256), ("sub/config.json", &sha256));
    store.verify(&model).unwrap();
    std::fs::write(&part.path, "[]").unwrap();
    assert!(matches!(store.verify(&model), Err(ModelsError::Damaged { .. })));
    store.remove("m").unwrap();
    assert!(!model.path.exists() && !part.path.exists());
}

#[tokio::test]
async fn a_full_disk_is_said_and_the_download_resumes() {
    let disk = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1400k", "tmpfs"])
        .arg(disk.path())
        .status()
        .unwrap();
    assert!(mounted.success(), "this test mounts a small tmpfs and needs root");
    let server = Server::start(content(), vec![]);
    let entry = entry(&server.address, &content());
    let store = Store::open(disk.path());
    // Somebody else takes the room while it is fetched.
    let other = disk.path().join("other");
    let taken = store.pull(&entry, |_| drop(std::fs::write(&other, vec![1; 700_000]))).await;
    let room = store.pull(&entry, |_| ()).await;
    std::fs::remove_file(&other).unwrap();
    let resumed = pull(disk.path(), &entry).await;
    let unmounted = std::process::Command::new("umount").arg(disk.path()).status().unwrap();
    assert!(unmounted.success());
    let taken = taken.unwrap_err();
    assert!(matches!(taken, ModelsError::DiskFull { bytes: 1_200_000, .. }), "{taken}");
    // From now on it is known beforehand.
    let room = room.unwrap_err();
    assert!(matches!(room, ModelsError::NoRoom { free_bytes, .. } if free_bytes < 100_000), "{room}");
    resumed.unwrap();
    assert_eq!(server.ranges().len(), 2);
    assert!(server.ranges()[1].is_some_and(|from| from > 0), "{:?}", server.ranges());
}
