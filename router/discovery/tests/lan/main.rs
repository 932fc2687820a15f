//! The box is announced to, and found from, another host: each host is a network namespace of its own on one bridge.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod network;
mod watcher;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use allerac_discovery::{AdvertiseConfig, Advertiser, Label, Scope, State};
use network::{Host, Lan};
use tokio::runtime::Runtime;
use watcher::Watcher;

const HTTP: &str = "_http._tcp.local.";
const SATURN: &str = "_saturn._tcp.local.";
const PORT: u16 = 8080;

/// Far beyond what probing and announcing take (about 3 s), on a busy machine too.
const DEADLINE: Duration = Duration::from_secs(30);

/// Longer than probing and announcing take: a name still kept after it stays.
const SETTLED: Duration = Duration::from_secs(4);

/// An advertiser whose sockets live in a host's namespace.
struct Box {
    runtime: Runtime,
    advertiser: Advertiser,
}

impl Box {
    fn start(host: &Host, claimed: bool) -> Self {
        host.inside(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let label = Label::new("allerac").unwrap();
            let config = AdvertiseConfig { label, port: PORT, scope: Scope::AnyV4, claimed };
            let advertiser = runtime.block_on(async { Advertiser::start(config) });
            Self { runtime, advertiser }
        })
    }

    fn announced_name(&self) -> String {
        let mut state = self.advertiser.state();
        let reached = async { state.wait_for(|state| matches!(state, State::Announced(_))).await.unwrap().clone() };
        match self.runtime.block_on(async { tokio::time::timeout(DEADLINE, reached).await }) {
            Ok(State::Announced(label)) => label.to_string(),
            other => panic!("not announced: {other:?}, now {:?}", self.advertiser.state().borrow()),
        }
    }

    fn stop(self) {
        self.runtime.block_on(self.advertiser.shutdown());
    }
}

#[test]
fn the_page_is_found_at_once_and_the_api_once_claimed() {
    let lan = Lan::new();
    let host = lan.add_host(&["192.0.2.10"]);
    let watcher = lan.inside(|| Watcher::start(&[HTTP, SATURN]));
    let announced = Box::start(&host, false);

    let page = watcher.resolved(HTTP, "allerac");
    assert_eq!(page.host, "allerac.local.");
    assert_eq!(page.port, PORT);
    assert_eq!(page.text, [("path".to_owned(), "/".to_owned())]);
    watcher.wait_for_addresses(HTTP, "allerac", &["192.0.2.10"]);
    assert_eq!(watcher.instances(SATURN), Vec::<String>::new(), "the API was announced before the box had an owner");

    announced.advertiser.set_claimed();
    let api = watcher.resolved(SATURN, "allerac");
    assert_eq!((api.host.as_str(), api.port), ("allerac.local.", PORT));
    let text = [("api_type", "openai"), ("deployment", "local"), ("version", "1")];
    assert_eq!(api.text, text.map(|(key, value)| (key.to_owned(), value.to_owned())));

    assert_eq!(lan.inside(ask_for_the_host), Ipv4Addr::new(192, 0, 2, 10), "a plain DNS question gets another answer");

    announced.stop();
    watcher.wait_until_gone(HTTP, "allerac");
    watcher.wait_until_gone(SATURN, "allerac");
}

#[test]
fn a_second_box_takes_the_next_name_and_the_first_keeps_its_own() {
    let lan = Lan::new();
    let (one, two) = (lan.add_host(&["192.0.2.10"]), lan.add_host(&["192.0.2.20"]));
    let watcher = lan.inside(|| Watcher::start(&[HTTP]));
    let first = Box::start(&one, true);
    assert_eq!(first.announced_name(), "allerac");
    let second = Box::start(&two, true);
    assert_eq!(second.announced_name(), "allerac-2");

    watcher.wait_for_addresses(HTTP, "allerac", &["192.0.2.10"]);
    watcher.wait_for_addresses(HTTP, "allerac-2", &["192.0.2.20"]);
    assert_eq!(watcher.resolved(HTTP, "allerac-2").host, "allerac-2.local.");
    assert_eq!(first.announced_name(), "allerac");
    assert_eq!(watcher.instances(HTTP), ["allerac", "allerac-2"]);
    second.stop();
    first.stop();
}

#[test]
fn boxes_that_start_together_end_with_different_names() {
    let lan = Lan::new();
    let (one, two) = (lan.add_host(&["192.0.2.10"]), lan.add_host(&["192.0.2.20"]));
    let watcher = lan.inside(|| Watcher::start(&[HTTP]));
    let boxes = [Box::start(&one, true), Box::start(&two, true)];
    watcher.wait_for_instances(HTTP, &["allerac", "allerac-2"]);
    let mut names = boxes.each_ref().map(Box::announced_name);
    names.sort();
    assert_eq!(names, ["allerac", "allerac-2"]);
    boxes.into_iter().for_each(Box::stop);
}

#[test]
fn two_network_cards_on_one_lan_share_the_name() {
    let lan = Lan::new();
    let host = lan.add_host(&["192.0.2.10", "192.0.2.11"]);
    let watcher = lan.inside(|| Watcher::start(&[HTTP]));
    let announced = Box::start(&host, true);
    assert_eq!(announced.announced_name(), "allerac");
    watcher.wait_for_addresses(HTTP, "allerac", &["192.0.2.10", "192.0.2.11"]);

    let mut state = announced.advertiser.state();
    state.mark_unchanged();
    let changed = announced.runtime.block_on(async { tokio::time::timeout(SETTLED, state.changed()).await });
    assert!(changed.is_err(), "the cards fight: {:?}", announced.advertiser.state().borrow());
    assert_eq!(watcher.instances(HTTP), ["allerac"]);
    announced.stop();
}

/// An independent witness: a hand-written one-shot question (RFC 6762 section 6.7), as a resolver without mDNS sends it.
fn ask_for_the_host() -> Ipv4Addr {
    const QUESTION: &[u8] = b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07allerac\x05local\x00\x00\x01\x00\x01";
    const TYPE_A_CLASS_IN: [u8; 4] = [0, 1, 0, 1];
    const TTL_AND_LENGTH: usize = 6;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.send_to(QUESTION, (IpAddr::from([224, 0, 0, 251]), 5353)).unwrap();
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer).expect("no answer to a one-shot question");
    assert_eq!(&answer[..2], &QUESTION[..2], "the answer repeats the question's id");
    let records = &answer[QUESTION.len()..length];
    let start = records.windows(4).position(|bytes| bytes == TYPE_A_CLASS_IN).expect("no address record") + 4;
    let address: [u8; 4] = records[start + TTL_AND_LENGTH..][..4].try_into().unwrap();
    Ipv4Addr::from(address)
}
