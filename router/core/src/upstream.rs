//! Other servers that speak the OpenAI API.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, Response, Url, redirect};

/// How long a server may take to accept a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a server may be silent: a long prompt on a busy GPU takes tens of seconds.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// The longest answer that is not streamed, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How much of an error's body is read, in bytes.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// Something that is never shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

/// A server, as the administrator describes it.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// The name that keys and answers call it by.
    pub name: String,
    /// Up to and with `/v1`.
    pub base_url: String,
    /// Its key.
    pub key: Option<Secret>,
    /// Its models, by its own names.
    pub models: Vec<String>,
    /// Our names for some of its models.
    pub aliases: BTreeMap<String, String>,
}

/// A server and the client to reach it.
#[derive(Debug)]
pub struct Upstream {
    config: UpstreamConfig,
    client: Client,
}

/// All configured servers.
#[derive(Debug, Default)]
pub struct Upstreams(Vec<Arc<Upstream>>);

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `chat/completions`.
    Chat,
    /// `completions`.
    Completions,
    /// `embeddings`.
    Embeddings,
    /// `rerank`.
    Rerank,
    /// Anthropic's messages, asked as a chat completion.
    Messages,
    /// Ollama's chat, asked as a chat completion.
    OllamaChat,
    /// Ollama's answer to a prompt, asked as a chat completion.
    OllamaGenerate,
    /// Ollama's vectors, only of models of this box.
    OllamaEmbed,
    /// `responses`; other servers get chat completions.
    Responses,
}

/// What a server answered.
#[derive(Debug)]
pub enum UpstreamReply {
    /// A success; the body is yet to be read.
    Success(UpstreamBody),
    /// It refused the request.
    Refused {
        /// Its status, 400..=499.
        status: u16,
        /// Its message, or its whole body.
        message: String,
    },
}

/// The body of a success.
#[derive(Debug)]
pub struct UpstreamBody(Response);

/// A server that gave no answer of use.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The address is no address.
    #[error("the base_url of upstream {name} is no http or https address: {base_url}")]
    BadUrl {
        /// Which upstream.
        name: String,
        /// What was configured.
        base_url: String,
    },
    /// No connection, or it broke.
    #[error("upstream {name} cannot be reached")]
    Unreachable {
        /// Which upstream.
        name: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It was silent for too long.
    #[error("upstream {name} did not answer in time")]
    TimedOut {
        /// Which upstream.
        name: String,
    },
    /// Its stream ended before it was complete.
    #[error("the answer of upstream {name} broke off")]
    Cut {
        /// Which upstream.
        name: String,
    },
    /// It failed.
    #[error("upstream {name} failed with status {status}")]
    Failed {
        /// Which upstream.
        name: String,
        /// Its status.
        status: u16,
    },
    /// It did not accept our key.
    #[error("upstream {name} did not accept the key configured for it")]
    KeyRefused {
        /// Which upstream.
        name: String,
    },
    /// More than we keep.
    #[error("the answer of upstream {name} is too long")]
    TooLong {
        /// Which upstream.
        name: String,
    },
}

impl Upstreams {
    /// Servers in the order in which they are tried.
    ///
    /// # Errors
    /// [`UpstreamError::BadUrl`], or when the TLS set-up of this machine cannot be read.
    pub fn new(configs: Vec<UpstreamConfig>) -> Result<Self, UpstreamError> {
        let upstreams = configs.into_iter().map(|config| Upstream::new(config).map(Arc::new));
        upstreams.collect::<Result<_, _>>().map(Self)
    }

    /// Every server with a model of this name or alias, and its own name for it.
    pub fn serving<'a>(&'a self, model: &str) -> impl Iterator<Item = (&'a Arc<Upstream>, &'a str)> {
        self.0.iter().filter_map(move |upstream| Some((upstream, upstream.own_name(model)?)))
    }

    /// All servers.
    pub fn iter(&self) -> impl Iterator<Item = &Upstream> {
        self.0.iter().map(AsRef::as_ref)
    }
}

impl Endpoint {
    /// Its name in the ledger.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat.completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Rerank => "rerank",
            Self::Messages => "messages",
            Self::OllamaChat => "ollama.chat",
            Self::OllamaGenerate => "ollama.generate",
            Self::OllamaEmbed => "ollama.embed",
            Self::Responses => "responses",
        }
    }

    /// Whether the answer has tokens of output.
    #[must_use]
    pub fn generates(self) -> bool {
        !matches!(self, Self::Embeddings | Self::OllamaEmbed | Self::Rerank)
    }

    /// Where other servers have what answers it.
    fn upstream_path(self) -> &'static str {
        match self {
            Self::Completions => "completions",
            Self::Embeddings | Self::OllamaEmbed => "embeddings",
            Self::Rerank => "rerank",
            Self::Chat | Self::Messages | Self::OllamaChat | Self::OllamaGenerate | Self::Responses => {
                "chat/completions"
            }
        }
    }
}

impl Upstream {
    fn new(config: UpstreamConfig) -> Result<Self, UpstreamError> {
        let bad = || UpstreamError::BadUrl { name: config.name.clone(), base_url: config.base_url.clone() };
        let url = Url::parse(&config.base_url).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(bad());
        }
        let client = Client::builder()
            .connect_timeout(CONNECT_TIME_MAX)
            .read_timeout(SILENCE_MAX)
            // A prompt goes to the configured address and to no other.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|source| UpstreamError::Unreachable { name: config.name.clone(), source })?;
        Ok(Self { config, client })
    }

    /// The name that keys and answers call it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The names under which its models are offered.
    pub fn offered(&self) -> impl Iterator<Item = &str> {
        self.config.models.iter().chain(self.config.aliases.keys()).map(String::as_str)
    }

    fn own_name(&self, model: &str) -> Option<&str> {
        let listed = self.config.models.iter().find(|own| *own == model);
        listed.or_else(|| self.config.aliases.get(model)).map(String::as_str)
    }

    /// Sends a request. Nothing of the client's own headers goes along.
    ///
    /// # Errors
    /// [`UpstreamError`] when there is no answer that a client could use.
    pub async fn send(&self, endpoint: Endpoint, body: Vec<u8>) -> Result<UpstreamReply, UpstreamError> {
        let url = format!("{}/{}", self.config.base_url.trim_end_matches('/'), endpoint.upstream_path());
        let mut request = self.client.post(url).header(CONTENT_TYPE, "application/json");
        request = request.header(ACCEPT, "application/json, text/event-stream");
        if let Some(Secret(key)) = &self.config.key {
            request = request.bearer_auth(key);
        }
        let response = tokio::time::timeout(SILENCE_MAX, request.body(body).send()).await;
        let response = response.map_err(|_| self.timed_out())?.map_err(|error| self.broken(error))?;
        let status = response.status().as_u16();
        match status {
            200..=299 => Ok(UpstreamReply::Success(UpstreamBody(response))),
            401 | 403 => Err(UpstreamError::KeyRefused { name: self.name().to_owned() }),
            400..=499 => Ok(UpstreamReply::Refused { status, message: self.refusal(response).await }),
            _ => Err(UpstreamError::Failed { name: self.name().to_owned(), status }),
        }
    }

    /// The message of a refusal, in OpenAI's shape or not.
    async fn refusal(&self, response: Response) -> String {
        let body = self.read(&mut UpstreamBody(response), ERROR_BYTES_MAX).await.unwrap_or_default();
        let parsed: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let message = parsed.as_ref().and_then(|value| value["error"]["message"].as_str());
        message.map_or_else(|| String::from_utf8_lossy(&body).into_owned(), str::to_owned)
    }

    /// The whole body of an answer that is not streamed.
    ///
    /// # Errors
    /// [`UpstreamError`] when it breaks off or is too long.
    pub async fn body(&self, mut body: UpstreamBody) -> Result<Vec<u8>, UpstreamError> {
        self.read(&mut body, BODY_BYTES_MAX).await
    }

    async fn read(&self, body: &mut UpstreamBody, bytes_max: usize) -> Result<Vec<u8>, UpstreamError> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next_piece(body).await? {
            if whole.len() + piece.len() > bytes_max {
                return Err(UpstreamError::TooLong { name: self.name().to_owned() });
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    /// The next piece of a streamed answer; `None` at its end.
    ///
    /// # Errors
    /// [`UpstreamError`] when it breaks off.
    pub async fn next_piece(&self, body: &mut UpstreamBody) -> Result<Option<Bytes>, UpstreamError> {
        body.0.chunk().await.map_err(|error| self.broken(error))
    }

    fn broken(&self, source: reqwest::Error) -> UpstreamError {
        if source.is_timeout() && !source.is_connect() {
            self.timed_out()
        } else {
            UpstreamError::Unreachable { name: self.name().to_owned(), source }
        }
    }

    fn timed_out(&self) -> UpstreamError {
        UpstreamError::TimedOut { name: self.name().to_owned() }
    }
}
