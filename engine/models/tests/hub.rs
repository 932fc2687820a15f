//! Downloads from a hub: the real client against a server that speaks as hubs do, over real sockets, with faults on order.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod server;

use std::num::NonZeroU64;
use std::path::Path;
use std::time::{Duration, Instant};

use allerac_models::{
    Catalogue, Downloads, Entry, Hub, Installed, Mended, ModelsError, Pace, Progress, Reference, Store,
};
use server::{COMMIT, Fault, HubServer, gguf, sha256};

const MIB: usize = 1 << 20;
const WEIGHTS: &str = "Model-Q4_K_M.gguf";

/// A server of one model, and a store that fetches from it.
struct Box_ {
    hub: HubServer,
    folder: tempfile::TempDir,
}

impl Box_ {
    fn new(faults: Vec<Fault>) -> Self {
        let files = [(WEIGHTS, gguf(10 * MIB + 99)), ("config.json", b"{}".to_vec()), ("Model-Q8_0.gguf", gguf(MIB))];
        Self { hub: HubServer::start(&files, faults), folder: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> Store {
        self.store_with(Pace::default(), None)
    }

    fn store_with(&self, pace: Pace, token: Option<&str>) -> Store {
        let hub = Hub::new(&self.hub.address, token.map(str::to_owned));
        Store::open(self.folder.path()).with(Downloads { hub, pace, connections: 3 })
    }

    fn partial(&self) -> std::path::PathBuf {
        self.folder.path().join("models/partial")
    }

    fn left_over(&self) -> usize {
        let files = std::fs::read_dir(self.partial()).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_none_or(|extension| extension != "lock")).count()
    }
}

/// A model of a catalogue that does not know its digests.
fn entry(extra: &str) -> Entry {
    let text = format!(
        "version = 1\n[[model]]\nid = \"m\"\nname = \"M\"\nfamily = \"f\"\nparameters = 5\ncontext = 10\nlicence = \"MIT\"\n\
         languages = []\nquant = \"Q4_K_M\"\n{extra}\n[model.file]\nname = \"{WEIGHTS}\"\n[[model.part]]\nname = \"config.json\"\n\
         [[model.source]]\nkind = \"hub\"\nrepository = \"u/Model-GGUF\"\nfile = \"{WEIGHTS}\"\n\
         [[model.quantisation]]\nname = \"Q8_0\"\nfile = \"Model-Q8_0.gguf\"\n"
    );
    Catalogue::parse(&text).unwrap().get("m").unwrap().clone()
}

async fn pull(store: &Store, entry: &Entry) -> Result<Vec<Progress>, ModelsError> {
    let mut progress = Vec::new();
    let installed = store.pull(entry, |at| progress.push(at)).await?;
    store.verify(&installed).unwrap();
    Ok(progress)
}

#[tokio::test]
async fn what_the_hub_says_is_fetched_over_several_connections_and_pinned() {
    let it = Box_::new(vec![]);
    let store = it.store_with(Pace::default(), Some("hf_secret"));
    let progress = pull(&store, &entry("")).await.unwrap();
    let whole = (10 * MIB + 99) as u64;
    let last = progress.last().unwrap();
    assert_eq!(
        (last.done, last.total, last.sha256.as_deref()),
        (whole + 2, whole + 2, Some(it.hub.sha256(WEIGHTS).as_str()))
    );
    let model = store.get("m").unwrap().unwrap();
    assert_eq!((model.sha256, model.size_bytes), (it.hub.sha256(WEIGHTS), whole + 2));
    assert_eq!(it.left_over(), 0);
    // Three connections, each its part; the host that the hub sends us to never hears the token.
    let mut ranges = it.hub.ranges(WEIGHTS);
    ranges.sort_unstable();
    assert_eq!(ranges, [(0, 4 * MIB), (4 * MIB, 8 * MIB), (8 * MIB, 10 * MIB + 99)]);
    assert!(
        it.hub.log().iter().all(|request| request.token.is_some() != request.path.starts_with("/cdn/")),
        "{:?}",
        it.hub.log()
    );
    // The revision moves on; what was fetched first is what comes again.
    let pins = std::fs::read_to_string(it.folder.path().join("models/pins.toml")).unwrap();
    assert!(pins.contains(COMMIT) && pins.contains(&it.hub.sha256("config.json")), "{pins}");
    store.remove("m").unwrap();
    it.hub.set("main", "2".repeat(40));
    pull(&store, &entry("")).await.unwrap();
    assert_eq!(it.hub.described(), 1);
    store.remove("m").unwrap();
    store.unpin(&entry("")).unwrap();
    pull(&store, &entry("")).await.unwrap();
    assert_eq!(it.hub.described(), 2);
    assert!(std::fs::read_to_string(it.folder.path().join("models/pins.toml")).unwrap().contains(&"2".repeat(40)));
}

#[tokio::test]
async fn faults_that_pass_are_ridden_out() {
    let wait = Fault::Status(429, "retry-after: 1\r\n");
    let faults = vec![Fault::Cut(2 * MIB + 5), wait, Fault::Status(503, ""), Fault::Cut(0), Fault::IgnoreRange];
    let it = Box_::new(faults);
    let begun = Instant::now();
    pull(&it.store(), &entry("")).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "the server's wish to wait was not heard");
    // What came in whole blocks before a cut is not asked for again.
    let again: Vec<_> = it.hub.ranges(WEIGHTS).into_iter().filter(|(from, _)| from % (4 * MIB) != 0).collect();
    assert!(again.iter().any(|(from, _)| from % MIB == 0), "{:?}", it.hub.ranges(WEIGHTS));
    assert_eq!(it.left_over(), 0);
}

#[tokio::test]
async fn a_fault_that_stays_is_said_and_what_came_stays() {
    let it = Box_::new([vec![Fault::Cut(3 * MIB); 3], vec![Fault::Cut(0); 40]].concat());
    let error = pull(&it.store(), &entry("")).await.unwrap_err();
    assert!(error.to_string().contains("connection") && error.to_string().contains("it resumes"), "{error}");
    assert_eq!(it.store().list().unwrap(), []);
    it.hub.forgive();
    let progress = pull(&it.store(), &entry("")).await.unwrap();
    // 3 + 3 MiB, and as much as there was of the third part, were there.
    assert_eq!(progress[0].done, (3 * MIB + 3 * MIB + 2 * MIB + 99) as u64);
    let asked: usize = it.hub.ranges(WEIGHTS).iter().rev().take(2).map(|(from, until)| until - from).sum();
    assert_eq!(asked, 2 * MIB);
}

#[tokio::test]
async fn who_asks_for_long_patience_is_not_kept_waiting_for() {
    let it = Box_::new(vec![Fault::Status(429, "retry-after: 3600\r\n"); 9]);
    let error = pull(&it.store(), &entry("")).await.unwrap_err();
    assert!(error.to_string().contains("come back in 60 minutes"), "{error}");
}

#[tokio::test]
async fn a_wrong_file_is_never_installed() {
    let it = Box_::new(vec![Fault::Flip(5 * MIB)]);
    it.hub.keep_fault();
    let error = pull(&it.store(), &entry("")).await.unwrap_err();
    assert!(matches!(error, ModelsError::WrongDigest { .. }), "{error}");
    assert_eq!((it.store().list().unwrap(), it.left_over()), (vec![], 1));
    // What is left is the small file, which was right.
    it.hub.forgive();
    pull(&it.store(), &entry("")).await.unwrap();
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_fetched_is_said() {
    let it = Box_::new(vec![Fault::Cut(MIB), Fault::Cut(MIB), Fault::Cut(MIB), Fault::Longer]);
    let error = pull(&it.store(), &entry("")).await.unwrap_err();
    assert!(error.to_string().contains("another one than the one that was begun"), "{error}");
    // A catalogue that knows better than the hub is believed.
    let known = Box_::new(vec![]);
    let mut entry = entry("");
    entry.file.sha256 = Some("0".repeat(64));
    let error = pull(&known.store(), &entry).await.unwrap_err();
    assert!(error.to_string().contains("other files at"), "{error}");
    let small = Box_::new(vec![]);
    small.hub.spoil("config.json");
    let error = pull(&small.store(), &self::entry("")).await.unwrap_err();
    assert!(error.to_string().contains("Git digest"), "{error}");
}

#[tokio::test]
async fn two_who_pull_one_model_do_not_disturb_each_other() {
    let it = Box_::new(vec![Fault::Slow; 3]);
    let (one, other) = (it.store(), it.store());
    let entry = entry("");
    let late = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        pull(&other, &entry).await
    };
    let (one, other) = tokio::join!(pull(&one, &entry), late);
    assert!(one.is_ok());
    assert!(matches!(other, Err(ModelsError::Busy(_))), "{other:?}");
}

#[tokio::test]
async fn nothing_is_fetched_faster_than_allowed_nor_before_its_hour() {
    let it = Box_::new(vec![]);
    let pace = Pace::new(NonZeroU64::new(8 << 20), None);
    let begun = Instant::now();
    let progress = pull(&it.store_with(pace, None), &entry("")).await.unwrap();
    let took = begun.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(30)).contains(&took), "{took:?}");
    let rate = progress.iter().filter_map(|progress| progress.bytes_per_second).next_back().unwrap();
    assert!(rate < 14 << 20, "{rate}");
    assert!(progress.iter().any(|progress| progress.left().is_some_and(|left| left <= Duration::from_secs(3))));
    // It is never this hour in a zone where it is twelve hours later.
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let later = |minutes| (&now + jiff::SignedDuration::from_mins(minutes)).strftime("%H:%M").to_string();
    let hours = format!("{}-{}", later(600), later(660)).parse().unwrap();
    let store = it.store_with(Pace::new(None, Some((hours, jiff::tz::TimeZone::UTC))), None);
    store.remove("m").unwrap();
    let before = it.hub.ranges(WEIGHTS).len();
    let mut told = None;
    let waiting = tokio::time::timeout(Duration::from_secs(1), store.pull(&entry(""), |at| told = at.starts_in)).await;
    assert!(waiting.is_err());
    assert!(told.is_some_and(|wait| (590 * 60..=600 * 60).contains(&wait.as_secs())), "{told:?}");
    assert_eq!(it.hub.ranges(WEIGHTS).len(), before);
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let it = Box_::new(vec![]);
    it.hub.gate();
    let error = pull(&it.store(), &entry("")).await.unwrap_err().to_string();
    assert!(
        error.contains("u/Model-GGUF is gated") && error.contains(&format!("{}/u/Model-GGUF", it.hub.address)),
        "{error}"
    );
    assert!(error.contains("HF_TOKEN"), "{error}");
    let error = pull(&it.store_with(Pace::default(), Some("hf_stranger")), &entry("")).await.unwrap_err().to_string();
    assert!(error.contains("is gated") && error.ends_with(": ask first") && !error.contains("hf_stranger"), "{error}");
    pull(&it.store_with(Pace::default(), Some("hf_secret")), &entry("")).await.unwrap();
    for (reference, said) in [
        ("u/Nothing", "there is no repository"),
        ("u/Model-GGUF@v9", "no such revision"),
        ("u/Model-GGUF:Q2_K", "it has Q4_K_M, Q8_0"),
    ] {
        let reference: Reference = reference.parse().unwrap();
        let error = it.store_with(Pace::default(), Some("hf_secret")).find(&reference).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn licences_that_ask_for_it_are_accepted_first_and_once() {
    let it = Box_::new(vec![]);
    let store = it.store();
    let entry = Entry { licence: "Llama 3.3 Community".into(), licence_url: Some("https://l".into()), ..entry("") };
    let error = pull(&store, &entry).await.unwrap_err().to_string();
    assert!(error.contains("read it at https://l") && error.contains("--accept-licence"), "{error}");
    assert_eq!(it.hub.log().len(), 0);
    store.accept(&entry, "anna").unwrap();
    store.accept(&entry, "bert").unwrap();
    let accepted = store.accepted().unwrap();
    assert_eq!(
        accepted.iter().map(|one| (one.model.as_str(), one.by.as_str())).collect::<Vec<_>>(),
        [("u/Model-GGUF", "anna")]
    );
    pull(&store, &entry).await.unwrap();
    // Its other quantisations have the same licence; another licence of the same model is another one.
    assert!(store.has_accepted(&entry.with_quant("q8_0").unwrap()).unwrap());
    assert!(!store.has_accepted(&Entry { licence: "Llama 4".into(), ..entry }).unwrap());
}

#[tokio::test]
async fn a_model_of_nobodys_catalogue_comes_under_its_own_name() {
    let it = Box_::new(vec![]);
    let store = it.store();
    let entry = store.find(&"hf.co/u/Model-GGUF:Q8_0".parse().unwrap()).await.unwrap();
    assert_eq!((entry.id.as_str(), entry.licence.as_str()), ("model:q8_0", "apache-2.0"));
    pull(&store, &entry).await.unwrap();
    let model = store.get("model:q8_0").unwrap().unwrap();
    // As many as its tensors say, whatever anybody claims: plans go by it.
    assert_eq!(model.parameters, 256 * 4);
    assert_eq!(model.licence.as_deref(), Some("apache-2.0"));
    let origin = model.origin.unwrap();
    assert_eq!(
        (origin.repository.as_str(), origin.revision.as_str(), origin.file.as_str()),
        ("u/Model-GGUF", COMMIT, "Model-Q8_0.gguf")
    );
    let other = Entry { id: "m:q8_0".into(), ..self::entry("").with_quant("Q8_0").unwrap() };
    pull(&store, &other).await.unwrap();
    assert_eq!(store.get("m:q8_0").unwrap().unwrap().model, "m");
    // The file is the same, and is there once.
    assert_eq!(std::fs::read_dir(it.folder.path().join("models/blobs")).unwrap().count(), 2);
}

#[tokio::test]
async fn damage_is_found_and_mended_by_its_blocks() {
    let it = Box_::new(vec![]);
    let store = it.store();
    let entry = store.find(&"u/Model-GGUF:Q4_K_M".parse().unwrap()).await.unwrap();
    let model = store.pull(&entry, |_| ()).await.unwrap();
    let whole = store.scrub(&model, true).await.unwrap();
    assert_eq!((&whole[0].damaged, &whole[0].mended), (&Some(vec![]), &Mended::Whole));
    let rot = |places: &[usize]| {
        let mut content = std::fs::read(&model.path).unwrap();
        places.iter().for_each(|place| content[*place] ^= 1);
        std::fs::write(&model.path, content).unwrap();
    };
    rot(&[3 * MIB + 7, 10 * MIB + 98]);
    let looked = store.scrub(&model, false).await.unwrap();
    assert_eq!(looked[0].damaged, Some(vec![3, 10]));
    assert!(matches!(looked[0].mended, Mended::Not(_)));
    let before = it.hub.ranges(WEIGHTS).len();
    let mended = store.scrub(&model, true).await.unwrap();
    assert_eq!(mended[0].mended, Mended::Fetched((MIB + 99) as u64));
    assert_eq!(it.hub.ranges(WEIGHTS)[before..], [(3 * MIB, 4 * MIB), (10 * MIB, 10 * MIB + 99)]);
    store.verify(&model).unwrap();
    // A hub that gives something else mends nothing.
    rot(&[0]);
    it.hub.spoil(WEIGHTS);
    let not = store.scrub(&model, true).await.unwrap();
    assert!(matches!(&not[0].mended, Mended::Not(reason) if reason.contains("wrong too")), "{not:?}");
    // Without its list nobody knows where the damage is.
    std::fs::remove_file(it.folder.path().join(format!("models/blocks/{}", model.sha256))).unwrap();
    assert_eq!(store.scrub(&model, true).await.unwrap()[0].damaged, None);
}

#[tokio::test]
async fn what_nobody_is_at_is_collected() {
    let it = Box_::new([vec![Fault::Cut(2 * MIB); 3], vec![Fault::Cut(0); 40]].concat());
    pull(&it.store(), &entry("")).await.unwrap_err();
    assert!(it.left_over() >= 2);
    let held = std::fs::File::open(it.partial().join(format!("{}.lock", it.hub.sha256(WEIGHTS)))).unwrap();
    held.lock().unwrap();
    it.store().collect().unwrap();
    assert!(it.left_over() >= 2, "somebody was at it");
    drop(held);
    let swept = it.store().collect().unwrap();
    assert!(swept.files >= 2 && swept.bytes >= 4 << 20, "{swept:?}");
    assert_eq!(it.left_over(), 0);
}

#[tokio::test]
async fn a_file_of_ones_own_is_shared_where_it_lies() {
    let it = Box_::new(vec![]);
    let store = it.store();
    let own = it.folder.path().join("own.gguf");
    std::fs::write(&own, gguf(2 * MIB)).unwrap();
    let model = import(&store, &own, "mine", Some("MIT")).await.unwrap();
    assert_eq!((model.parameters, model.licence.as_deref()), (1024, Some("MIT")));
    use std::os::unix::fs::MetadataExt;
    assert_eq!(inode(&model.path), inode(&own));
    assert_eq!(std::fs::metadata(&own).unwrap().nlink(), 2);
    assert_eq!(import(&store, &own, "mine", None).await.unwrap().sha256, model.sha256);
    // From another disk it is copied.
    let stick = tempfile::tempdir_in("/dev/shm").unwrap();
    let there = stick.path().join("other.gguf");
    std::fs::write(&there, gguf(3 * MIB)).unwrap();
    let copied = import(&store, &there, "other", None).await.unwrap();
    assert_eq!(sha256(&std::fs::read(&copied.path).unwrap()), copied.sha256);
    store.verify(&copied).unwrap();
    assert!(matches!(import(&store, &there, "mine", None).await, Err(ModelsError::Taken(_))));
    assert!(matches!(import(&store, &there, "../x", None).await, Err(ModelsError::Name(_))));
    for (content, said) in [
        (b"hello".to_vec(), "no GGUF"),
        (gguf(MIB)[..60].to_vec(), "damaged"),
        (b"GGUF\x09\0\0\0".to_vec(), "version 9"),
        (gguf(0)[..].to_vec(), "longer than the file"),
    ] {
        std::fs::write(&own, content).unwrap();
        let error = import(&store, &own, "bad", None).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert!(import(&store, stick.path(), "bad", None).await.unwrap_err().to_string().contains("it is no file"));
    assert_eq!(store.list().unwrap().len(), 2);
}

fn inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).unwrap().ino()
}

async fn import(store: &Store, file: &Path, id: &str, licence: Option<&str>) -> Result<Installed, ModelsError> {
    store.import(&store.look(file, None)?, id, licence).await
}
