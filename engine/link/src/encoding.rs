//! Requests of encoders: tokenised, then computed, with an end that says what it cost.

use std::sync::Arc;

use allerac_engine_core::encode::{Encode, EncodeFailure, Encoded, Sequence};
use allerac_engine_core::{Class, RequestId};
use tokio::sync::{mpsc, oneshot};

use crate::error::EngineError;
use crate::handle::{CANCEL_WAIT_MAX, Engine};
use crate::protocol::EncodeInput;
use crate::supervisor::Request;
use crate::worked::{Running, Worked};

/// A request of an encoder without its name, which the handle gives.
#[derive(Debug, Clone)]
pub struct EncodeSpec {
    /// See [`Encode::salt`].
    pub salt: u64,
    /// See [`Encode::class`].
    pub class: Class,
    /// See [`Encode::sequences`].
    pub sequences: Vec<Sequence>,
    /// Where it is counted what is done for it.
    pub worked: Arc<Worked>,
}

/// A request of an encoder under way. Dropping it cancels it.
#[derive(Debug)]
pub struct Encoding {
    id: RequestId,
    answer: oneshot::Receiver<Result<Encoded, EngineError>>,
    /// A place in the supervisor's lane, taken beforehand so that a drop can always cancel.
    cancel: Option<mpsc::OwnedPermit<Request>>,
}

impl Engine {
    /// Tokenises texts for an encoder, waiting for the model where it is not loaded yet.
    ///
    /// # Errors
    /// [`EngineError::Prepare`] for what is no text for this model; others when the engine cannot answer.
    pub async fn tokenise(&self, inputs: Vec<EncodeInput>) -> Result<Vec<Sequence>, EngineError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Tokenise { id: self.new_id(), inputs, reply };
        self.requests.send(request).await.map_err(|_| EngineError::Stopped)?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }

    /// Starts to compute vectors or scores.
    ///
    /// # Errors
    /// [`EngineError::Stopped`]; everything else comes as the answer.
    pub async fn encode(&self, spec: EncodeSpec) -> Result<Encoding, EngineError> {
        let id = self.new_id();
        let (reply, answer) = oneshot::channel();
        let cancel = self.requests.clone().reserve_owned().await.map_err(|_| EngineError::Stopped)?;
        let EncodeSpec { salt, class, sequences, worked } = spec;
        let running = Running::new(worked);
        let request = Request::Encode { request: Encode { id, salt, class, sequences }, reply, running };
        self.requests.send(request).await.map_err(|_| EngineError::Stopped)?;
        Ok(Encoding { id, answer, cancel: Some(cancel) })
    }
}

impl Encoding {
    /// Waits for the end: a vector for each sequence, or why there is none; and the tokens that were computed.
    pub async fn end(&mut self) -> (Result<Vec<Vec<f32>>, EngineError>, u32) {
        let answer = (&mut self.answer).await;
        self.cancel = None;
        match answer {
            Ok(Ok(Encoded { tokens, result, .. })) => (result.map_err(failure), tokens),
            Ok(Err(error)) => (Err(error), 0),
            Err(_) => (Err(EngineError::Stopped), 0),
        }
    }

    /// Cancels and waits, a bounded time, for what it cost: the tokens that were computed.
    pub async fn cancel(mut self) -> u32 {
        if let Some(permit) = self.cancel.take() {
            permit.send(Request::Cancel(self.id));
        }
        tokio::time::timeout(CANCEL_WAIT_MAX, self.end()).await.map_or(0, |(_, tokens)| tokens)
    }
}

impl Drop for Encoding {
    fn drop(&mut self) {
        if let Some(permit) = self.cancel.take() {
            permit.send(Request::Cancel(self.id));
        }
    }
}

fn failure(failure: EncodeFailure) -> EngineError {
    match failure {
        EncodeFailure::Cancelled => EngineError::Stopped,
        EncodeFailure::Refused(reason) => reason.into(),
        EncodeFailure::Backend(message) => EngineError::Backend { message },
    }
}
