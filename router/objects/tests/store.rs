//! The store over a real file: whose things are whose, pages, bounds, and what damage costs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use allerac_objects::{Kind, New, Order, Page, Piece, Store, StoreError};
use tempfile::TempDir;

const SECRET: [u8; 32] = [7; 32];

fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &SECRET).unwrap();
    (folder, store)
}

fn new(kind: Kind, owner: u64, id: &str) -> New {
    New {
        kind,
        owner,
        id: id.into(),
        created_at: 1,
        expires_at: None,
        open: false,
        head: id.as_bytes().to_vec(),
        tail: None,
    }
}

fn page(after: Option<&str>, limit: usize, order: Order) -> Page {
    Page { after: after.map(str::to_owned), limit, order }
}

async fn ids(store: &Store, owner: u64, wanted: Page) -> (Vec<String>, bool) {
    let listed = store.list(Kind::Response, owner, wanted, |_| true).await.unwrap().unwrap();
    (listed.objects.into_iter().map(|object| object.id).collect(), listed.has_more)
}

#[tokio::test]
async fn an_object_is_its_owners_and_survives_a_restart() {
    let (folder, store) = store();
    let tail = Some(b"more".to_vec());
    store.put(New { tail, ..new(Kind::Response, 1, "a") }).await.unwrap();
    drop(store);
    let store = Store::open(folder.path(), &SECRET).unwrap();
    assert_eq!(store.get(Kind::Response, 1, "a").await.unwrap().unwrap().head, b"a");
    assert_eq!(store.tail(Kind::Response, 1, "a").await.unwrap().as_deref(), Some(&b"more"[..]));
    assert_eq!(store.get(Kind::Response, 2, "a").await.unwrap(), None);
    assert_eq!(store.get(Kind::File, 1, "a").await.unwrap(), None);
    assert!(!store.delete(Kind::Response, 2, "a").await.unwrap());
    assert!(store.delete(Kind::Response, 1, "a").await.unwrap());
    assert_eq!(store.get(Kind::Response, 1, "a").await.unwrap(), None);
}

#[tokio::test]
async fn lists_come_a_page_at_a_time() {
    let (_folder, store) = store();
    for id in ["a", "b", "c"] {
        store.put(new(Kind::Response, 1, id)).await.unwrap();
    }
    store.put(new(Kind::Response, 2, "d")).await.unwrap();
    let of = |ids: &[&str], more| (ids.iter().map(ToString::to_string).collect::<Vec<_>>(), more);
    assert_eq!(ids(&store, 1, page(None, 2, Order::Ascending)).await, of(&["a", "b"], true));
    assert_eq!(ids(&store, 1, page(Some("b"), 2, Order::Ascending)).await, of(&["c"], false));
    assert_eq!(ids(&store, 1, page(Some("b"), 2, Order::Descending)).await, of(&["a"], false));
    let unknown = store.list(Kind::Response, 1, page(Some("d"), 2, Order::Ascending), |_| true).await.unwrap();
    assert_eq!(unknown, None);
}

#[tokio::test]
async fn what_has_had_its_time_is_gone() {
    let (_folder, store) = store();
    store.put(New { expires_at: Some(1), ..new(Kind::Response, 1, "a") }).await.unwrap();
    assert_eq!(store.get(Kind::Response, 1, "a").await.unwrap(), None);
    assert_eq!(ids(&store, 1, page(None, 2, Order::Ascending)).await, (Vec::new(), false));
}

#[tokio::test]
async fn of_what_was_said_the_oldest_goes() {
    let (_folder, store) = store();
    let large = |id| New { head: vec![0; 100 * 1024 * 1024], ..new(Kind::Completion, 1, id) };
    // What grows is no older than what was last added to it.
    store.put(new(Kind::Conversation, 1, "talk")).await.unwrap();
    store.put(large("a")).await.unwrap();
    store.put(new(Kind::Completion, 2, "x")).await.unwrap();
    for id in ["b", "c"] {
        store.put(large(id)).await.unwrap();
    }
    let there = async |owner, id| store.get(Kind::Completion, owner, id).await.unwrap().is_some();
    assert!(!there(1, "a").await && there(1, "b").await && there(1, "c").await && there(2, "x").await);
    assert!(store.get(Kind::Conversation, 1, "talk").await.unwrap().is_some());
}

#[tokio::test]
async fn files_are_bounded_in_number() {
    let (_folder, store) = store();
    let files = (0..10_000).map(|number| new(Kind::File, 1, &number.to_string()));
    store.put_all(files.collect()).await.unwrap();
    let more = store.put(new(Kind::File, 1, "more")).await;
    assert!(matches!(more, Err(StoreError::TooMany { allowed: 10_000 })), "{more:?}");
    store.put(new(Kind::File, 1, "7")).await.unwrap();
    store.put(new(Kind::File, 2, "more")).await.unwrap();
    store.delete(Kind::File, 1, "0").await.unwrap();
    store.put(new(Kind::File, 1, "more")).await.unwrap();
}

#[tokio::test]
async fn pieces_belong_to_their_object_and_are_bounded() {
    let (_folder, store) = store();
    let file = (Kind::File, 1);
    let piece = |number, mark, data: &[u8]| Piece { number, mark, data: data.to_vec() };
    store.put(new(Kind::File, 1, "f")).await.unwrap();
    assert!(store.put_piece(file, "f", piece(0, false, b"zero"), Some(1000)).await.unwrap());
    assert!(store.put_piece(file, "f", piece(2, true, b"two"), Some(1000)).await.unwrap());
    assert!(!store.put_piece(file, "g", piece(0, false, b""), Some(1000)).await.unwrap());
    let full = store.put_piece(file, "f", piece(3, false, &[0; 1000]), Some(1000)).await;
    assert!(matches!(full, Err(StoreError::NoRoom { allowed: 1000, .. })), "{full:?}");
    assert_eq!(store.pieces(Kind::File, 1, "f").await.unwrap(), [(0, false), (2, true)]);
    assert_eq!(store.piece(Kind::File, 1, "f", 2).await.unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(store.piece(Kind::File, 2, "f", 2).await.unwrap(), None);
    store.delete(Kind::File, 1, "f").await.unwrap();
    assert_eq!(store.piece(Kind::File, 1, "f", 2).await.unwrap(), None);
}

#[tokio::test]
async fn all_that_somebody_keeps_counts_and_deleting_makes_room() {
    let (_folder, store) = store();
    let sized = |kind, id, bytes| New { head: vec![0; bytes], ..new(kind, 1, id) };
    let refused = |error| matches!(error, Err(StoreError::NoRoom { .. }));
    store.put_within(sized(Kind::File, "f", 600), Some(1000)).await.unwrap();
    // Of another person, and what is kept for a while only.
    store.put(New { head: vec![0; 5000], ..new(Kind::File, 2, "g") }).await.unwrap();
    store.put_within(sized(Kind::Answer, "a", 5000), Some(1000)).await.unwrap();
    assert!(refused(store.put_within(sized(Kind::Batch, "b", 600), Some(1000)).await));
    assert_eq!(store.get(Kind::Batch, 1, "b").await.unwrap(), None);
    // What was said gives way to what is said now, and to nothing else.
    store.put_within(sized(Kind::Response, "r", 200), Some(1000)).await.unwrap();
    store.put_within(sized(Kind::Completion, "c", 200), Some(1000)).await.unwrap();
    assert!(store.get(Kind::Response, 1, "r").await.unwrap().is_none());
    assert!(refused(store.put_within(sized(Kind::Completion, "d", 500), Some(1000)).await));
    assert!(store.get(Kind::Completion, 1, "c").await.unwrap().is_some());
    // Under a plan that allows less than is kept, whatever takes less is kept all the same.
    store.put_within(sized(Kind::File, "f", 500), Some(100)).await.unwrap();
    assert!(refused(store.refuse_full(1, Some(500)).await) && store.refuse_full(1, None).await.is_ok());
    let kept = store.kept_bytes(1).await.unwrap();
    assert!((700..800).contains(&kept), "{kept}");
    store.delete(Kind::File, 1, "f").await.unwrap();
    store.refuse_full(1, Some(500)).await.unwrap();
    store.put_within(sized(Kind::Batch, "b", 600), Some(1000)).await.unwrap();
}

#[tokio::test]
async fn pieces_that_come_at_once_exceed_nothing() {
    let (_folder, store) = store();
    for id in 0..16 {
        store.put(new(Kind::File, 1, &id.to_string())).await.unwrap();
    }
    let begun = store.kept_bytes(1).await.unwrap();
    let allowed = begun + 10_000;
    let piece = |id: u32| {
        let store = store.clone();
        let piece = Piece { number: 0, mark: false, data: vec![0; 1000] };
        async move { store.put_piece((Kind::File, 1), &id.to_string(), piece, Some(allowed)).await.is_ok() }
    };
    let tasks: Vec<_> = (0..16).map(|id| tokio::spawn(piece(id))).collect();
    let mut kept = 0;
    for task in tasks {
        kept += u64::from(task.await.unwrap());
    }
    // With what sealing adds, nine of them fit.
    assert_eq!(kept, 9);
    let bytes = store.kept_bytes(1).await.unwrap();
    assert!(bytes <= allowed && bytes > begun + 9000, "{bytes} of {allowed}");
}

#[tokio::test]
async fn an_upload_that_did_not_end_is_gone_after_a_restart() {
    let (folder, store) = store();
    store.put(New { open: true, ..new(Kind::File, 1, "f") }).await.unwrap();
    store.put(New { open: true, ..new(Kind::Batch, 1, "b") }).await.unwrap();
    drop(store);
    let store = Store::open(folder.path(), &SECRET).unwrap();
    assert_eq!(store.get(Kind::File, 1, "f").await.unwrap(), None);
    let open = store.open_objects(Kind::Batch).await.unwrap();
    assert_eq!(open.iter().map(|object| object.id.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn another_box_reads_nothing() {
    let (folder, store) = store();
    store.put(new(Kind::Response, 1, "a")).await.unwrap();
    drop(store);
    let store = Store::open(folder.path(), &[8; 32]).unwrap();
    assert_eq!(store.get(Kind::Response, 1, "a").await.unwrap(), None);
    assert_eq!(ids(&store, 1, page(None, 2, Order::Ascending)).await, (Vec::new(), false));
}

#[tokio::test]
async fn a_damaged_file_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("objects.db"), vec![b'x'; 8192]).unwrap();
    let store = Store::open(folder.path(), &SECRET).unwrap();
    store.put(new(Kind::Response, 1, "a")).await.unwrap();
    assert!(store.get(Kind::Response, 1, "a").await.unwrap().is_some());
    assert_eq!(std::fs::read(folder.path().join("objects.damaged")).unwrap().len(), 8192);
}
