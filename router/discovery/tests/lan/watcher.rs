//! Browses from another machine and remembers what is there now.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use mdns_sd::{ServiceDaemon, ServiceEvent};

use crate::DEADLINE;

/// A service as the network shows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) text: Vec<(String, String)>,
    pub(crate) addresses: Vec<IpAddr>,
}

type Services = BTreeMap<(String, String), Seen>;

pub(crate) struct Watcher {
    daemon: ServiceDaemon,
    seen: Arc<(Mutex<Services>, Condvar)>,
}

impl Watcher {
    pub(crate) fn start(kinds: &[&'static str]) -> Self {
        let daemon = ServiceDaemon::new().unwrap();
        let seen = Arc::new((Mutex::new(Services::new()), Condvar::new()));
        for kind in kinds.iter().copied() {
            let (events, seen) = (daemon.browse(kind).unwrap(), Arc::clone(&seen));
            thread::spawn(move || {
                while let Ok(event) = events.recv() {
                    note(&mut seen.0.lock().unwrap(), kind, event);
                    seen.1.notify_all();
                }
            });
        }
        Self { daemon, seen }
    }

    pub(crate) fn resolved(&self, kind: &str, name: &str) -> Seen {
        let key = (kind.to_owned(), name.to_owned());
        self.wait(&format!("{name} of {kind}"), |services| services.get(&key).cloned())
    }

    pub(crate) fn wait_for_addresses(&self, kind: &str, name: &str, addresses: &[&str]) {
        let key = (kind.to_owned(), name.to_owned());
        let expected: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.wait(&format!("{name} of {kind} at {addresses:?}"), |services| {
            services.get(&key).filter(|seen| seen.addresses == expected).map(|_| ())
        });
    }

    pub(crate) fn wait_for_instances(&self, kind: &str, names: &[&str]) {
        self.wait(&format!("{names:?} of {kind}"), |services| (names_of(services, kind) == names).then_some(()));
    }

    pub(crate) fn wait_until_gone(&self, kind: &str, name: &str) {
        let key = (kind.to_owned(), name.to_owned());
        self.wait(&format!("{name} of {kind} to go"), |services| (!services.contains_key(&key)).then_some(()));
    }

    pub(crate) fn instances(&self, kind: &str) -> Vec<String> {
        names_of(&self.seen.0.lock().unwrap(), kind)
    }

    fn wait<T>(&self, what: &str, found: impl Fn(&Services) -> Option<T>) -> T {
        let until = Instant::now() + DEADLINE;
        let mut services = self.seen.0.lock().unwrap();
        loop {
            if let Some(found) = found(&services) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited for {what}; seen: {services:#?}");
            services = self.seen.1.wait_timeout(services, left).unwrap().0;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.daemon.shutdown();
    }
}

fn names_of(services: &Services, kind: &str) -> Vec<String> {
    services.keys().filter(|(of, _)| of == kind).map(|(_, name)| name.clone()).collect()
}

fn note(services: &mut Services, kind: &str, event: ServiceEvent) {
    let name = |fullname: &str| fullname.strip_suffix(kind).unwrap().trim_end_matches('.').to_owned();
    match event {
        ServiceEvent::ServiceResolved(service) => {
            let mut addresses: Vec<IpAddr> =
                service.get_addresses().iter().map(mdns_sd::ScopedIp::to_ip_addr).collect();
            addresses.sort();
            let mut text: Vec<(String, String)> = service
                .get_properties()
                .iter()
                .map(|property| (property.key().to_owned(), property.val_str().to_owned()))
                .collect();
            text.sort();
            let seen = Seen { host: service.get_hostname().to_owned(), port: service.get_port(), text, addresses };
            services.insert((kind.to_owned(), name(service.get_fullname())), seen);
        }
        ServiceEvent::ServiceRemoved(_, fullname) => {
            services.remove(&(kind.to_owned(), name(&fullname)));
        }
        _ => {}
    }
}
