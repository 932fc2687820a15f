//! Runs a request on a local engine and accounts for it.
//!
//! A task of its own drives the generations and owns the reservation; the handler only reads what it
//! sends. When the handler or the response body is dropped, because the client left, the task notices,
//! cancels, and settles what was produced. Whatever happens, it settles exactly once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use allerac_engine_core::{Chunk, FinishReason, TokenLogprob};
use allerac_engine_link::{EngineError, GenerateSpec, Generation, GenerationEvent};
use allerac_ledger::{Outcome, Principal, Settlement};
use allerac_metrics::{Outcome as Ended, RequestLabels, RequestMeter, Tokens};
use allerac_parse::Piece;
use allerac_router_core::{Lease, LocalModel, Permit};
use allerac_wire::CompletionUsage;
use futures_util::stream::{SelectAll, unfold};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::choice::Choice;
use crate::error::ApiError;
use crate::payment::{Payment, Till};
use crate::prepare::{Job, class, prepare};
use crate::progress::{Begun, Finish, Progress, Wait};
use crate::sse;
use crate::state::AppState;

/// Parts of an answer that may wait for the client; then the engine's own bound counts.
const PROGRESS_WAITING_MAX: usize = 64;

/// Who computes what is computed here, in the ledger and in metrics.
pub(crate) const LOCAL: &str = "local";

/// Runs a request in a task of its own; what comes of it arrives in the returned lane.
pub(crate) fn start(
    state: &AppState,
    principal: Principal,
    model: Arc<LocalModel>,
    mut job: Job,
) -> mpsc::Receiver<Progress> {
    let wanted = &mut job.ask.options_mut().sampling;
    wanted.temperature = wanted.temperature.or(model.sampling.temperature);
    wanted.top_p = wanted.top_p.or(model.sampling.top_p);
    wanted.top_k = wanted.top_k.or(model.sampling.top_k);
    wanted.min_p = wanted.min_p.or(model.sampling.min_p);
    let (sender, receiver) = mpsc::channel(PROGRESS_WAITING_MAX);
    let (till, registry) = (Till::of(state), state.registry.clone());
    let labels = RequestLabels {
        endpoint: job.endpoint.name(),
        model: model.id.clone(),
        class: class(job.ask.options().service_tier),
        served_by: LOCAL.to_owned(),
    };
    let measure = state.metrics.request(labels, job.admitted.accepted);
    tokio::spawn(async move {
        let client = Client { sender: sender.clone(), measure };
        let run = prepare(&till, &principal, &registry, &model, job, client).await;
        let last = match run {
            Ok((run, specs)) => run.drive(specs).await,
            Err(error) => Progress::Failed(error),
        };
        sse::deliver(&sender, last).await;
    });
    receiver
}

/// A running request.
pub(crate) struct Run {
    pub(crate) request_id: Uuid,
    pub(crate) payment: Payment,
    /// The engine, for as long as it runs.
    pub(crate) lease: Lease,
    pub(crate) client: Client,
    /// Of all prompts. Each is charged once, however many choices it has.
    pub(crate) prompt_tokens: u32,
    /// How long it waited for its model.
    pub(crate) load_time: Duration,
    /// When the engine was asked for the last of its choices.
    pub(crate) asked: Instant,
    pub(crate) choices: Vec<Choice>,
    /// Choices that begin once the scores of their prompt are known.
    pub(crate) held: Vec<Held>,
    /// Where an answer ends.
    pub(crate) stops: Vec<String>,
    pub(crate) _permit: Permit,
}

/// A choice whose prompt is scored for another one: what was computed for that is there when this one begins.
pub(crate) struct Held {
    scorer: usize,
    index: usize,
    spec: GenerateSpec,
}

/// Whom a run is for: where its progress goes, and what it is like to wait for it.
pub(crate) struct Client {
    pub(crate) sender: mpsc::Sender<Progress>,
    pub(crate) measure: RequestMeter,
}

/// How a run ended.
enum End {
    Completed,
    ClientLeft,
    Failed(ApiError),
}

type Events = std::pin::Pin<Box<dyn Stream<Item = (usize, GenerationEvent)> + Send>>;

impl Run {
    /// Computes all choices and settles; returns the last thing to say.
    async fn drive(mut self, specs: Vec<GenerateSpec>) -> Progress {
        let cancel = CancellationToken::new();
        let mut running = SelectAll::new();
        let mut end = None;
        let mut scorer = 0;
        for (index, spec) in specs.into_iter().enumerate() {
            if spec.score_prompt {
                scorer = index;
            } else if self.choices[index].waits_for_scores() {
                self.held.push(Held { scorer, index, spec });
                continue;
            }
            end = end.or(self.begin(index, spec, &mut running, &cancel).await);
        }
        let end = match end {
            Some(end) => end,
            None => self.follow(&mut running, &cancel).await,
        };
        // What still runs is cancelled and says what it cost.
        cancel.cancel();
        while let Some((index, event)) = running.next().await {
            let _ = self.note(index, event);
        }
        self.settle(end).await
    }

    /// Begins a choice; the end where that cannot be.
    async fn begin(
        &mut self,
        index: usize,
        spec: GenerateSpec,
        running: &mut SelectAll<Events>,
        cancel: &CancellationToken,
    ) -> Option<End> {
        self.asked = Instant::now();
        self.client.measure.queued(index, self.asked);
        match self.lease.generate(spec).await {
            Ok(generation) => running.push(events(index, generation, cancel.clone())),
            Err(error) => return Some(End::Failed(error.into())),
        }
        None
    }

    /// Begins the choices that waited for scores which are told now.
    async fn begin_held(&mut self, running: &mut SelectAll<Events>, cancel: &CancellationToken) -> Option<End> {
        let is_ready = |held: &Held| !self.choices[held.index].waits_for_scores();
        let (ready, held) = std::mem::take(&mut self.held).into_iter().partition(is_ready);
        self.held = held;
        let ready: Vec<Held> = ready;
        let mut end = None;
        for Held { index, spec, .. } in ready {
            end = end.or(self.begin(index, spec, running, cancel).await);
        }
        end
    }

    /// Gives the scores of a choice to those that have the same prompt.
    fn share_scores(&mut self, scorer: usize) {
        for held in self.held.iter().filter(|held| held.scorer == scorer) {
            if let Some(scores) = self.choices[scorer].scores().map(<[_]>::to_vec) {
                self.choices[held.index].adopt(scores);
            }
        }
    }

    /// Passes events on until all choices ended, one failed, or the client left.
    async fn follow(&mut self, running: &mut SelectAll<Events>, cancel: &CancellationToken) -> End {
        let sender = self.client.sender.clone();
        loop {
            let event = tokio::select! {
                event = running.next() => event,
                () = sender.closed() => return End::ClientLeft,
            };
            let Some((index, event)) = event else { return End::Completed };
            let all = match self.note(index, event) {
                Ok(all) => all,
                Err(error) => return End::Failed(error),
            };
            for progress in all {
                if !sse::deliver(&sender, progress).await {
                    return End::ClientLeft;
                }
            }
            if let Some(end) = self.begin_held(running, cancel).await {
                return end;
            }
        }
    }

    /// Counts an event in the ledger and turns it into progress.
    fn note(&mut self, index: usize, event: GenerationEvent) -> Result<Vec<Progress>, ApiError> {
        if matches!(event, GenerationEvent::Chunk(_) | GenerationEvent::Finished { .. }) {
            self.share_scores(index);
        }
        let (measure, place) = (&mut self.client.measure, index);
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let choice = &mut self.choices[place];
        let progress = match event {
            GenerationEvent::Waiting { place, wait_ms } => {
                return Ok(vec![Progress::Waiting(Wait::Turn { place, wait_ms })]);
            }
            GenerationEvent::Started { cached_tokens } => {
                choice.start(cached_tokens);
                measure.started(place, Instant::now());
                let begun = Progress::Started(Begun {
                    prompt_tokens: self.prompt_tokens,
                    cached_tokens: cached_tokens.min(self.prompt_tokens),
                    load_time: self.load_time,
                    asked: self.asked,
                });
                [begun].into_iter().chain(echo(index, choice.take_plain_echo())).collect()
            }
            GenerationEvent::Scored(logprobs) => {
                choice.score(logprobs);
                Vec::new()
            }
            GenerationEvent::Chunk(chunk) => {
                measure.piece(place, Instant::now());
                let Chunk { text, logprobs, completion_tokens, .. } = chunk;
                let before = echo(index, choice.take_echo());
                let pieces = choice.read(self.request_id, index, &text, completion_tokens);
                before.chain([Progress::Chunk { index, pieces, logprobs }]).collect()
            }
            GenerationEvent::Finished { reason, tail, usage } => {
                choice.predicted = (usage.predicted_tokens, usage.mispredicted_tokens);
                let pieces = choice.end(self.request_id, index, &tail, usage.completion_tokens);
                let reason = match reason {
                    FinishReason::Stop | FinishReason::Cancelled if choice.has_called() => Finish::Calls,
                    FinishReason::Stop | FinishReason::Cancelled => Finish::Stop,
                    FinishReason::StopString(place) => {
                        self.stops.get(place as usize).cloned().map_or(Finish::Stop, Finish::StopString)
                    }
                    FinishReason::Length => Finish::Length,
                };
                let last = (!pieces.is_empty()).then(|| Progress::Chunk { index, pieces, logprobs: Vec::new() });
                let before = echo(index, choice.take_echo());
                before.chain(last).chain([Progress::Finished { index, reason }]).collect()
            }
            GenerationEvent::Failed { error, usage } => {
                choice.completion_tokens = usage.completion_tokens;
                return Err(error.into());
            }
        };
        let usage = self.usage();
        self.payment.count(usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, usage.completion_tokens)?;
        Ok(progress)
    }

    /// What it cost so far; nothing before the engine began.
    fn usage(&self) -> CompletionUsage {
        if !self.choices.iter().any(Choice::has_started) {
            return CompletionUsage::new(0, 0, 0);
        }
        let sum = |value: fn(&Choice) -> u32| self.choices.iter().map(value).fold(0, u32::saturating_add);
        let cached = sum(|choice| choice.cached_tokens).min(self.prompt_tokens);
        CompletionUsage::new(self.prompt_tokens, cached, sum(|choice| choice.completion_tokens))
            .thinking(sum(|choice| choice.reasoning_tokens))
            .predicting(sum(|choice| choice.predicted.0), sum(|choice| choice.predicted.1))
    }

    /// Settles, before the end is told.
    async fn settle(mut self, end: End) -> Progress {
        let usage = self.usage();
        let has_begun = self.choices.iter().any(Choice::has_started);
        let (outcome, ended) = match &end {
            End::Completed => (Outcome::Completed, Ended::Completed),
            End::ClientLeft => (Outcome::Cancelled, Ended::Cancelled),
            End::Failed(_) => (Outcome::Failed, if has_begun { Ended::Failed } else { Ended::Refused }),
        };
        self.client.measure.end(ended, tokens(&usage), Instant::now());
        if has_begun {
            let settlement = Settlement {
                prompt_tokens: usage.prompt_tokens,
                cached_tokens: usage.prompt_tokens_details.cached_tokens,
                completion_tokens: usage.completion_tokens,
                outcome,
            };
            self.payment.settle(settlement).await;
        } else {
            self.payment.release();
        }
        match end {
            End::Failed(error) => Progress::Failed(error),
            // A client that was given up may yet read on: it must not take the answer for whole.
            End::ClientLeft => Progress::Failed(EngineError::ClientStalled.into()),
            End::Completed => Progress::Done(usage),
        }
    }
}

/// The prompt that a choice begins with.
fn echo(index: u32, echo: Option<(String, Vec<TokenLogprob>)>) -> impl Iterator<Item = Progress> {
    let chunk = |(text, logprobs)| Progress::Chunk { index, pieces: vec![Piece::Text(text)], logprobs };
    echo.map(chunk).into_iter()
}

/// The events of one choice, as a stream. Cancelled, it ends with what it cost.
fn events(index: usize, generation: Generation, cancel: CancellationToken) -> Events {
    Box::pin(unfold(Some(generation), move |generation| {
        let cancel = cancel.clone();
        async move {
            let mut generation = generation?;
            let event = tokio::select! {
                event = generation.next() => Some(event?),
                () = cancel.cancelled() => None,
            };
            if let Some(event) = event {
                return Some(((index, event), Some(generation)));
            }
            let (reason, tail) = (FinishReason::Cancelled, String::new());
            let usage = generation.cancel().await;
            Some(((index, GenerationEvent::Finished { reason, tail, usage }), None))
        }
    }))
}

fn tokens(usage: &CompletionUsage) -> Tokens {
    let CompletionUsage { prompt_tokens, completion_tokens, .. } = *usage;
    Tokens { prompt: prompt_tokens, cached: usage.prompt_tokens_details.cached_tokens, completion: completion_tokens }
}
