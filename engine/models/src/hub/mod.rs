//! A model hub: repositories of files, by the HTTP interface of Hugging Face's hub and of its mirrors.
//!
//! `GET /api/models/REPOSITORY/revision/REVISION?blobs=true` tells the commit, and each file's length and digest: sha256 where
//! the file is in Git's large-file storage, else Git's own. `GET /REPOSITORY/resolve/COMMIT/FILE` is the file, mostly by a
//! redirect to another host, which never gets the token. `X-Error-Code` says why something is refused.

pub(crate) mod pins;
pub(crate) mod reference;

use std::fmt;

use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use sha1::{Digest, Sha1};

use crate::error::ModelsError;
use crate::transfer::retry::{Failure, explain, wait};

/// The hub that is asked where nothing else is configured.
pub const HUB: &str = "https://huggingface.co";
/// What a description of a repository may take, in bytes: a few hundred for each file.
const DESCRIPTION_BYTES_MAX: usize = 16 << 20;
/// Files that are not in large-file storage are small.
const SMALL_FILE_BYTES_MAX: u64 = 32 << 20;
/// What is passed on of what a hub says, in characters.
const SAID_CHARS_MAX: usize = 300;

/// Which hub, and who asks it.
#[derive(Clone)]
pub struct Hub {
    endpoint: String,
    token: Option<String>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { endpoint: HUB.to_owned(), token: None }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "...");
        formatter.debug_struct("Hub").field("endpoint", &self.endpoint).field("token", &token).finish()
    }
}

/// A repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    pub(crate) id: String,
    pub(crate) commit: String,
    pub(crate) files: Vec<RemoteFile>,
    /// As its card has it.
    pub(crate) licence: Option<String>,
    pub(crate) licence_url: Option<String>,
    /// The hub gives its files only to those whom it knows.
    pub(crate) gated: bool,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    pub(crate) digest: RemoteDigest,
}

/// What tells whether a file is the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RemoteDigest {
    Sha256(String),
    /// SHA-1 of `blob LENGTH`, a zero and the content, as Git has it.
    Git(String),
}

#[derive(Deserialize)]
struct Description {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default)]
    gated: serde_json::Value,
    #[serde(rename = "cardData", default)]
    card: Card,
}

#[derive(Default, Deserialize)]
struct Card {
    license: Option<serde_json::Value>,
    license_name: Option<String>,
    license_link: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: String,
    size: u64,
}

impl Hub {
    /// A hub by its address, like [`HUB`], and the token of an account there.
    #[must_use]
    pub fn new(endpoint: &str, token: Option<String>) -> Self {
        Self { endpoint: endpoint.trim_end_matches('/').to_owned(), token }
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Where people find a repository.
    pub(crate) fn page(&self, repository: &str) -> String {
        format!("{}/{repository}", self.endpoint)
    }

    /// Where a file is.
    pub(crate) fn address(&self, repository: &str, commit: &str, file: &str) -> String {
        format!("{}/{repository}/resolve/{commit}/{file}", self.endpoint)
    }

    /// What a repository has at a revision.
    pub(crate) async fn describe(
        &self,
        client: &Client,
        repository: &str,
        revision: &str,
    ) -> Result<Repository, ModelsError> {
        let url = format!("{}/api/models/{repository}/revision/{revision}?blobs=true", self.endpoint);
        let body = self.get(client, &url, repository, DESCRIPTION_BYTES_MAX).await?;
        let description: Description = serde_json::from_slice(&body)
            .map_err(|error| ModelsError::Hub(format!("{url} is no description of a repository: {error}")))?;
        let commit = description.sha.unwrap_or_default();
        if !is_hex(&commit, 40) {
            return Err(ModelsError::Hub(format!("{url} names no commit")));
        }
        let licence = match &description.card.license {
            Some(serde_json::Value::String(name)) if name == "other" => description.card.license_name.clone(),
            Some(serde_json::Value::String(name)) => Some(name.clone()),
            _ => None,
        };
        let link = description.card.license_link.filter(|link| link.starts_with("http"));
        Ok(Repository {
            id: repository.to_owned(),
            commit,
            files: description.siblings.into_iter().filter_map(remote_file).collect(),
            licence,
            licence_url: link,
            gated: !matches!(description.gated, serde_json::Value::Null | serde_json::Value::Bool(false)),
        })
    }

    /// A small file, compared with its digest.
    pub(crate) async fn small_file(
        &self,
        client: &Client,
        repository: &Repository,
        file: &RemoteFile,
    ) -> Result<Vec<u8>, ModelsError> {
        let url = self.address(&repository.id, &repository.commit, &file.name);
        if file.size_bytes > SMALL_FILE_BYTES_MAX {
            return Err(ModelsError::Hub(format!("{url} has no sha256 at the hub, and is too large to do without")));
        }
        let bytes = self.get(client, &url, &repository.id, usize::try_from(SMALL_FILE_BYTES_MAX).unwrap_or(0)).await?;
        let RemoteDigest::Git(wanted) = &file.digest else { return Ok(bytes) };
        let found = format!(
            "{:x}",
            Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(&bytes).finalize()
        );
        if found == *wanted {
            return Ok(bytes);
        }
        Err(ModelsError::Hub(format!("{url} has the Git digest {found} instead of {wanted}; try again later")))
    }

    /// Gets what is small, and takes up what fails for a while.
    async fn get(
        &self,
        client: &Client,
        url: &str,
        repository: &str,
        bytes_max: usize,
    ) -> Result<Vec<u8>, ModelsError> {
        let mut tries = 0;
        loop {
            let failure = match self.try_get(client, url, repository, bytes_max).await {
                Ok(body) => return Ok(body),
                Err(failure) => failure,
            };
            tries += 1;
            tokio::time::sleep(wait(failure, tries)?).await;
        }
    }

    async fn try_get(
        &self,
        client: &Client,
        url: &str,
        repository: &str,
        bytes_max: usize,
    ) -> Result<Vec<u8>, Failure> {
        let mut request = client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let mut response = request.send().await?;
        if !response.status().is_success() {
            return Err(self.refusal(&response, repository));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await? {
            if body.len() + piece.len() > bytes_max {
                return Err(Failure::Final(ModelsError::Hub(format!("{url} is larger than it should be"))));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// Why the hub refuses, and what to do about it.
    pub(crate) fn refusal(&self, response: &Response, repository: &str) -> Failure {
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let said: String = header("x-error-message").chars().take(SAID_CHARS_MAX).collect();
        let page = self.page(repository);
        let error = match (response.status(), header("x-error-code")) {
            (_, "GatedRepo") | (StatusCode::FORBIDDEN, _) => self.gated(repository, &said),
            (StatusCode::UNAUTHORIZED, code) if self.token.is_some() && code != "RepoNotFound" => {
                ModelsError::Hub(format!("{page} is refused: the token is not valid"))
            }
            (_, "RepoNotFound") | (StatusCode::UNAUTHORIZED, _) => {
                ModelsError::Hub(format!("there is no repository {page}, or it is a private one and needs a token"))
            }
            (_, "RevisionNotFound") => ModelsError::Hub(format!("{page} has no such revision")),
            (StatusCode::NOT_FOUND, _) => ModelsError::Hub(format!("{} is not there", response.url())),
            _ => return Failure::of(response),
        };
        Failure::Final(error)
    }

    /// What to do about a repository whose licence is to be accepted at the hub.
    pub(crate) fn gated(&self, repository: &str, said: &str) -> ModelsError {
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        ModelsError::Gated { repository: repository.to_owned(), url: self.page(repository), said }
    }
}

fn remote_file(sibling: Sibling) -> Option<RemoteFile> {
    let name = sibling.rfilename;
    match (sibling.lfs, sibling.size, sibling.blob_id) {
        (Some(lfs), ..) if is_hex(&lfs.sha256, 64) => {
            Some(RemoteFile { name, size_bytes: lfs.size, digest: RemoteDigest::Sha256(lfs.sha256) })
        }
        (None, Some(size_bytes), Some(id)) if is_hex(&id, 40) => {
            Some(RemoteFile { name, size_bytes, digest: RemoteDigest::Git(id) })
        }
        _ => None,
    }
}

/// Whether it is so many lower-case hexadecimal digits.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.chars().all(|digit| digit.is_ascii_digit() || ('a'..='f').contains(&digit))
}

/// A client for hubs and other servers of files.
pub(crate) fn client() -> Result<Client, ModelsError> {
    let builder = Client::builder().connect_timeout(crate::download::CONNECT_TIME_MAX);
    let client = builder.read_timeout(crate::download::SILENCE_MAX).build();
    client.map_err(|error| ModelsError::Download(explain(&error)))
}
