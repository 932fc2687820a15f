//! Backups of real boxes: what comes back, and what is refused.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;
use age::x25519;
use allerac_backup::{BackupError, Lock, Made, Unlock, What, check, create, finish, restore, unpack};
use allerac_ledger::{KeyLimits, Ledger, NewKey, Reserve, Span, UpstreamPolicy, UsedRequest};
use allerac_objects::{Kind, New, Piece, Store};
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tempfile::TempDir;

const SECRET: [u8; 32] = [7; 32];
const OWNER: u64 = 42;
/// After which a restore may be interrupted.
const STEPS: usize = 7;

/// What becomes of a file in a backup that is forged.
type Change<'a> = dyn Fn(&str, Vec<u8>) -> Option<Vec<u8>> + 'a;

struct Home {
    folder: TempDir,
    lock: Lock,
    unlock: Unlock,
    recipient: x25519::Recipient,
}

impl Home {
    fn new() -> Self {
        let identity = x25519::Identity::generate();
        let recipient = identity.to_public();
        Self {
            folder: tempfile::tempdir().unwrap(),
            lock: Lock::Recipients(vec![recipient.to_string()]),
            unlock: Unlock::Identities(format!("# a comment\n{}\n", identity.to_string().expose_secret())),
            recipient,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An empty data directory.
    fn empty(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path
    }

    fn create(&self, data: &Path, ledger: &Ledger, name: &str) -> Result<Made, BackupError> {
        let models = vec!["m".to_owned()];
        let now = "2026-11-21T21:30:00Z".parse().unwrap();
        let what = What { data_dir: data, ledger, name: "library", models, now };
        create(&what, &self.lock, &self.path(name))
    }

    /// A backup whose inside was changed by somebody who may seal.
    fn forge(&self, from: &str, to: &str, change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) {
        let Unlock::Identities(text) = &self.unlock else { unreachable!() };
        let identity: x25519::Identity = text.lines().nth(1).unwrap().parse().unwrap();
        let plain = age::decrypt(&identity, &fs::read(self.path(from)).unwrap()).unwrap();
        let mut archive = tar::Archive::new(GzDecoder::new(plain.as_slice()));
        let mut changed = tar::Builder::new(GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if let Some(content) = change(&name, content) {
                let mut header = entry.header().clone();
                header.set_size(content.len() as u64);
                changed.append_data(&mut header, &name, content.as_slice()).unwrap();
            }
        }
        let plain = changed.into_inner().unwrap().finish().unwrap();
        fs::write(self.path(to), age::encrypt(&self.recipient, &plain).unwrap()).unwrap();
    }
}

/// All files of a folder with their content, but for locks.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let named = files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()));
    named.filter(|(name, _)| !name.ends_with(".lock")).collect()
}

async fn key(ledger: &Ledger, user: &str) -> String {
    let new = NewKey {
        user: user.into(),
        label: "laptop".into(),
        plan: None,
        upstreams: UpstreamPolicy::None,
        limits: KeyLimits::default(),
    };
    ledger.create_key(new).await.unwrap().secret
}

fn request() -> Reserve {
    Reserve {
        request_id: uuid::Uuid::now_v7(),
        model: "m".into(),
        endpoint: "chat.completions",
        served_by: "local".into(),
        prompt_tokens: 10,
        max_output_tokens: 100,
    }
}

fn usage(ledger: &Ledger) -> Vec<(String, i64, i64)> {
    let mut rows = Vec::new();
    let each = |row: UsedRequest| {
        rows.push((row.outcome, row.prompt_tokens, row.completion_tokens));
        Ok::<_, allerac_ledger::LedgerError>(())
    };
    ledger.export_usage(&Span::default(), each).unwrap();
    rows
}

/// A box with a user, an object of two pieces and its secret.
async fn a_box(data: &Path) -> (Ledger, String) {
    fs::write(data.join("box.key"), SECRET).unwrap();
    fs::create_dir(data.join("tls")).unwrap();
    fs::write(data.join("tls/authority.key"), "authority").unwrap();
    let ledger = Ledger::open(data, TimeZone::UTC).unwrap();
    let secret = key(&ledger, "anna").await;
    let store = Store::open(data, &SECRET).unwrap();
    let new = New {
        kind: Kind::File,
        owner: OWNER,
        id: "file-1".into(),
        created_at: 1,
        expires_at: None,
        open: false,
        head: b"{}".to_vec(),
        tail: None,
    };
    store.put(new).await.unwrap();
    for number in 0..2 {
        let piece = Piece { number, mark: false, data: vec![number as u8; 300_000] };
        assert!(store.put_piece((Kind::File, OWNER), "file-1", piece, None).await.unwrap());
    }
    (ledger, secret)
}

#[tokio::test]
async fn what_runs_is_settled_in_the_copy_and_goes_on_in_the_original() {
    let home = Home::new();
    let data = home.empty("data");
    let (ledger, secret) = a_box(&data).await;
    let principal = ledger.authenticate(&secret).unwrap();
    let mut started = ledger.reserve(&principal, request()).await.unwrap();
    started.count(10, 0, 5).unwrap();
    let waiting = ledger.reserve(&principal, request()).await.unwrap();

    let made = home.create(&data, &ledger, "one.age").unwrap();
    assert_eq!((made.manifest.charged, made.manifest.released), (1, 1));
    assert_eq!(made.bytes, fs::metadata(home.path("one.age")).unwrap().len());
    let names: Vec<_> = made.manifest.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["ledger.db", "objects.db", "box.key", "tls/authority.key"]);

    // Here both are open still.
    assert_eq!(ledger.open_requests("anna").unwrap(), 2);
    drop(waiting);
    drop(started);
    ledger.flush().await.unwrap();
    assert_eq!(ledger.verify().unwrap().differences, []);

    let other = home.empty("other");
    let restored = restore(&home.path("one.age"), &home.unlock, &other, false).unwrap();
    assert_eq!(restored.manifest, made.manifest);
    assert!(!restored.replaced);
    let counts = (restored.checked.users, restored.checked.requests, restored.checked.audit_entries);
    assert_eq!((counts, restored.checked.objects, restored.checked.unreadable_objects), ((1, 1, 1), 1, 0));
    let there = Ledger::open(&other, TimeZone::UTC).unwrap();
    assert_eq!(usage(&there), [("crashed".to_owned(), 10, 5)]);
    assert_eq!(there.open_requests("anna").unwrap(), 0);
    assert_eq!(there.verify().unwrap().differences, []);
    assert_eq!(there.authenticate(&secret).unwrap().user_name, "anna");
    assert_eq!(fs::read(other.join("box.key")).unwrap(), SECRET);
    let store = Store::open(&other, &SECRET).unwrap();
    assert_eq!(store.piece(Kind::File, OWNER, "file-1", 1).await.unwrap().unwrap(), vec![1; 300_000]);
    assert_eq!(fs::read(other.join("tls/authority.key")).unwrap(), b"authority");
    assert!(!other.join(".restore-ready").exists() && !other.join(".restore-partial").exists());
    assert!(!data.join(".backup").exists());
}

#[tokio::test]
async fn backups_made_while_others_write_all_add_up() {
    let home = Home::new();
    let data = home.empty("data");
    let (ledger, secret) = a_box(&data).await;
    let principal = ledger.authenticate(&secret).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn({
        let ledger = ledger.clone();
        async move {
            let mut stopped = stopped;
            let mut count = 0_u32;
            while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
                let mut reservation = ledger.reserve(&principal, request()).await.unwrap();
                reservation.count(10, 0, count % 7).unwrap();
                drop(reservation);
                count += 1;
            }
            count
        }
    });
    for round in 0..10 {
        let (path, unpacked) = (format!("{round}.age"), home.empty(&format!("out-{round}")));
        home.create(&data, &ledger, &path).unwrap();
        unpack(&home.path(&path), &home.unlock, &unpacked).unwrap();
        check(&unpacked).unwrap();
        tokio::task::yield_now().await;
    }
    stop.send(()).unwrap();
    assert!(writing.await.unwrap() > 0);
}

#[tokio::test]
async fn nothing_is_restored_of_what_is_not_whole() {
    let home = Home::new();
    let data = home.empty("data");
    let (ledger, _) = a_box(&data).await;
    home.create(&data, &ledger, "whole.age").unwrap();
    let whole = fs::read(home.path("whole.age")).unwrap();
    let target = home.empty("target");
    let refused = |bytes: &[u8]| {
        let path = home.path("broken.age");
        fs::write(&path, bytes).unwrap();
        let error = restore(&path, &home.unlock, &target, false).unwrap_err();
        assert_eq!(contents(&target), BTreeMap::new());
        error
    };
    for cut in 0..40 {
        let length = whole.len() * cut / 40;
        let error = refused(&whole[..length]);
        assert!(matches!(error, BackupError::Damaged(_) | BackupError::NotABackup(_)), "{length}: {error}");
    }
    // One byte short, one byte changed, one too many.
    assert!(matches!(refused(&whole[..whole.len() - 1]), BackupError::Damaged(_)));
    assert!(matches!(refused(&[whole.as_slice(), b"x"].concat()), BackupError::Damaged(_)));
    for place in (0..whole.len()).step_by(whole.len() / 60) {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        let error = refused(&changed);
        let expected = matches!(
            error,
            BackupError::Damaged(_) | BackupError::NotABackup(_) | BackupError::WrongKey(_) | BackupError::Newer(_)
        );
        assert!(expected, "{place}: {error}");
    }
    assert!(matches!(refused(b"no age file at all"), BackupError::NotABackup(_)));
    assert!(matches!(refused(b""), BackupError::NotABackup(_)));
    // And the whole one is still good.
    restore(&home.path("whole.age"), &home.unlock, &target, false).unwrap();
}

#[tokio::test]
async fn formats_and_insides_that_are_not_known_are_told_apart() {
    let home = Home::new();
    let data = home.empty("data");
    let (ledger, _) = a_box(&data).await;
    home.create(&data, &ledger, "whole.age").unwrap();
    let target = home.empty("target");
    let forged = |change: &Change<'_>| {
        home.forge("whole.age", "forged.age", change);
        let error = restore(&home.path("forged.age"), &home.unlock, &target, false).unwrap_err();
        assert_eq!(contents(&target), BTreeMap::new());
        error.to_string()
    };
    let manifest = |set: &dyn Fn(&mut Value)| {
        forged(&|name, content| {
            if name != "manifest.json" {
                return Some(content);
            }
            let mut manifest: Value = serde_json::from_slice(&content).unwrap();
            set(&mut manifest);
            Some(serde_json::to_vec(&manifest).unwrap())
        })
    };
    let newer = manifest(&|manifest| {
        *manifest = json!({"format": 2, "made_by": "allerac 9.0", "what": "else"});
    });
    assert_eq!(newer, "the backup was made by a newer version (allerac 9.0, format 2); update allerac first");
    let older = manifest(&|manifest| manifest["format"] = json!(0));
    assert!(older.starts_with("the backup has the format 0, which is no longer read"), "{older}");
    let renamed = manifest(&|manifest| manifest["files"][0]["name"] = json!("../ledger.db"));
    assert!(renamed.contains("`ledger.db` is not where it should be"), "{renamed}");
    let hash = manifest(&|manifest| manifest["files"][1]["blake3"] = json!("00"));
    assert!(hash.contains("`objects.db` is not as it was packed"), "{hash}");
    let missing = forged(&|name, content| (name != "tls/authority.key").then_some(content));
    assert!(missing.contains("`tls/authority.key` is missing"), "{missing}");
    let headless = forged(&|name, content| (name != "manifest.json").then_some(content));
    assert!(headless.contains("it does not begin with its manifest"), "{headless}");
    let empty = forged(&|_, _| None);
    assert!(empty.contains("there is nothing in it"), "{empty}");
}

/// Changes the ledger of a box and makes a backup of that; what restoring it says.
async fn restored_after(sql: &str) -> Result<(), String> {
    let home = Home::new();
    let data = home.empty("data");
    let (ledger, _) = a_box(&data).await;
    ledger.flush().await.unwrap();
    let changed = rusqlite::Connection::open(data.join("ledger.db")).unwrap();
    changed.execute_batch(sql).unwrap();
    home.create(&data, &ledger, "changed.age").unwrap();
    let target = home.empty("target");
    let restored = restore(&home.path("changed.age"), &home.unlock, &target, false);
    if restored.is_err() {
        assert_eq!(contents(&target), BTreeMap::new());
    }
    restored.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn books_that_are_off_tampered_with_or_newer_are_not_restored() {
    assert_eq!(restored_after("SELECT 1").await, Ok(()));
    let off = restored_after("INSERT INTO balances (account, month, used) VALUES ('user:1', '2026-11', 3)").await;
    assert!(off.unwrap_err().contains("1 sums of its ledger are off, used of user anna first"));
    let tampered =
        restored_after("DROP TRIGGER audit_is_not_changed; UPDATE audit SET subject = 'x' WHERE id = 1").await;
    assert!(tampered.unwrap_err().contains("its audit log was tampered with: entry 1 was changed"));
    let newer = restored_after("PRAGMA user_version = 999").await;
    assert!(newer.unwrap_err().contains("made by a newer version (its ledger has a shape"));
    let orphan = restored_after("PRAGMA foreign_keys = OFF; UPDATE keys SET user_id = 99").await;
    assert!(orphan.unwrap_err().contains("a row of keys belongs to nothing"));
}

#[tokio::test]
async fn a_passphrase_opens_what_it_sealed_and_nothing_else_does() {
    let home = Home::new();
    let data = home.empty("data");
    let (ledger, _) = a_box(&data).await;
    let lock = Lock::Passphrase("correct horse".into());
    let file = home.path("words.age");
    let what = What { data_dir: &data, ledger: &ledger, name: "b", models: Vec::new(), now: Timestamp::now() };
    create(&what, &lock, &file).unwrap();
    assert!(!fs::read(&file).unwrap().windows(4).any(|window| window == b"anna"));
    let target = home.empty("target");
    let with = |unlock: Unlock| restore(&file, &unlock, &target, false).unwrap_err().to_string();
    let wrong = with(Unlock::Passphrase("wrong horse".into()));
    assert_eq!(wrong, "the backup does not open with this passphrase; give the one that it was made with");
    assert!(with(home.unlock.clone()).contains("made with a passphrase"));
    assert!(with(Unlock::Identities("nothing".into())).contains("made with a passphrase"));
    assert_eq!(contents(&target), BTreeMap::new());
    restore(&file, &Unlock::Passphrase("correct horse".into()), &target, false).unwrap();

    home.create(&data, &ledger, "sealed.age").unwrap();
    let sealed =
        |unlock: Unlock| unpack(&home.path("sealed.age"), &unlock, &home.path("nowhere")).unwrap_err().to_string();
    assert!(sealed(Unlock::Passphrase("correct horse".into())).contains("made for age recipients"));
    assert!(sealed(Home::new().unlock.clone()).contains("does not open with this identity"));
    assert!(sealed(Unlock::Identities("AGE-SECRET-KEY-1X".into())).contains("has no identity"));
    let nothing = create(&what, &Lock::Passphrase(String::new()), &home.path("never.age")).unwrap_err();
    assert!(nothing.to_string().contains("the passphrase is empty"));
    assert!(!home.path("never.age").exists());
}

#[tokio::test]
async fn what_is_there_is_replaced_only_when_told_and_kept_aside() {
    let home = Home::new();
    let (first, second) = (home.empty("first"), home.empty("second"));
    let (ledger, secret) = a_box(&first).await;
    home.create(&first, &ledger, "first.age").unwrap();
    let there = Ledger::open(&second, TimeZone::UTC).unwrap();
    let old = key(&there, "kim").await;
    fs::write(second.join("tuned.toml"), "stays").unwrap();
    fs::create_dir(second.join("models")).unwrap();
    fs::write(second.join("inflight.bin"), "goes").unwrap();
    drop(there);
    let refused = restore(&home.path("first.age"), &home.unlock, &second, false).unwrap_err();
    assert!(matches!(refused, BackupError::HasData(_)), "{refused}");
    assert!(Ledger::open(&second, TimeZone::UTC).unwrap().authenticate(&old).is_ok());

    let lock = allerac_ledger::ServeLock::acquire(&second).unwrap();
    let served = restore(&home.path("first.age"), &home.unlock, &second, true).unwrap_err();
    assert!(served.to_string().contains("another allerac server uses"), "{served}");
    drop(lock);

    assert!(restore(&home.path("first.age"), &home.unlock, &second, true).unwrap().replaced);
    let now = Ledger::open(&second, TimeZone::UTC).unwrap();
    assert!(now.authenticate(&secret).is_ok() && now.authenticate(&old).is_err());
    assert!(second.join("tuned.toml").exists() && second.join("models").exists());
    assert!(!second.join("inflight.bin").exists());
    assert!(Ledger::open(&second.join("replaced"), TimeZone::UTC).unwrap().authenticate(&old).is_ok());
}

/// What a process that is killed between any two steps leaves is what those steps made: here they are made one by one,
/// and each time whoever comes next goes on.
#[tokio::test]
async fn a_restore_that_was_interrupted_after_it_counted_is_finished() {
    let home = Home::new();
    let first = home.empty("first");
    let (ledger, secret) = a_box(&first).await;
    home.create(&first, &ledger, "first.age").unwrap();
    for step in 0..=STEPS {
        let data = home.empty(&format!("data-{step}"));
        let old = Ledger::open(&data, TimeZone::UTC).unwrap();
        key(&old, "kim").await;
        fs::write(data.join("box.key"), [9; 32]).unwrap();
        drop(old);
        let (ready, replaced) = (data.join(".restore-ready"), data.join("replaced"));
        fs::create_dir(&ready).unwrap();
        unpack(&home.path("first.age"), &home.unlock, &ready).unwrap();
        let steps: [&dyn Fn(); STEPS] = [
            &|| fs::create_dir(&replaced).unwrap(),
            &|| fs::rename(data.join("ledger.db"), replaced.join("ledger.db")).unwrap(),
            &|| {
                for name in ["ledger.db-wal", "ledger.db-shm", "box.key"] {
                    let _ = fs::rename(data.join(name), replaced.join(name));
                }
            },
            &|| drop(File::create(ready.join("moved")).unwrap()),
            &|| fs::rename(ready.join("ledger.db"), data.join("ledger.db")).unwrap(),
            &|| fs::rename(ready.join("objects.db"), data.join("objects.db")).unwrap(),
            &|| fs::rename(ready.join("box.key"), data.join("box.key")).unwrap(),
        ];
        for done in &steps[..step] {
            done();
        }
        assert!(finish(&data).unwrap());
        assert!(!finish(&data).unwrap());
        let now = Ledger::open(&data, TimeZone::UTC).unwrap();
        assert!(now.authenticate(&secret).is_ok(), "step {step}");
        assert_eq!(fs::read(data.join("box.key")).unwrap(), SECRET);
        assert_eq!(fs::read(replaced.join("box.key")).unwrap(), [9; 32]);
        assert!(data.join("objects.db").exists());
    }
}

#[tokio::test]
async fn one_at_a_time() {
    let home = Home::new();
    let data = home.empty("data");
    let (ledger, _) = a_box(&data).await;
    let mut held = File::create(data.join("backup.lock")).unwrap();
    held.write_all(b"x").unwrap();
    held.lock().unwrap();
    let busy = home.create(&data, &ledger, "no.age").unwrap_err();
    assert!(matches!(busy, BackupError::Busy(_)), "{busy}");
    drop(held);
    home.create(&data, &ledger, "yes.age").unwrap();
}
