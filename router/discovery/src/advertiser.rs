use std::time::Duration;

use mdns_sd::DaemonEvent;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::label::Label;
use crate::network::Scope;
use crate::responder::{Responder, Service};

/// When no responder can be opened (no network yet, port 5353 held by a program that does not share it), try again
/// this often: rare enough to cost nothing, often enough that a plugged cable helps within a minute.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// Goodbyes and the end of the responder's thread, together; a shutdown waits no longer.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(3);

/// What to announce.
#[derive(Debug, Clone)]
pub struct AdvertiseConfig {
    /// The name to try first.
    pub label: Label,
    /// The port of the page and the API.
    pub port: u16,
    /// The addresses to announce.
    pub scope: Scope,
    /// Whether the box has an owner already.
    pub claimed: bool,
}

/// What others on the network see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Asking whether the name is free.
    Probing,
    /// Announced under this name, which differs from the configured one when another machine has that.
    Announced(Label),
    /// Not announced; it is tried again.
    Failed {
        /// For the log and for the administrator.
        reason: String,
    },
}

/// Announces the box until it is shut down or dropped (dropping says no goodbye).
#[derive(Debug)]
pub struct Advertiser {
    state: watch::Receiver<State>,
    claimed: watch::Sender<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Advertiser {
    /// Starts announcing on the current tokio runtime. Trouble shows in [`Advertiser::state`]; the server runs on.
    #[must_use]
    pub fn start(config: AdvertiseConfig) -> Self {
        let (state_sender, state) = watch::channel(State::Probing);
        let (claimed, claimed_receiver) = watch::channel(config.claimed);
        let stop = CancellationToken::new();
        let worker = Worker { config, state: state_sender, claimed: claimed_receiver, stop: stop.clone() };
        Self { state, claimed, stop, task: tokio::spawn(worker.run()) }
    }

    /// The box has an owner from now on: its API is announced too.
    pub fn set_claimed(&self) {
        self.claimed.send_replace(true);
    }

    /// What others see now, and each change of it.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Withdraws the announcements. Takes three seconds at most.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(SHUTDOWN_WAIT, &mut self.task).await.is_err() {
            tracing::warn!("the mDNS responder did not stop in time");
        }
    }
}

impl Drop for Advertiser {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Worker {
    config: AdvertiseConfig,
    state: watch::Sender<State>,
    claimed: watch::Receiver<bool>,
    stop: CancellationToken,
}

/// Why a responder's run ended.
enum End {
    Stopped,
    /// Another machine has the name.
    Taken,
}

impl Worker {
    async fn run(mut self) {
        let mut label = self.config.label.clone();
        loop {
            self.state.send_replace(State::Probing);
            match self.announce_as(label.clone()).await {
                Ok(End::Stopped) => return,
                Ok(End::Taken) => {
                    tracing::info!(taken = %label, next = %label.next(), "another machine has this name");
                    label = label.next();
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot announce over mDNS");
                    self.state.send_replace(State::Failed { reason: error.to_string() });
                    tokio::select! {
                        () = tokio::time::sleep(RETRY_EVERY) => {}
                        () = self.stop.cancelled() => return,
                    }
                }
            }
        }
    }

    async fn announce_as(&mut self, label: Label) -> Result<End, mdns_sd::Error> {
        let mut responder = Responder::start(self.config.scope, label.clone())?;
        let end = self.drive(&mut responder, label).await;
        responder.stop().await;
        end
    }

    async fn drive(&mut self, responder: &mut Responder, label: Label) -> Result<End, mdns_sd::Error> {
        let events = responder.events()?;
        let stop = self.stop.clone();
        tokio::select! {
            taken = responder.is_taken() => if taken? { return Ok(End::Taken) },
            () = stop.cancelled() => return Ok(End::Stopped),
        }
        responder.announce(Service::Http, self.config.port)?;
        let mut api_announced = false;
        loop {
            if *self.claimed.borrow_and_update() && !api_announced {
                responder.announce(Service::Saturn, self.config.port)?;
                api_announced = true;
            }
            tokio::select! {
                event = events.recv_async() => match event {
                    // Two machines started at the same moment; the library's probing found it.
                    Ok(DaemonEvent::NameChange(_)) => return Ok(End::Taken),
                    Ok(DaemonEvent::Announce(..)) => self.announced(&label),
                    Ok(DaemonEvent::Error(error)) => tracing::warn!(%error, "mDNS"),
                    Ok(_) => {}
                    Err(_) => return Err(mdns_sd::Error::DaemonShutdown),
                },
                Ok(()) = self.claimed.changed() => {}
                () = stop.cancelled() => return Ok(End::Stopped),
            }
        }
    }

    fn announced(&self, label: &Label) {
        let now = State::Announced(label.clone());
        self.state.send_if_modified(|state| {
            let changed = *state != now;
            *state = now;
            changed
        });
    }
}
