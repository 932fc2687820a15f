//! Responses that run on when their client leaves: what they said so far, for whoever comes back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use allerac_wire::ErrorDetail;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::error::ApiError;
use crate::sse;

/// Responses in the background, for each person: more would leave no place for others.
const PERSON_MAX: usize = 16;
/// On the whole box. Each holds its events in memory until it ends.
const ALL_MAX: usize = 64;
/// Pieces that may wait for a client.
const EVENTS_WAITING_MAX: usize = 64;

/// What runs in the background, by owner and id. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Background {
    all: Arc<Mutex<All>>,
    stop: CancellationToken,
}

type All = HashMap<(u64, String), Arc<Running>>;

/// One running response.
#[derive(Debug)]
pub(crate) struct Running {
    /// Ends it.
    pub(crate) cancel: CancellationToken,
    said: Mutex<Said>,
    /// How many events there are, and whether there will be more.
    progress: watch::Sender<(usize, bool)>,
}

#[derive(Debug)]
struct Said {
    /// As it stands.
    response: Value,
    events: Vec<Event>,
    /// It was deleted: nothing of it is kept.
    deleted: bool,
}

/// One event of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Its number, from 0.
    pub(crate) number: u64,
    /// As it is sent.
    pub(crate) text: Arc<str>,
}

impl Background {
    /// Adds one.
    pub(crate) fn add(&self, owner: u64, id: &str, response: Value) -> Result<Arc<Running>, ApiError> {
        let mut all = self.all();
        let own = all.keys().filter(|(other, _)| *other == owner).count();
        if own >= PERSON_MAX || all.len() >= ALL_MAX {
            return Err(ApiError::too_many_requests());
        }
        let running = Arc::new(Running::new());
        running.note(Some(response), Vec::new());
        all.insert((owner, id.to_owned()), Arc::clone(&running));
        Ok(running)
    }

    /// One of somebody's.
    pub(crate) fn find(&self, owner: u64, id: &str) -> Option<Arc<Running>> {
        self.all().get(&(owner, id.to_owned())).cloned()
    }

    /// Forgets one that has ended.
    pub(crate) fn remove(&self, owner: u64, id: &str) {
        self.all().remove(&(owner, id.to_owned()));
    }

    /// Ends all of it, because the box stops: what is not complete is begun again at the next start.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the box stops.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().expect("no code panics while it holds the list")
    }
}

impl Running {
    /// One that said nothing yet.
    pub(crate) fn new() -> Self {
        let said = Mutex::new(Said { response: Value::Null, events: Vec::new(), deleted: false });
        Self { cancel: CancellationToken::new(), said, progress: watch::Sender::new((0, false)) }
    }

    /// Notes how it stands, and what it said since.
    pub(crate) fn note(&self, response: Option<Value>, events: Vec<Event>) {
        let count = {
            let mut said = self.said();
            if let Some(response) = response {
                said.response = response;
            }
            said.events.extend(events);
            said.events.len()
        };
        self.progress.send_modify(|progress| progress.0 = count);
    }

    /// Notes that nothing more comes.
    pub(crate) fn end(&self) {
        self.progress.send_modify(|progress| progress.1 = true);
    }

    /// Waits until nothing more comes.
    pub(crate) async fn ended(&self) {
        // The sender lives as long as this does.
        let _ = self.progress.subscribe().wait_for(|progress| progress.1).await;
    }

    /// As it stands.
    pub(crate) fn response(&self) -> Value {
        self.said().response.clone()
    }

    /// Ends it, and has nothing of it kept.
    pub(crate) fn delete(&self) {
        self.said().deleted = true;
        self.cancel.cancel();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.said().deleted
    }

    /// Everything that it said, as it was sent.
    pub(crate) fn transcript(&self) -> String {
        self.said().events.iter().map(|event| event.text.as_ref()).collect()
    }

    /// Its events after a number, and those to come.
    pub(crate) fn follow(self: Arc<Self>, after: Option<u64>) -> mpsc::Receiver<Told> {
        let (sender, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
        let mut progress = self.progress.subscribe();
        tokio::spawn(async move {
            let mut seen = 0;
            loop {
                let (count, ended) = *progress.borrow_and_update();
                let fresh: Vec<Event> = self.said().events.get(seen..count).unwrap_or_default().to_vec();
                seen = count;
                let wanted = fresh.into_iter().filter(|event| after.is_none_or(|after| event.number > after));
                let text: String = wanted.map(|event| event.text.to_string()).collect();
                let told = Told::Events { text, last: ended };
                if !sse::deliver(&sender, told).await || ended {
                    return;
                }
                tokio::select! {
                    changed = progress.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
        receiver
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().expect("no code panics while it holds what was said")
    }
}

/// What a stream of a response is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// Events, as they are sent; perhaps the last.
    Events { text: String, last: bool },
    /// A comment: it waits.
    Comment(String),
    /// It failed before there was any event.
    Failed(ApiError),
}

impl sse::Lane for Told {
    fn failed(self) -> Result<Self, ApiError> {
        match self {
            Self::Failed(error) => Err(error),
            other => Ok(other),
        }
    }
}

/// Events pass as they are.
pub(crate) struct AsTold;

impl sse::Format<Told> for AsTold {
    fn format(&mut self, told: Told) -> (String, bool) {
        match told {
            Told::Events { text, last } => (text, last),
            Told::Comment(text) => (text, false),
            Told::Failed(error) => (failure(error), true),
        }
    }
}

/// The event of a response that failed while its client waited for the first one.
fn failure(error: ApiError) -> String {
    let ErrorDetail { message, param, code, .. } = error.about_input().body().error;
    let event = json!({"type": "error", "sequence_number": 0, "code": code, "message": message, "param": param});
    format!("event: error\nid: 0\ndata: {event}\n\n")
}
