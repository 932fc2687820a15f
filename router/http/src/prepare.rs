//! Everything up to the first token of a request that is computed here: waits for the model, puts the request in its
//! words, tokenises, and reserves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use allerac_engine_core::{Class, Grammar, SamplingParams, Scope, TokenId};
use allerac_engine_link::protocol::{ModelInfo, PrepareError, Prompt, PromptInput};
use allerac_engine_link::{Engine, EngineError, GenerateSpec, Worked};
use allerac_ledger::{Principal, Reserve};
use allerac_metrics::{Outcome, Tokens};
use allerac_parse::{Dialect, Parser};
use allerac_router_core::{Endpoint, Lease, LocalModel, Registry};
use allerac_wire::{ChatRequest, CompletionRequest, Constraint, Options, Prompt as CompletionPrompt, ServiceTier};
use tokio::sync::mpsc;

use crate::auth::Admitted;
use crate::chat::Talk;
use crate::choice::Choice;
use crate::constraint::grammar_of;
use crate::error::ApiError;
use crate::fitting::fit;
use crate::generation::{Client, LOCAL, Run};
use crate::payment::Till;
use crate::progress::{Progress, Wait};
use crate::sampling;
use crate::sse;

/// Output of a choice when the client does not bound it, in tokens: a long answer. All of it is set aside
/// while the request runs, so a larger number would let fewer run at once.
const OUTPUT_DEFAULT: u32 = 2048;
/// How long a model may take to load while a request waits for it.
pub(crate) const LOAD_WAIT_MAX: Duration = Duration::from_secs(600);

/// A request ready to be computed here.
pub(crate) struct Job {
    pub(crate) admitted: Admitted,
    pub(crate) endpoint: Endpoint,
    pub(crate) ask: Ask,
}

/// What is asked.
#[derive(Debug)]
pub(crate) enum Ask {
    /// To go on with a conversation.
    Chat(Box<ChatRequest>),
    /// To go on with texts.
    Completion(Box<CompletionRequest>),
}

impl Ask {
    /// Everything but the prompt.
    pub(crate) fn options(&self) -> &Options {
        match self {
            Self::Chat(request) => &request.options,
            Self::Completion(request) => &request.options,
        }
    }

    pub(crate) fn options_mut(&mut self) -> &mut Options {
        match self {
            Self::Chat(request) => &mut request.options,
            Self::Completion(request) => &mut request.options,
        }
    }

    /// Answers to give, over all prompts.
    pub(crate) fn choices(&self) -> usize {
        let prompts = match self {
            Self::Chat(_) => 1,
            Self::Completion(request) => request.prompts.len(),
        };
        prompts * self.options().choices as usize
    }

    pub(crate) fn top_logprobs(&self) -> Option<u8> {
        match self {
            Self::Chat(request) => request.top_logprobs,
            Self::Completion(request) => request.top_logprobs,
        }
    }

    /// Whether answers begin with their prompts.
    fn echoes(&self) -> bool {
        matches!(self, Self::Completion(request) if request.echo)
    }

    /// The field of the request that the prompt came in, for errors about it.
    fn prompt_param(&self) -> &'static str {
        match self {
            Self::Chat(_) => "messages",
            Self::Completion(_) => "prompt",
        }
    }
}

/// A request in the words of a model.
struct Prepared {
    info: Arc<ModelInfo>,
    prompts: Vec<Prompt>,
    /// How answers are read; `None` where they are text.
    talk: Option<Talk>,
    /// What each answer must be.
    grammar: Option<Grammar>,
}

/// A model of this box that is loaded, and stays so until this is dropped.
pub(crate) struct Loaded {
    pub(crate) lease: Lease,
    pub(crate) info: Arc<ModelInfo>,
    /// How long it took to be there.
    pub(crate) time: Duration,
}

/// Tokens of the prompt of a conversation. Nothing is set aside.
pub(crate) async fn count_tokens(registry: &Registry, model: &Arc<LocalModel>, ask: &Ask) -> Result<usize, ApiError> {
    let loaded = load(registry, model, None, None).await?;
    let prepared = in_words_of_model(&loaded, ask).await?;
    Ok(prepared.prompts.iter().map(|prompt| prompt.tokens.len()).sum())
}

/// Everything up to the first token.
pub(crate) async fn prepare(
    till: &Till,
    principal: &Principal,
    registry: &Registry,
    model: &Arc<LocalModel>,
    job: Job,
    mut client: Client,
) -> Result<(Run, Vec<GenerateSpec>), ApiError> {
    let Job { admitted, endpoint, mut ask } = job;
    // Nothing is set aside yet: a client that leaves now simply ends it.
    let preparing = async {
        let loaded = load(registry, model, ask.options().keep_alive, Some(&client.sender)).await?;
        fit(&loaded, &mut ask).await?;
        let prepared = in_words_of_model(&loaded, &ask).await?;
        Ok::<_, ApiError>((loaded, prepared))
    };
    let (loaded, prepared) = tokio::select! {
        prepared = preparing => prepared?,
        () = client.sender.closed() => {
            client.measure.end(Outcome::Cancelled, Tokens::default(), Instant::now());
            return Err(EngineError::ClientStalled.into());
        }
    };
    let options = ask.options();
    sampling::check_biases(&options.sampling, prepared.info.vocabulary)?;
    let lengths = || prepared.prompts.iter().map(|prompt| prompt.tokens.len());
    let limits = lengths().map(|length| output_limit(length, options, prepared.info.context));
    let limits = limits.map(|limit| limit.map_err(|error| error.with_param(ask.prompt_param())));
    let limits = limits.collect::<Result<Vec<u32>, ApiError>>()?;
    let prompt_tokens = u32::try_from(lengths().sum::<usize>()).unwrap_or(u32::MAX);
    let max_output_tokens = limits.iter().fold(0u32, |sum, limit| sum.saturating_add(*limit));
    let reserve = Reserve {
        request_id: admitted.request_id,
        model: model.id.clone(),
        endpoint: endpoint.name(),
        served_by: LOCAL.into(),
        prompt_tokens,
        max_output_tokens: max_output_tokens.saturating_mul(options.choices),
    };
    let payment = till.set_aside(principal, &admitted.accounts, reserve).await?;
    let scope = Scope { salt: principal.salt, adapter: model.adapter };
    let specs = specs(&prepared, &limits, (&ask, scope), &payment.worked());
    let mut choices: Vec<Choice> = specs.iter().map(|spec| prepared.choice(&spec.prompt)).collect();
    if let Ask::Completion(request) = &ask {
        for (place, choice) in choices.iter_mut().enumerate().filter(|_| request.echo) {
            let prompt = place / options.choices as usize;
            choice.echo(echo(&request.prompts[prompt], &prepared.prompts[prompt]), request.top_logprobs.is_some());
        }
    }
    let (request_id, stops) = (admitted.request_id, options.stop.clone());
    let Loaded { lease, time: load_time, .. } = loaded;
    let (asked, _permit) = (Instant::now(), admitted.permit);
    let held = Vec::new();
    Ok((
        Run { request_id, payment, lease, client, prompt_tokens, load_time, asked, choices, held, stops, _permit },
        specs,
    ))
}

impl Prepared {
    /// Reads an answer to this prompt.
    fn choice(&self, prompt: &Prompt) -> Choice {
        match &self.talk {
            Some(talk) => Choice::new(talk.parser(&prompt.end), talk.calls_max()),
            None => Choice::new(Parser::new(Dialect::Plain, false, false), 0),
        }
    }
}

/// Renders and tokenises, and has compiled what the answer must be.
async fn in_words_of_model(loaded: &Loaded, ask: &Ask) -> Result<Prepared, ApiError> {
    let (engine, info) = (&*loaded.lease, Arc::clone(&loaded.info));
    match ask {
        Ask::Chat(request) => chat(engine, info, ask, request).await,
        Ask::Completion(request) => {
            let grammar = request.options.constraint.as_ref().map(grammar_of);
            let input = |prompt| input(prompt, request);
            let mut prompts = Vec::new();
            // All prompts have the same grammar: it is checked with the first.
            let mut unchecked = grammar.clone();
            for prompt in &request.prompts {
                prompts.push(tokenise(engine, ask, input(prompt), unchecked.take()).await?);
            }
            Ok(Prepared { info, prompts, talk: None, grammar })
        }
    }
}

/// Waits until a model can answer: for memory, then until it is loaded. It stays in memory until what comes back is
/// dropped, and then for `keep`. A client that waits hears for what.
pub(crate) async fn load(
    registry: &Registry,
    model: &Arc<LocalModel>,
    keep: Option<Duration>,
    client: Option<&mpsc::Sender<Progress>>,
) -> Result<Loaded, ApiError> {
    let wanted = Instant::now();
    // What finds the lane full is not worth waiting for.
    let tell = |wait| client.map(|lane| lane.try_send(Progress::Waiting(wait)).is_ok());
    let late = |_| EngineError::Timeout;
    let leased = telling(registry.engine(model, keep), || tell(Wait::Memory));
    let lease = tokio::time::timeout(LOAD_WAIT_MAX, leased).await.map_err(late)??;
    let loading = telling(lease.load(), || tell(Wait::Load(lease.wait().unwrap_or_default())));
    let info = tokio::time::timeout(LOAD_WAIT_MAX, loading).await.map_err(late)??;
    Ok(Loaded { lease, info, time: wanted.elapsed() })
}

/// Waits, and tells so from time to time; not at once, because until a client hears something it can still get an error
/// with a status.
async fn telling<T, R>(work: impl Future<Output = T>, tell: impl Fn() -> R) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(sse::COMMENT_EVERY, &mut work).await {
            Ok(done) => return done,
            Err(_) => drop(tell()),
        }
    }
}

/// The tokens of a conversation, as a model of this box gets it.
pub(crate) async fn count(registry: &Registry, model: &Arc<LocalModel>, request: ChatRequest) -> Result<u32, ApiError> {
    let loaded = load(registry, model, None, None).await?;
    let input = PromptInput::Chat(Talk::new(&request, &loaded.info)?.input);
    let prompt = tokenise(&loaded.lease, &Ask::Chat(Box::new(request)), input, None).await?;
    Ok(u32::try_from(prompt.tokens.len()).unwrap_or(u32::MAX))
}

async fn chat(engine: &Engine, info: Arc<ModelInfo>, ask: &Ask, request: &ChatRequest) -> Result<Prepared, ApiError> {
    let talk = Talk::new(request, &info)?;
    let input = PromptInput::Chat(talk.input.clone());
    let (prompt, grammar) = if talk.may_think() {
        // Whether a thought comes first is seen at the end of the prompt.
        let prompt = tokenise(engine, ask, input, None).await?;
        let grammar = talk.grammar(request, &prompt.end);
        if grammar.is_some() {
            tokenise(engine, ask, no_prompt(), grammar.clone()).await?;
        }
        (prompt, grammar)
    } else {
        let grammar = talk.grammar(request, "");
        (tokenise(engine, ask, input, grammar.clone()).await?, grammar)
    };
    talk.check_begun(grammar.as_ref(), &prompt.end)?;
    Ok(Prepared { info, prompts: vec![prompt], talk: Some(talk), grammar })
}

pub(crate) async fn tokenise(
    engine: &Engine,
    ask: &Ask,
    input: PromptInput,
    grammar: Option<Grammar>,
) -> Result<Prompt, ApiError> {
    let of_words = matches!(grammar, Some(Grammar::Words { .. }));
    let prompt = tokio::time::timeout(LOAD_WAIT_MAX, engine.prepare(input, grammar)).await;
    match prompt.map_err(|_| EngineError::Timeout)? {
        Err(EngineError::Prepare(PrepareError::Grammar(message))) => {
            // A grammar of words has the schemas of tools in it, and perhaps a constraint: if that is wrong by itself,
            // it is to blame.
            let constraint = ask.options().constraint.as_ref();
            let param = match constraint {
                Some(constraint) if !of_words || is_wrong(engine, constraint).await => &constraint.param,
                _ => "tools",
            };
            Err(ApiError::invalid_value(param, &format!("`{param}` cannot be compiled: {message}")))
        }
        prompt => prompt.map_err(|error| prompt_error(error, ask)),
    }
}

/// Whether a constraint cannot be compiled.
async fn is_wrong(engine: &Engine, constraint: &Constraint) -> bool {
    let checked = engine.prepare(no_prompt(), Some(grammar_of(constraint)));
    matches!(
        tokio::time::timeout(LOAD_WAIT_MAX, checked).await,
        Ok(Err(EngineError::Prepare(PrepareError::Grammar(_))))
    )
}

/// What is sent along with a grammar that is to be compiled without a prompt.
fn no_prompt() -> PromptInput {
    PromptInput::Text("-".to_owned())
}

/// The text of a prompt.
fn echo(asked: &CompletionPrompt, prompt: &Prompt) -> String {
    match asked {
        CompletionPrompt::Text(text) => text.clone(),
        CompletionPrompt::Tokens(_) => String::from_utf8_lossy(&prompt.pieces.concat()).into_owned(),
    }
}

/// What is to be tokenised; where tokens are echoed, also what they stand for.
fn input(prompt: &CompletionPrompt, request: &CompletionRequest) -> PromptInput {
    match (prompt, &request.suffix) {
        (CompletionPrompt::Text(text), Some(suffix)) => {
            PromptInput::Infill { prefix: text.clone(), suffix: suffix.clone() }
        }
        (CompletionPrompt::Text(text), None) => PromptInput::Text(text.clone()),
        (CompletionPrompt::Tokens(tokens), _) => {
            let tokens = PromptInput::Tokens(tokens.iter().copied().map(TokenId).collect());
            if request.echo { PromptInput::Spelled(Box::new(tokens)) } else { tokens }
        }
    }
}

/// An error of the prompt names the field it came in.
fn prompt_error(error: EngineError, ask: &Ask) -> ApiError {
    match error {
        EngineError::Prepare(PrepareError::Busy) => error.into(),
        EngineError::Prepare(PrepareError::NoInfill) => ApiError::unsupported_value("suffix", &error.to_string()),
        EngineError::Prepare(_) => ApiError::from(error).with_param(ask.prompt_param()),
        other => other.into(),
    }
}

/// The most tokens that one choice may have.
fn output_limit(prompt_tokens: usize, options: &Options, context: u32) -> Result<u32, ApiError> {
    let wanted = options.max_tokens;
    let room = (context as usize).saturating_sub(prompt_tokens);
    let room = u32::try_from(room).unwrap_or(u32::MAX);
    let exceeded = || ApiError::context_exceeded(prompt_tokens, wanted, context);
    match wanted {
        // Nothing but the prompt may fill the context.
        Some(0) if prompt_tokens <= context as usize => Ok(0),
        _ if room == 0 => Err(exceeded()),
        Some(wanted) if wanted > room && !options.cuts_to_context => Err(exceeded()),
        Some(wanted) => Ok(wanted.min(room)),
        None => Ok(room.min(OUTPUT_DEFAULT)),
    }
}

/// One generation for each choice of each prompt, in the order of their indices.
fn specs(prepared: &Prepared, limits: &[u32], (ask, scope): (&Ask, Scope), worked: &Arc<Worked>) -> Vec<GenerateSpec> {
    let options = ask.options();
    let sampling = sampling::params(&options.sampling);
    let mut specs = Vec::new();
    for (prompt, limit) in prepared.prompts.iter().zip(limits) {
        for choice in 0..options.choices {
            let seed = sampling.seed.wrapping_add(u64::from(choice));
            specs.push(GenerateSpec {
                salt: scope.salt,
                adapter: scope.adapter,
                class: class(options.service_tier),
                prompt: prompt.clone(),
                max_tokens: *limit,
                sampling: SamplingParams { seed, ..sampling.clone() },
                stop: options.stop.clone(),
                control_words: prepared.talk.as_ref().is_some_and(Talk::control_words),
                top_logprobs: ask.top_logprobs(),
                // The others begin with the same prompt.
                score_prompt: choice == 0 && ask.echoes() && ask.top_logprobs().is_some(),
                grammar: prepared.grammar.clone(),
                worked: Arc::clone(worked),
            });
        }
    }
    specs
}

pub(crate) fn class(tier: ServiceTier) -> Class {
    match tier {
        ServiceTier::Flex => Class::Batch,
        ServiceTier::Default => Class::Chat,
        ServiceTier::Priority => Class::Voice,
    }
}
