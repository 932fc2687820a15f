//! Asking the provider: in bounded time, for a bounded answer, and nobody else than who was named.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;

use crate::SsoError;
use crate::settings::{Settings, SettingsError};

/// How long it may take to answer, all in all: somebody waits.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// The longest answer, in bytes: the keys of large providers are some 10 KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

pub(crate) fn client(settings: &Settings) -> Result<Client, SettingsError> {
    let wrong = |error: reqwest::Error| SettingsError::Certificates(error.to_string());
    let mut builder = Client::builder().timeout(ANSWER_WAIT).redirect(Policy::none());
    if let Some(pem) = &settings.certificates {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem).map_err(wrong)?);
    }
    builder.build().map_err(wrong)
}

/// What it answers, as JSON, with the status.
pub(crate) async fn ask<T: DeserializeOwned>(request: RequestBuilder) -> Result<(StatusCode, T), SsoError> {
    let unreachable = |error: &reqwest::Error| {
        // What the libraries say of it is in the last of the causes.
        let mut cause: &dyn std::error::Error = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        SsoError::Unreachable(cause.to_string())
    };
    let mut answer = request.send().await.map_err(|error| unreachable(&error.without_url()))?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| unreachable(&error.without_url()))? {
        body.extend_from_slice(&piece);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(SsoError::Unreachable(format!("its answer is longer than {ANSWER_BYTES_MAX} bytes")));
        }
    }
    let read = serde_json::from_slice(&body);
    read.map(|body| (status, body))
        .map_err(|_| SsoError::Unreachable(format!("it answers {status} with something else than was asked for")))
}

/// The same of what is there for everybody.
pub(crate) async fn get<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, SsoError> {
    match ask(request).await? {
        (status, body) if status.is_success() => Ok(body),
        (status, _) => Err(SsoError::Unreachable(format!("it answers {status}"))),
    }
}
