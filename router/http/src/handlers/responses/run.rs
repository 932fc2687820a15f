//! Runs one response to its end, and keeps it before its end is told.

use std::sync::Arc;

use allerac_objects::Store;
use allerac_wire::ResponseStatus;
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::mpsc;

use super::again::Again;
use super::context::{Context, Kept};
use super::writer::{End, Writer};
use crate::background::{AsTold, Background, Event, Running, Told};
use crate::error::ApiError;
use crate::handlers::conversations;
use crate::progress::Progress;
use crate::sse;
use crate::state::AppState;

/// Pieces of a stream that may wait for the client.
const EVENTS_WAITING_MAX: usize = 64;

/// A response on its way.
pub(crate) struct Run {
    pub(crate) store: Store,
    pub(crate) owner: u64,
    /// What its owner may keep in all.
    pub(crate) bytes_max: Option<u64>,
    pub(crate) context: Context,
    pub(crate) is_kept: bool,
    pub(crate) writer: Writer,
    /// What it takes to begin it again after the box was stopped.
    pub(crate) again: Option<Again>,
}

impl Run {
    /// Waits for all of it.
    pub(crate) async fn whole(mut self, mut lane: mpsc::Receiver<Progress>) -> Result<Value, ApiError> {
        while let Some(progress) = lane.recv().await {
            match self.writer.push(progress) {
                None => {}
                Some(End::Failed(error)) => return Err(error),
                Some(end) => {
                    self.writer.end(end);
                    self.keep(None).await?;
                    return Ok(self.writer.response().json());
                }
            }
        }
        Err(stopped())
    }

    /// Tells it as it comes; an error where it fails before anything came.
    pub(crate) async fn stream(self, lane: mpsc::Receiver<Progress>) -> Result<Response, ApiError> {
        let (sender, told) = mpsc::channel(EVENTS_WAITING_MAX);
        tokio::spawn(self.tell(lane, sender));
        sse::answer(told, AsTold).await
    }

    async fn tell(mut self, mut lane: mpsc::Receiver<Progress>, sender: mpsc::Sender<Told>) {
        let mut begun = false;
        loop {
            let progress = tokio::select! {
                progress = lane.recv() => progress.unwrap_or_else(|| Progress::Failed(stopped())),
                // Dropping the lane ends the request.
                () = sender.closed() => return,
            };
            let progress = match progress {
                Progress::Failed(error) if !begun => {
                    sse::deliver(&sender, Told::Failed(error)).await;
                    return;
                }
                Progress::Waiting(wait) => {
                    if !sse::deliver(&sender, Told::Comment(sse::waits(wait))).await {
                        return;
                    }
                    continue;
                }
                other => other,
            };
            if !begun {
                begun = true;
                self.writer.create();
                self.writer.begin();
            }
            let end = self.writer.push(progress);
            let last = end.is_some();
            if let Some(end) = end {
                self.end(end, None).await;
            }
            let text = text_of(&self.writer.take_events());
            let says = last || !text.is_empty();
            if says && !sse::deliver(&sender, Told::Events { text, last }).await || last {
                return;
            }
        }
    }

    /// Ends it and keeps it. Where that cannot be done, the end says so.
    async fn end(&mut self, end: End, transcript: Option<&Running>) {
        self.writer.end(end);
        if let Err(error) = self.keep(transcript).await {
            self.writer.end(End::Failed(error));
        }
        self.writer.tell_end();
    }

    async fn keep(&self, running: Option<&Running>) -> Result<(), ApiError> {
        let kept = self.is_kept.then(|| {
            let tail = running.map(|running| running.transcript().into_bytes());
            self.kept().object(self.owner, false, tail)
        });
        match (&self.context.conversation, self.writer.response().status) {
            (Some(id), ResponseStatus::Completed | ResponseStatus::Incomplete) => {
                let asked = self.context.items[self.context.known..].iter();
                let said = asked.chain(&self.writer.response().output).cloned().collect();
                Ok(conversations::add(&self.store, (self.owner, self.bytes_max), id, said, kept).await?)
            }
            _ => match kept {
                Some(kept) => Ok(self.store.put_within(kept, self.bytes_max).await?),
                None => Ok(()),
            },
        }
    }

    /// Keeps that it is not complete, and how to begin it again.
    async fn keep_open(&self) -> Result<(), ApiError> {
        let mut kept = self.kept();
        kept.again.clone_from(&self.again);
        Ok(self.store.put_within(kept.object(self.owner, true, None), self.bytes_max).await?)
    }

    fn kept(&self) -> Kept {
        Kept::new(self.writer.response().json(), self.context.items.clone())
    }

    /// Takes a place in the background.
    pub(crate) fn go_background(&self, background: &Background) -> Result<InBackground, ApiError> {
        let response = self.writer.response();
        let running = background.add(self.owner, &response.id, response.json())?;
        Ok(InBackground { owner: self.owner, id: response.id.clone(), running })
    }
}

/// A response with a place in the background.
pub(crate) struct InBackground {
    owner: u64,
    id: String,
    running: Arc<Running>,
}

impl InBackground {
    /// Gives the place back.
    pub(crate) fn leave(&self, background: &Background) {
        self.running.end();
        background.remove(self.owner, &self.id);
    }

    /// Lets it run, and answers with how it stands or with its events.
    pub(crate) async fn start(
        self,
        run: Run,
        lane: mpsc::Receiver<Progress>,
        state: &AppState,
        stream: bool,
    ) -> Result<Response, ApiError> {
        let running = Arc::clone(&self.running);
        let response = self.launch(run, lane, state).await?;
        if stream { sse::answer(running.follow(None), AsTold).await } else { Ok(Json(response).into_response()) }
    }

    /// Lets it run; how it stands.
    pub(crate) async fn launch(
        self,
        mut run: Run,
        lane: mpsc::Receiver<Progress>,
        state: &AppState,
    ) -> Result<Value, ApiError> {
        run.writer.create();
        let events = run.writer.take_events();
        self.running.note(None, events);
        // After a restart it is begun again.
        if let Err(error) = run.keep_open().await {
            self.leave(&state.background);
            return Err(error);
        }
        let response = run.writer.response().json();
        tokio::spawn(self.run(run, lane, state.background.clone()));
        Ok(response)
    }

    async fn run(self, mut run: Run, mut lane: mpsc::Receiver<Progress>, background: Background) {
        let mut begun = false;
        let end = loop {
            let progress = tokio::select! {
                progress = lane.recv() => progress.unwrap_or_else(|| Progress::Failed(stopped())),
                () = self.running.cancel.cancelled() => break End::Cancelled,
                // It stays as it was kept, to be begun again when the box is back.
                () = background.stopped() => return self.leave(&background),
            };
            if matches!(progress, Progress::Waiting { .. }) {
                continue;
            }
            let begins = !begun && !matches!(progress, Progress::Failed(_));
            if begins {
                begun = true;
                run.writer.begin();
            }
            let end = run.writer.push(progress);
            let response = begins.then(|| run.writer.response().json());
            self.running.note(response, run.writer.take_events());
            if let Some(end) = end {
                break end;
            }
        };
        // Dropping the lane ends the request.
        drop(lane);
        run.writer.end(end);
        run.writer.tell_end();
        self.running.note(Some(run.writer.response().json()), run.writer.take_events());
        if !self.running.is_deleted()
            && let Err(error) = run.keep(Some(&self.running)).await
        {
            tracing::error!("a response could not be kept: {}", error.message);
        }
        background.remove(self.owner, &self.id);
        self.running.end();
    }
}

fn text_of(events: &[Event]) -> String {
    events.iter().map(|event| event.text.as_ref()).collect()
}

fn stopped() -> ApiError {
    allerac_engine_link::EngineError::Stopped.into()
}
