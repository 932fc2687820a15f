use std::time::Duration;

use mdns_sd::{DaemonEvent, HostnameResolutionEvent, IfKind, IfPredicate, Receiver, ServiceDaemon, ServiceInfo};

use crate::label::Label;
use crate::network::{Scope, own_addresses};

/// How long to listen for another owner of a name before using it. Two questions go out in it, so one lost packet on a
/// wireless network does not hide the owner.
const TAKEN_WAIT: Duration = Duration::from_millis(1_300);

/// The responder repeats its goodbye after 120 ms (a packet may get lost); leave it that time.
const GOODBYE_REPEAT: Duration = Duration::from_millis(150);

/// The responder's thread answers within a round of its loop; beyond this it hangs and is abandoned.
const STOP_WAIT: Duration = Duration::from_secs(1);

/// A kind of service that the box announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// The page, for people.
    Http,
    /// The API, for programs that look for one.
    Saturn,
}

impl Service {
    fn kind(self) -> &'static str {
        match self {
            Self::Http => "_http._tcp.local.",
            Self::Saturn => "_saturn._tcp.local.",
        }
    }

    /// Everybody on the network reads this: no secret, no model, no person.
    fn text(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Http => &[("path", "/")],
            Self::Saturn => &[("version", "1"), ("api_type", "openai"), ("deployment", "local")],
        }
    }
}

/// One run of the mDNS library under one name. A new name gets a new responder: the library would otherwise rename
/// each record on each interface by itself, and two network cards could end up with two names.
pub(crate) struct Responder {
    daemon: ServiceDaemon,
    scope: Scope,
    label: Label,
    registered: Vec<String>,
}

impl Responder {
    pub(crate) fn start(scope: Scope, label: Label) -> Result<Self, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        daemon.disable_interface(IfKind::All)?;
        daemon.enable_interface(Self::interfaces(scope))?;
        Ok(Self { daemon, scope, label, registered: Vec::new() })
    }

    fn interfaces(scope: Scope) -> IfKind {
        IfKind::Predicate(IfPredicate::new(move |interface| scope.covers(interface.ip())))
    }

    pub(crate) fn events(&self) -> Result<Receiver<DaemonEvent>, mdns_sd::Error> {
        self.daemon.monitor()
    }

    /// Whether another machine answers to this name. Asked before announcing, because announcing and then withdrawing
    /// would make everybody forget the other machine's records of the same name.
    pub(crate) async fn is_taken(&self) -> Result<bool, mdns_sd::Error> {
        let host = format!("{}.", self.label.host());
        let wait_ms = u64::try_from(TAKEN_WAIT.as_millis()).expect("the constant fits");
        let answers = self.daemon.resolve_hostname(&host, Some(wait_ms))?;
        let own = own_addresses().unwrap_or_default();
        let foreign = async {
            while let Ok(event) = answers.recv_async().await {
                match event {
                    HostnameResolutionEvent::AddressesFound(_, found)
                        if found.iter().any(|address| !own.contains(&address.to_ip_addr())) =>
                    {
                        return true;
                    }
                    HostnameResolutionEvent::SearchTimeout(_) | HostnameResolutionEvent::SearchStopped(_) => break,
                    _ => {}
                }
            }
            false
        };
        let taken = tokio::time::timeout(TAKEN_WAIT + STOP_WAIT, foreign).await.unwrap_or(false);
        self.daemon.stop_resolve_hostname(&host)?;
        Ok(taken)
    }

    /// Probes for the name and announces; the library watches for new addresses by itself.
    pub(crate) fn announce(&mut self, service: Service, port: u16) -> Result<(), mdns_sd::Error> {
        let host = format!("{}.", self.label.host());
        let mut info =
            ServiceInfo::new(service.kind(), self.label.as_str(), &host, "", port, service.text())?.enable_addr_auto();
        info.set_interfaces(vec![Self::interfaces(self.scope)]);
        let name = info.get_fullname().to_owned();
        self.daemon.register(info)?;
        self.registered.push(name);
        Ok(())
    }

    /// Says goodbye, so that nobody keeps showing the box, and ends the library's thread.
    pub(crate) async fn stop(self) {
        let goodbyes: Vec<_> = self.registered.iter().filter_map(|name| self.daemon.unregister(name).ok()).collect();
        for goodbye in &goodbyes {
            let _ = tokio::time::timeout(STOP_WAIT, goodbye.recv_async()).await;
        }
        if !goodbyes.is_empty() {
            tokio::time::sleep(GOODBYE_REPEAT).await;
        }
        if let Ok(stopped) = self.daemon.shutdown() {
            let _ = tokio::time::timeout(STOP_WAIT, stopped.recv_async()).await;
        }
    }
}
