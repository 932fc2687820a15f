//! Runs a request on a local engine and accounts for it.
//!
//! A task of its own drives the generations and owns the reservation; the handler only reads what it
//! sends. When the handler or the response body is dropped, because the client left, the task notices,
//! cancels, and settles what was produced. Whatever happens, it settles exactly once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use allerac_engine_core::{Chunk, Class, FinishReason, SamplingParams};
use allerac_engine_link::protocol::{ModelInfo, PrepareError, Prompt, PromptInput};
use allerac_engine_link::{Engine, EngineError, GenerateSpec, Generation, GenerationEvent};
use allerac_ledger::{Ledger, Outcome, Principal, Reservation, Reserve, Settlement};
use allerac_metrics::{Outcome as Ended, RequestLabels, RequestMeter, Tokens};
use allerac_router_core::{Endpoint, LocalModel, Permit};
use allerac_wire::{CompletionUsage, Constraint, Options, ServiceTier};
use futures_util::stream::{SelectAll, unfold};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::auth::Admitted;
use crate::constraint::grammar_of;
use crate::error::ApiError;
use crate::sampling;
use crate::sse;
use crate::state::AppState;

/// Output of a choice when the client does not bound it, in tokens: a long answer. All of it is set aside
/// while the request runs, so a larger number would let fewer run at once.
const OUTPUT_DEFAULT: u32 = 2048;
/// Parts of an answer that may wait for the client; then the engine's own bound counts.
const PROGRESS_WAITING_MAX: usize = 64;
/// How long a model may take to load while a request waits for it.
const LOAD_WAIT_MAX: Duration = Duration::from_secs(600);

/// Who computes what is computed here, in the ledger and in metrics.
const LOCAL: &str = "local";

/// A request ready to be computed here.
pub(crate) struct Job {
    pub(crate) admitted: Admitted,
    pub(crate) endpoint: Endpoint,
    /// The field of the request that the prompt came in, for errors about it.
    pub(crate) prompt_param: &'static str,
    pub(crate) inputs: Vec<PromptInput>,
    pub(crate) options: Options,
    pub(crate) top_logprobs: Option<u8>,
}

/// What a running request tells its handler. `Done` or `Failed` is the last.
#[derive(Debug)]
pub(crate) enum Progress {
    /// One of the choices waits at this place of the engine's queue, likely for so long.
    Waiting { place: u32, wait_ms: u32 },
    /// The engine began with one of the choices.
    Started,
    /// One choice goes on.
    Chunk { index: u32, chunk: Chunk },
    /// One choice ended.
    Finished { index: u32, reason: &'static str, tail: String },
    /// All ended, and the cost is being settled.
    Done(CompletionUsage),
    /// It failed, and the cost is being settled.
    Failed(ApiError),
}

/// Runs a request in a task of its own; what comes of it arrives in the returned lane.
pub(crate) fn start(
    state: &AppState,
    principal: Principal,
    model: &LocalModel,
    mut job: Job,
) -> mpsc::Receiver<Progress> {
    let wanted = &mut job.options.sampling;
    wanted.temperature = wanted.temperature.or(model.sampling.temperature);
    wanted.top_p = wanted.top_p.or(model.sampling.top_p);
    wanted.top_k = wanted.top_k.or(model.sampling.top_k);
    wanted.min_p = wanted.min_p.or(model.sampling.min_p);
    let (sender, receiver) = mpsc::channel(PROGRESS_WAITING_MAX);
    let engine = state.registry.engine(model);
    let (ledger, model) = (state.ledger.clone(), model.id.clone());
    let labels = RequestLabels {
        endpoint: job.endpoint.name(),
        model: model.clone(),
        class: class(job.options.service_tier),
        served_by: LOCAL.to_owned(),
    };
    let measure = state.metrics.request(labels, job.admitted.accepted);
    tokio::spawn(async move {
        let client = Client { sender: sender.clone(), measure };
        let run = prepare(&ledger, &principal, model, &engine, job, client).await;
        let last = match run {
            Ok((run, specs)) => run.drive(&engine, specs).await,
            Err(error) => Progress::Failed(error),
        };
        sse::deliver(&sender, last).await;
    });
    receiver
}

/// Everything up to the first token: waits for the model, tokenises, and reserves.
async fn prepare(
    ledger: &Ledger,
    principal: &Principal,
    model: String,
    engine: &Engine,
    job: Job,
    mut client: Client,
) -> Result<(Run, Vec<GenerateSpec>), ApiError> {
    let constraint = job.options.constraint.as_ref();
    // Nothing is set aside yet: a client that leaves now simply ends it.
    let (info, prompts) = tokio::select! {
        tokenised = tokenise(engine, job.inputs, job.prompt_param, constraint) => tokenised?,
        () = client.sender.closed() => {
            client.measure.end(Ended::Cancelled, Tokens::default(), Instant::now());
            return Err(EngineError::ClientStalled.into());
        }
    };
    sampling::check_biases(&job.options.sampling, info.vocabulary)?;
    let prompt_tokens = total(prompts.iter().map(|prompt| prompt.tokens.len()));
    let limits = prompts.iter().map(|prompt| output_limit(prompt.tokens.len(), job.options.max_tokens, info.context));
    let limits = limits.map(|limit| limit.map_err(|error| error.with_param(job.prompt_param)));
    let limits = limits.collect::<Result<Vec<u32>, ApiError>>()?;
    let max_output_tokens = limits.iter().fold(0u32, |sum, limit| sum.saturating_add(*limit));
    let reserve = Reserve {
        request_id: job.admitted.request_id,
        model,
        endpoint: job.endpoint.name(),
        served_by: LOCAL.into(),
        prompt_tokens,
        max_output_tokens: max_output_tokens.saturating_mul(job.options.choices),
    };
    let reservation = ledger.reserve(principal, reserve).await?;
    let specs = specs(&prompts, &limits, &job.options, job.top_logprobs, principal.salt);
    let choices = vec![Choice::default(); specs.len()];
    Ok((Run { reservation, client, prompt_tokens, choices, _permit: job.admitted.permit }, specs))
}

/// Renders and tokenises, and has the constraint compiled; a request for a model that is not loaded yet waits here, and one for a model that
/// failed to load makes it try again.
async fn tokenise(
    engine: &Engine,
    inputs: Vec<PromptInput>,
    param: &'static str,
    constraint: Option<&Constraint>,
) -> Result<(Arc<ModelInfo>, Vec<Prompt>), ApiError> {
    let mut prompts = Vec::new();
    // All prompts have the same constraint: it is checked with the first.
    let mut grammar = constraint.map(grammar_of);
    for input in inputs {
        let prompt = tokio::time::timeout(LOAD_WAIT_MAX, engine.prepare(input, grammar.take())).await;
        let prompt = prompt.map_err(|_| EngineError::Timeout)?;
        prompts.push(prompt.map_err(|error| prompt_error(error, param, constraint))?);
    }
    Ok((engine.ready(LOAD_WAIT_MAX).await?, prompts))
}

/// An error of the prompt or of the constraint names the field it came in.
fn prompt_error(error: EngineError, param: &str, constraint: Option<&Constraint>) -> ApiError {
    match error {
        EngineError::Prepare(PrepareError::Busy) => error.into(),
        EngineError::Prepare(PrepareError::Grammar(ref message)) => {
            let param = constraint.map_or(param, |constraint| &constraint.param);
            ApiError::invalid_value(param, &format!("`{param}` cannot be compiled: {message}"))
        }
        EngineError::Prepare(_) => ApiError::from(error).with_param(param),
        other => other.into(),
    }
}

/// The most tokens that one choice may have.
fn output_limit(prompt_tokens: usize, wanted: Option<u32>, context: u32) -> Result<u32, ApiError> {
    let room = (context as usize).saturating_sub(prompt_tokens);
    let room = u32::try_from(room).unwrap_or(u32::MAX);
    let exceeded = || ApiError::context_exceeded(prompt_tokens, wanted, context);
    match wanted {
        _ if room == 0 => Err(exceeded()),
        Some(wanted) if wanted > room => Err(exceeded()),
        Some(wanted) => Ok(wanted),
        None => Ok(room.min(OUTPUT_DEFAULT)),
    }
}

/// One generation for each choice of each prompt, in the order of their indices.
fn specs(
    prompts: &[Prompt],
    limits: &[u32],
    options: &Options,
    top_logprobs: Option<u8>,
    salt: u64,
) -> Vec<GenerateSpec> {
    let sampling = sampling::params(&options.sampling);
    let mut specs = Vec::new();
    for (prompt, limit) in prompts.iter().zip(limits) {
        for choice in 0..options.choices {
            let seed = sampling.seed.wrapping_add(u64::from(choice));
            specs.push(GenerateSpec {
                salt,
                class: class(options.service_tier),
                prompt: prompt.clone(),
                max_tokens: *limit,
                sampling: SamplingParams { seed, ..sampling.clone() },
                stop: options.stop.clone(),
                top_logprobs,
                grammar: options.constraint.as_ref().map(grammar_of),
            });
        }
    }
    specs
}

fn class(tier: ServiceTier) -> Class {
    match tier {
        ServiceTier::Flex => Class::Batch,
        ServiceTier::Default => Class::Chat,
        ServiceTier::Priority => Class::Voice,
    }
}

/// What is known of one choice.
#[derive(Debug, Clone, Copy, Default)]
struct Choice {
    started: bool,
    cached_tokens: u32,
    completion_tokens: u32,
}

/// A running request.
struct Run {
    reservation: Reservation,
    client: Client,
    /// Of all prompts. Each is charged once, however many choices it has.
    prompt_tokens: u32,
    choices: Vec<Choice>,
    _permit: Permit,
}

/// Whom a run is for: where its progress goes, and what it is like to wait for it.
struct Client {
    sender: mpsc::Sender<Progress>,
    measure: RequestMeter,
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
    async fn drive(mut self, engine: &Engine, specs: Vec<GenerateSpec>) -> Progress {
        let cancel = CancellationToken::new();
        let mut running = SelectAll::new();
        let mut end = None;
        for (index, spec) in specs.into_iter().enumerate() {
            self.client.measure.queued(index, Instant::now());
            match engine.generate(spec).await {
                Ok(generation) => running.push(events(index, generation, cancel.clone())),
                Err(error) => end = Some(End::Failed(error.into())),
            }
        }
        let end = match end {
            Some(end) => end,
            None => self.follow(&mut running).await,
        };
        // What still runs is cancelled and says what it cost.
        cancel.cancel();
        while let Some((index, event)) = running.next().await {
            let _ = self.note(index, event);
        }
        self.settle(end)
    }

    /// Passes events on until all choices ended, one failed, or the client left.
    async fn follow(&mut self, running: &mut SelectAll<Events>) -> End {
        let sender = self.client.sender.clone();
        loop {
            let event = tokio::select! {
                event = running.next() => event,
                () = sender.closed() => return End::ClientLeft,
            };
            let Some((index, event)) = event else { return End::Completed };
            let progress = match self.note(index, event) {
                Ok(progress) => progress,
                Err(error) => return End::Failed(error),
            };
            if !sse::deliver(&sender, progress).await {
                return End::ClientLeft;
            }
        }
    }

    /// Counts an event in the ledger and turns it into progress.
    fn note(&mut self, index: usize, event: GenerationEvent) -> Result<Progress, ApiError> {
        let choice = &mut self.choices[index];
        let (measure, place) = (&mut self.client.measure, index);
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let progress = match event {
            GenerationEvent::Waiting { place, wait_ms } => return Ok(Progress::Waiting { place, wait_ms }),
            GenerationEvent::Started { cached_tokens } => {
                choice.started = true;
                choice.cached_tokens = cached_tokens;
                measure.started(place, Instant::now());
                Progress::Started
            }
            GenerationEvent::Chunk(chunk) => {
                choice.completion_tokens = chunk.completion_tokens;
                measure.piece(place, Instant::now());
                Progress::Chunk { index, chunk }
            }
            GenerationEvent::Finished { reason, tail, usage } => {
                choice.completion_tokens = usage.completion_tokens;
                Progress::Finished { index, reason: reason_name(reason), tail }
            }
            GenerationEvent::Failed { error, usage } => {
                choice.completion_tokens = usage.completion_tokens;
                return Err(error.into());
            }
        };
        let usage = self.usage();
        self.reservation.count(
            usage.prompt_tokens,
            usage.prompt_tokens_details.cached_tokens,
            usage.completion_tokens,
        )?;
        Ok(progress)
    }

    /// What it cost so far; nothing before the engine began.
    fn usage(&self) -> CompletionUsage {
        if !self.choices.iter().any(|choice| choice.started) {
            return CompletionUsage::new(0, 0, 0);
        }
        let sum = |value: fn(&Choice) -> u32| self.choices.iter().map(value).fold(0, u32::saturating_add);
        let cached = sum(|choice| choice.cached_tokens).min(self.prompt_tokens);
        CompletionUsage::new(self.prompt_tokens, cached, sum(|choice| choice.completion_tokens))
    }

    /// Settles, and does not wait until that is durable: what was counted stands for it until then.
    fn settle(mut self, end: End) -> Progress {
        let usage = self.usage();
        let has_begun = self.choices.iter().any(|choice| choice.started);
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
            drop(self.reservation.settle(settlement));
        } else {
            drop(self.reservation.release());
        }
        match end {
            End::Failed(error) => Progress::Failed(error),
            // A client that was given up may yet read on: it must not take the answer for whole.
            End::ClientLeft => Progress::Failed(EngineError::ClientStalled.into()),
            End::Completed => Progress::Done(usage),
        }
    }
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

fn reason_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Cancelled => "cancelled",
    }
}

fn total(lengths: impl Iterator<Item = usize>) -> u32 {
    u32::try_from(lengths.sum::<usize>()).unwrap_or(u32::MAX)
}
