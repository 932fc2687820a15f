//! Runs a request of an encoder (embeddings, scores) and accounts for it.
//!
//! A task of its own owns the reservation, as for generations: when the client leaves, it cancels and settles what
//! was computed. Whatever happens, it settles exactly once.

use std::time::Instant;

use allerac_engine_core::{Class, Sequence};
use allerac_engine_link::protocol::EncodeInput;
use allerac_engine_link::{EncodeSpec, EngineError};
use allerac_ledger::{Outcome, Principal, Reserve, Settlement, Urgency};
use allerac_metrics::{Outcome as Ended, RequestLabels, RequestMeter, Tokens};
use allerac_router_core::{Endpoint, LocalModel, ModelKind};
use tokio::sync::oneshot;

use crate::auth::Admitted;
use crate::error::ApiError;
use crate::generation::LOCAL;
use crate::payment::Till;
use crate::prepare::{LOAD_WAIT_MAX, Loaded};
use crate::state::AppState;

/// Tokens of one request, as OpenAI's API has it.
const TOKENS_MAX: u32 = 300_000;

/// What an encoder is asked.
pub(crate) struct Job {
    pub(crate) endpoint: Endpoint,
    pub(crate) inputs: Vec<EncodeInput>,
    /// The field of the request that an input came in, for errors about it.
    pub(crate) param: fn(usize) -> String,
    /// The field that all of them came in.
    pub(crate) all: &'static str,
    /// Whether a text that is too long is cut.
    pub(crate) cuts: bool,
}

/// What came of it.
pub(crate) struct Computed {
    /// A vector for each input.
    pub(crate) vectors: Vec<Vec<f32>>,
    /// Of all inputs.
    pub(crate) tokens: u32,
}

/// Refuses a model that is not for this.
pub(crate) fn only(model: &LocalModel, kinds: &[ModelKind]) -> Result<(), ApiError> {
    if kinds.contains(&model.kind) {
        return Ok(());
    }
    let does = match model.kind {
        ModelKind::Chat => "generates text; ask /v1/chat/completions, or use an embedding model here",
        ModelKind::Embedding => "makes embeddings; ask /v1/embeddings, or use another model here",
        ModelKind::Reranker => "ranks documents; ask /v1/rerank, or use another model here",
    };
    Err(ApiError::wrong_kind(&model.id, does))
}

/// Runs a request in a task of its own and waits for it.
pub(crate) async fn run(
    state: &AppState,
    principal: Principal,
    (model, loaded): (&LocalModel, Loaded),
    admitted: Admitted,
    job: Job,
) -> Result<Computed, ApiError> {
    let labels = RequestLabels {
        endpoint: job.endpoint.name(),
        model: model.id.clone(),
        class: class(&principal),
        served_by: LOCAL.to_owned(),
    };
    let run = Run {
        measure: state.metrics.request(labels, admitted.accepted),
        till: Till::of(state),
        model: model.id.clone(),
        principal,
        admitted,
        loaded,
    };
    let (sender, answer) = oneshot::channel();
    tokio::spawn(run.run(job, sender));
    answer.await.map_err(|_| EngineError::Stopped)?
}

struct Run {
    measure: RequestMeter,
    till: Till,
    model: String,
    principal: Principal,
    admitted: Admitted,
    loaded: Loaded,
}

type Reply = oneshot::Sender<Result<Computed, ApiError>>;

impl Run {
    async fn run(self, job: Job, mut reply: Reply) {
        let computed = self.compute(job, &mut reply).await;
        // A client that left asks no more.
        let _ = reply.send(computed);
    }

    async fn compute(mut self, job: Job, reply: &mut Reply) -> Result<Computed, ApiError> {
        let all = job.all;
        let tokenised = tokio::time::timeout(LOAD_WAIT_MAX, self.loaded.lease.tokenise(job.inputs)).await;
        let mut sequences = tokenised.map_err(|_| EngineError::Timeout)?.map_err(|error| match error {
            EngineError::Prepare(_) => ApiError::from(error).with_param(all),
            other => other.into(),
        })?;
        let context = self.loaded.info.context;
        if job.cuts {
            sequences.iter_mut().for_each(|sequence| cut(sequence, context));
        }
        let tokens = count(&sequences, context, job.param, all)?;
        let reserve = Reserve {
            request_id: self.admitted.request_id,
            model: self.model,
            endpoint: job.endpoint.name(),
            served_by: LOCAL.into(),
            prompt_tokens: tokens,
            max_output_tokens: 0,
        };
        let mut payment = self.till.set_aside(&self.principal, &self.admitted.accounts, reserve).await?;
        let (class, worked) = (class(&self.principal), payment.worked());
        let spec = EncodeSpec { salt: self.principal.salt, class, sequences, worked };
        let mut encoding = self.loaded.lease.encode(spec).await?;
        let ended = tokio::select! {
            ended = encoding.end() => Some(ended),
            () = reply.closed() => None,
        };
        let (result, computed, left) = match ended {
            Some((result, computed)) => (result, computed, false),
            None => (Err(EngineError::ClientStalled), encoding.cancel().await, true),
        };
        let (outcome, ended) = match (&result, left) {
            (Ok(_), _) => (Outcome::Completed, Ended::Completed),
            (Err(_), true) => (Outcome::Cancelled, Ended::Cancelled),
            (Err(_), false) => (Outcome::Failed, if computed > 0 { Ended::Failed } else { Ended::Refused }),
        };
        self.measure.end(ended, Tokens { prompt: computed, ..Tokens::default() }, Instant::now());
        if computed == 0 {
            payment.release();
        } else {
            // Counted before it is sent: should the process die, this stands for the settlement.
            payment.count(computed, 0, 0)?;
            let settlement = Settlement { prompt_tokens: computed, cached_tokens: 0, completion_tokens: 0, outcome };
            payment.settle(settlement).await;
        }
        Ok(Computed { vectors: result?, tokens })
    }
}

/// Cuts a text to what the model reads at a time. Its last token is one that ends a text, and stays.
fn cut(sequence: &mut Sequence, context: u32) {
    let Some(last) = sequence.tokens.last().copied() else { return };
    if sequence.tokens.len() > context as usize {
        sequence.tokens.truncate((context as usize).saturating_sub(1));
        sequence.tokens.push(last);
        sequence.second = sequence.second.min(context);
    }
}

/// Encodings are as urgent as usual, unless the plan lets others pass.
fn class(principal: &Principal) -> Class {
    match principal.urgency() {
        Urgency::Batch => Class::Batch,
        Urgency::Chat | Urgency::Voice => Class::Chat,
    }
}

/// All tokens, where none of the inputs is too long, nor all of them.
fn count(sequences: &[Sequence], context: u32, param: fn(usize) -> String, all: &str) -> Result<u32, ApiError> {
    let too_long = sequences.iter().position(|sequence| sequence.tokens.len() > context as usize);
    if let Some(index) = too_long {
        let length = sequences[index].tokens.len();
        let message = format!("the model reads {context} tokens at a time; `{}` has {length}", param(index));
        return Err(ApiError::too_long(&param(index), message));
    }
    let tokens = sequences.iter().map(|sequence| sequence.tokens.len()).sum::<usize>();
    u32::try_from(tokens).ok().filter(|tokens| *tokens <= TOKENS_MAX).ok_or_else(|| {
        let message = format!("a request has at most {TOKENS_MAX} tokens; this one has {tokens}: send fewer texts");
        ApiError::too_long(all, message)
    })
}

#[cfg(test)]
mod tests {
    use allerac_engine_core::TokenId;

    use super::*;

    #[test]
    fn a_text_is_cut_before_the_token_that_ends_it() {
        let text = |tokens: &[u32]| Sequence {
            tokens: tokens.iter().copied().map(TokenId).collect(),
            second: u32::try_from(tokens.len()).unwrap(),
        };
        for (from, to) in [(&[1, 2, 3, 4, 9][..], &[1, 2, 9][..]), (&[1, 2, 9], &[1, 2, 9]), (&[], &[])] {
            let mut sequence = text(from);
            cut(&mut sequence, 3);
            assert_eq!(sequence, text(to));
        }
    }
}
