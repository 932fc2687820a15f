//! Messages and their framing: a little-endian `u32` length, then that many bytes of postcard.

use allerac_engine_core::constraint::Grammar;
use allerac_engine_core::encode::{Encode, Encoded, Sequence};
use allerac_engine_core::event::Event;
use allerac_engine_core::request::{Generate, RequestId, TokenId};
use allerac_engine_core::stats::Stats;
use allerac_engine_core::work::Work;
use serde::{Deserialize, Serialize};

/// Raised when a message changes shape; both sides refuse another version.
pub const PROTOCOL_VERSION: u32 = 7;

/// The longest frame either side accepts, in bytes. A prompt of 1 million characters fits several times.
pub const FRAME_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// What the router tells an engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToEngine {
    /// Comes first, once, before the model is loaded.
    Begin(Begin),
    /// Render and tokenise; answered by [`FromEngine::Prepared`].
    Prepare {
        /// Names the answer.
        id: RequestId,
        /// What to render.
        input: PromptInput,
        /// What the answer is to be, to be compiled; a later [`Generate`](Self::Generate) says it again.
        grammar: Option<Grammar>,
    },
    /// Generate; answered by events.
    Generate {
        /// What to continue, and how.
        request: Generate,
        /// What the answer must be; `None` where it may be anything.
        grammar: Option<Grammar>,
    },
    /// Stop a request at the next step. Unknown ids are ignored: the request may just have ended.
    Cancel(RequestId),
    /// Finish nothing more and exit.
    Shutdown,
    /// Tokenise for an encoder; answered by [`FromEngine::Tokenised`].
    Tokenise {
        /// Names the answer.
        id: RequestId,
        /// The texts.
        inputs: Vec<EncodeInput>,
    },
    /// Compute vectors or scores; answered by [`FromEngine::Encoded`].
    Encode(Encode),
}

/// What becomes a sequence for an encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncodeInput {
    /// A text; the special tokens that the model expects are added.
    Text(String),
    /// Two texts that are looked at together, with special tokens.
    Pair(String, String),
    /// Tokens as they are.
    Tokens(Vec<TokenId>),
}

/// What an engine is told that is nobody else's business.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The key of the file that `--kv-file` names.
    pub kv_key: Option<KvKey>,
    /// System prompts that are common to all: what is known of them is shared between owners.
    pub common_prompts: Vec<String>,
}

/// What the KV on disk is sealed with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvKey(pub [u8; 32]);

impl std::fmt::Debug for KvKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KvKey(..)")
    }
}

/// A prompt, ready to be computed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// All of it.
    pub tokens: Vec<TokenId>,
    /// How many of the first tokens are common to all owners.
    pub common: u32,
    /// What the answer is expected to repeat.
    pub prediction: Vec<TokenId>,
    /// The last characters of a rendered conversation: what the template has begun for the model.
    pub end: String,
    /// The bytes that each token stands for, where that was asked; none for control tokens.
    pub pieces: Vec<Vec<u8>>,
}

/// What becomes a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PromptInput {
    /// Messages for the model's own chat template.
    Chat(ChatInput),
    /// Plain text; special tokens in it are not parsed, a BOS token is added where the model wants one.
    Text(String),
    /// Tokens as they are.
    Tokens(Vec<TokenId>),
    /// What stands before and after the answer, for models that were taught to fill in.
    Infill {
        /// Plain text, as in `Text`.
        prefix: String,
        /// Likewise.
        suffix: String,
    },
    /// Another, and what each of its tokens stands for.
    Spelled(Box<Self>),
}

/// What a chat template is given, each as JSON text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatInput {
    /// An array of objects with `role` and `content`.
    pub messages_json: String,
    /// An array of tools as OpenAI's API has them; `None` where there are none.
    pub tools_json: Option<String>,
    /// An object of more variables that the template may know; `None` where there are none.
    pub variables_json: Option<String>,
    /// Plain text, not JSON, that the answer is expected to repeat.
    pub prediction: Option<String>,
    /// Plain text that the answer was begun with, and goes on from.
    pub begun: Option<String>,
}

/// What an engine tells the router.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromEngine {
    /// Share of the model loaded so far, 0.0..=1.0.
    Loading(f32),
    /// The model is loaded; requests may come.
    Ready(ModelInfo),
    /// The model cannot be loaded; the process exits.
    LoadFailed(String),
    /// The answer to [`ToEngine::Prepare`].
    Prepared {
        /// Which one.
        id: RequestId,
        /// The prompt, or why there is none.
        result: Result<Prompt, PrepareError>,
    },
    /// What happened to a request.
    Event(Event),
    /// What the engine did since it began; now and then, when it changed.
    Stats(Box<Stats>),
    /// The answer to [`ToEngine::Tokenise`].
    Tokenised {
        /// Which one.
        id: RequestId,
        /// A sequence for each text, or why there is none.
        result: Result<Vec<Sequence>, PrepareError>,
    },
    /// The answer to [`ToEngine::Encode`].
    Encoded(Encoded),
    /// Whom the time of steps went to since this was told last; what is of a request comes before its end.
    Work(Vec<Work>),
}

/// Why a prompt could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PrepareError {
    /// The model's template refused these messages (an unknown role, say).
    #[error("the model's chat template refused the messages: {0}")]
    Template(String),
    /// The model has no chat template.
    #[error("this model has no chat template; use /v1/completions")]
    NoTemplate,
    /// The model has no tokens for what stands before and after a gap.
    #[error(
        "this model was not taught to fill in text before a suffix; leave `suffix` out, or choose a model for code"
    )]
    NoInfill,
    /// A token id outside the vocabulary.
    #[error("token {0} is not in the model's vocabulary")]
    UnknownToken(u32),
    /// Nothing to generate from.
    #[error("the prompt is empty")]
    Empty,
    /// What the answer is to be cannot be compiled, and what is wrong with it.
    #[error("{0}")]
    Grammar(String),
    /// So many other grammars are being compiled that this one would take too long.
    #[error("too many grammars are being compiled; try again later")]
    Busy,
    /// So many other texts are being tokenised that these would take too long.
    #[error("too many texts are being tokenised; try again later")]
    Crowded,
    /// The tokeniser cannot read a text.
    #[error("the model's tokeniser refused a text: {0}")]
    Tokeniser(String),
    /// The model generates, or the other way round.
    #[error("the model does not do this")]
    WrongKind,
}

/// What a model answers with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Produces {
    /// Text, token by token.
    #[default]
    Text,
    /// A vector for each text.
    Vectors {
        /// Numbers in a vector.
        dimensions: u32,
    },
    /// A score for each pair of texts, 0 to 1.
    Scores,
}

/// What a loaded model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The speaker's [`PROTOCOL_VERSION`].
    pub protocol: u32,
    /// Longest prompt and output together, or longest text of an encoder, in tokens.
    pub context: u32,
    /// Requests that decode together.
    pub sequences: u32,
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// Parameters of the model.
    pub parameters: u64,
    /// How it wants chat messages, in Jinja; `None` where it takes none.
    pub chat_template: Option<String>,
    /// Whether that template tells the model of tools.
    pub knows_tools: bool,
    /// llama.cpp's description of the CPU features in use; empty where it is not what computes.
    pub system_info: String,
    /// What it answers with.
    pub produces: Produces,
}
