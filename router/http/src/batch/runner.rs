//! Works on one batch from where it stands to its end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use allerac_objects::{Kind, Piece};
use tokio::task::JoinSet;

use super::input::{Input, error};
use super::line::{self, Answered};
use super::output;
use super::record::{Record, Status};
use super::{LINES_AT_ONCE, Running};
use crate::error::ApiError;
use crate::handlers::now_s;
use crate::state::AppState;

/// Why no more lines are begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// All are answered.
    Answered,
    Cancelled,
    Expired,
}

/// Works on a batch. Where the store fails, the batch stays as it is until the next start.
pub(crate) async fn run(state: &AppState, owner: u64, running: &Running) {
    let record = running.record.borrow().clone();
    let id = record.id.clone();
    let mut work = Work { state, owner, running, record };
    if let Err(error) = work.run().await {
        tracing::error!(batch = %id, "a batch stops until the next start: {}", error.message);
    }
}

struct Work<'a> {
    state: &'a AppState,
    owner: u64,
    running: &'a Running,
    record: Record,
}

impl Work<'_> {
    async fn run(&mut self) -> Result<(), ApiError> {
        let store = &self.state.store;
        let input = Input::open(store, self.owner, &self.record.input_file_id, self.record.endpoint()).await?;
        let input = match input {
            Ok(input) => Arc::new(input),
            Err(errors) => {
                self.record.errors = errors;
                return self.come_to(Status::Failed).await;
            }
        };
        self.record.total = input.len();
        self.record.set_model(input.model.clone());
        if self.record.status == Status::Validating {
            self.come_to(Status::InProgress).await?;
        }
        let stop = self.answer_all(&input).await?;
        if stop == Stop::Cancelled && !self.record.is_cancelling() {
            self.come_to(Status::Cancelling).await?;
        }
        self.say_why_not(&input, stop).await?;
        if stop != Stop::Cancelled {
            self.come_to(Status::Finalizing).await?;
        }
        output::write(&self.state.store, self.owner, &mut self.record, |record| {
            record.become_(match stop {
                Stop::Answered => Status::Completed,
                Stop::Cancelled => Status::Cancelled,
                Stop::Expired => Status::Expired,
            });
        })
        .await?;
        self.publish();
        Ok(())
    }

    /// Keeps that it came to a status, then tells it.
    async fn come_to(&mut self, status: Status) -> Result<(), ApiError> {
        self.record.become_(status);
        self.state.store.put(self.record.object(self.owner)).await?;
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        self.running.record.send_replace(self.record.clone());
    }

    /// The numbers of lines that have been answered; counts them.
    async fn answered(&mut self) -> Result<HashSet<u32>, ApiError> {
        let pieces = self.state.store.pieces(Kind::Batch, self.owner, &self.record.id).await?;
        let failed = pieces.iter().filter(|(_, failed)| *failed).count();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (self.record.completed, self.record.failed) = (count(pieces.len() - failed), count(failed));
        Ok(pieces.into_iter().map(|(number, _)| number).collect())
    }

    /// Answers all lines that were not, a few at once.
    async fn answer_all(&mut self, input: &Arc<Input>) -> Result<Stop, ApiError> {
        if self.record.is_cancelling() {
            return Ok(Stop::Cancelled);
        }
        let answered = self.answered().await?;
        self.publish();
        let mut waiting = (0..input.len()).filter(|number| !answered.contains(number));
        let mut lines = JoinSet::new();
        let left_s = u64::try_from(self.record.expires_at - now_s()).unwrap_or(0);
        let expiry = tokio::time::sleep(Duration::from_secs(left_s));
        tokio::pin!(expiry);
        loop {
            while lines.len() < LINES_AT_ONCE {
                let Some(number) = waiting.next() else { break };
                lines.spawn(answer(self.state.clone(), self.owner, self.record.clone(), Arc::clone(input), number));
            }
            let stop = tokio::select! {
                biased;
                () = self.running.cancel.cancelled() => Err(Stop::Cancelled),
                () = &mut expiry => Err(Stop::Expired),
                joined = lines.join_next() => joined.ok_or(Stop::Answered),
            };
            let joined = match stop {
                Ok(joined) => joined,
                Err(stop) => {
                    // This ends the requests of lines that are being answered; what they cost is charged.
                    lines.shutdown().await;
                    return Ok(stop);
                }
            };
            let failed = joined.map_err(|_| ApiError::from(allerac_engine_link::EngineError::Stopped))??;
            *(if failed { &mut self.record.failed } else { &mut self.record.completed }) += 1;
            self.publish();
        }
    }

    /// Says of each line that was not answered why.
    async fn say_why_not(&mut self, input: &Input, stop: Stop) -> Result<(), ApiError> {
        let (code, message) = match stop {
            Stop::Answered => return Ok(()),
            Stop::Cancelled => ("batch_cancelled", "the batch was cancelled before this request was answered"),
            Stop::Expired => ("batch_expired", "the time of the batch was over before this request was answered"),
        };
        let answered = self.answered().await?;
        for number in (0..input.len()).filter(|number| !answered.contains(number)) {
            let bytes = input.line(&self.state.store, number).await?.unwrap_or_default();
            let line = line::unanswered(&self.record, number, &bytes, code, message);
            keep(self.state, self.owner, &self.record, number, Answered { failed: true, line }).await?;
        }
        self.answered().await?;
        Ok(())
    }
}

/// Answers a line and keeps that; whether it failed.
async fn answer(state: AppState, owner: u64, record: Record, input: Arc<Input>, number: u32) -> Result<bool, ApiError> {
    let place = Arc::clone(&state.batches.places).acquire_owned().await;
    let answered = match input.line(&state.store, number).await? {
        Some(bytes) => line::answer(&state, &record, number, &bytes).await,
        None => {
            let why = error("file_not_found", "the input file was deleted", None, None);
            Answered { failed: true, line: serde_json::json!({"custom_id": null, "response": null, "error": why}) }
        }
    };
    let failed = answered.failed;
    keep(&state, owner, &record, number, answered).await?;
    drop(place);
    Ok(failed)
}

async fn keep(state: &AppState, owner: u64, record: &Record, number: u32, answered: Answered) -> Result<(), ApiError> {
    let data = serde_json::to_vec(&answered.line).unwrap_or_default();
    let piece = Piece { number, mark: answered.failed, data };
    // What was paid for is kept, however much it is; it is bounded by the lines.
    state.store.put_piece((Kind::Batch, owner), &record.id, piece, None).await?;
    Ok(())
}
