//! `POST /api/pull`: fetches a model of the catalogue while the server runs, and tells in lines how far it is.

use std::time::Duration;

use allerac_router_core::{Catalogue, Pull, PullProgress, Pulling, Reference, named};
use allerac_wire::ollama::{PullOrder, Status};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;

use super::line;
use crate::auth::Owner;
use crate::error::ApiError;
use crate::handlers::{Bounded, SmallBody};
use crate::state::AppState;

/// The least time between two lines: a download has thousands of pieces a second.
const LINE_EVERY: Duration = Duration::from_millis(100);
/// Digits of a digest that are enough for people, as Ollama shows them.
const DIGITS: usize = 12;

/// Fetches a model, or joins those for whom it is being fetched. It goes on without them.
pub(crate) async fn pull(
    State(state): State<AppState>,
    _: Owner,
    Bounded(body): SmallBody,
) -> Result<Response, ApiError> {
    let PullOrder { name, stream, accept_licence } = PullOrder::parse(&body)?;
    let catalogue = Catalogue::builtin();
    let id = named(&name, catalogue.entries().iter().map(|entry| entry.id.as_str())).unwrap_or(&name);
    let (ordered, entry) = match (catalogue.order(id), name.parse::<Reference>()) {
        (Some(entry), _) => (id, entry),
        (None, Ok(reference)) if name.contains('/') => {
            (name.as_str(), state.registry.store().find(&reference).await.map_err(|error| ApiError::from(&error))?)
        }
        (None, _) => {
            // A name of its own is there already, or nowhere.
            let model = state.aliases.model(&name, &state.registry, &state.upstreams);
            let is_here = state.registry.find(&model).is_some();
            return if is_here { Ok(Json(said("success")).into_response()) } else { Err(unknown(&name, catalogue)) };
        }
    };
    if accept_licence {
        let accepted = state.registry.store().accept(&entry, "the owner, over the network");
        accepted.map_err(|error| ApiError::from(&error))?;
    }
    let pull = state.registry.pulls().join(&state.registry, ordered, entry)?;
    if stream { Ok(streamed(Told { pull, lines: Lines::default() })) } else { whole(pull).await }
}

/// No such model, and which there are.
fn unknown(name: &str, catalogue: &Catalogue) -> ApiError {
    let ids: Vec<&str> = catalogue.entries().iter().map(|entry| entry.id.as_str()).collect();
    ApiError::not_in_catalogue(name, &ids.join(", "))
}

/// The end alone.
async fn whole(mut pull: Pull) -> Result<Response, ApiError> {
    loop {
        match pull.now() {
            Pulling::Done => return Ok(Json(said("success")).into_response()),
            Pulling::Failed(error) => return Err(ApiError::from(&*error)),
            Pulling::Cancelled => return Err(cancelled()),
            Pulling::Beginning | Pulling::Elsewhere | Pulling::Fetching(_) => pull.changed().await,
        }
    }
}

/// Somebody else ended it.
fn cancelled() -> ApiError {
    ApiError::conflict("download_cancelled", "the download was cancelled; what came is kept for the next time")
}

fn said(status: impl Into<String>) -> Status {
    Status {
        status: status.into(),
        digest: None,
        total: None,
        completed: None,
        bytes_per_second: None,
        eta_seconds: None,
    }
}

fn fetching(progress: &PullProgress) -> Status {
    let sha256 = progress.sha256.as_deref().unwrap_or_default();
    Status {
        status: format!("pulling {}", sha256.get(..DIGITS).unwrap_or(sha256)),
        digest: Some(format!("sha256:{sha256}")),
        total: Some(progress.total),
        completed: Some(progress.done),
        bytes_per_second: progress.bytes_per_second,
        eta_seconds: progress.left().map(|left| left.as_secs()),
    }
}

/// A download and what was told of it.
struct Told {
    pull: Pull,
    lines: Lines,
}

fn streamed(told: Told) -> Response {
    let lines = unfold(Some(told), |told| async move {
        let mut told = told?;
        loop {
            let now = told.pull.now();
            let (text, last) = (told.lines.of(&now), now.is_last());
            if !text.is_empty() {
                if !last {
                    tokio::time::sleep(LINE_EVERY).await;
                }
                return Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), (!last).then_some(told)));
            }
            told.pull.changed().await;
        }
    });
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Lines in Ollama's words. Nothing is said twice.
#[derive(Default)]
struct Lines {
    last: String,
    has_begun: bool,
}

impl Lines {
    /// What is to be said of this step; empty where it was said.
    fn of(&mut self, now: &Pulling) -> String {
        let mut text = String::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            text += &line(&said("pulling manifest"));
        }
        let next = match now {
            Pulling::Beginning => String::new(),
            Pulling::Elsewhere => line(&said("waiting for another process that fetches it")),
            Pulling::Fetching(PullProgress { starts_in: Some(wait), .. }) => line(&said(format!(
                "waiting for the hours of downloads, which begin in {} min",
                wait.as_secs().div_ceil(60)
            ))),
            Pulling::Fetching(progress) if progress.done >= progress.total => line(&said("verifying sha256 digest")),
            Pulling::Fetching(progress) => line(&fetching(progress)),
            Pulling::Done => line(&said("writing manifest")) + &line(&said("success")),
            Pulling::Failed(error) => line(&ApiError::from(&**error).ollama()),
            Pulling::Cancelled => line(&cancelled().ollama()),
        };
        if next != self.last {
            text += &next;
            self.last = next;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use allerac_router_core::PullProgress;

    use super::*;

    #[test]
    fn each_step_is_said_once_in_ollamas_words() {
        let digest = "0123456789abcdef".repeat(4);
        let mut lines = Lines::default();
        let mut said = |now: &Pulling| lines.of(now);
        let progress =
            |done| PullProgress { done, total: 10, sha256: Some(digest.as_str().into()), ..PullProgress::default() };
        let fetching = |done| Pulling::Fetching(progress(done));
        let pulling = |done: u64, rest: &str| {
            format!(
                "{{\"status\":\"pulling 0123456789ab\",\"digest\":\"sha256:{digest}\",\"total\":10,\"completed\":{done}{rest}}}\n"
            )
        };
        let waits = PullProgress { starts_in: Some(Duration::from_secs(61)), ..progress(0) };
        assert_eq!(
            Lines { has_begun: true, ..Lines::default() }.of(&Pulling::Fetching(waits)),
            "{\"status\":\"waiting for the hours of downloads, which begin in 2 min\"}\n"
        );
        assert_eq!(said(&Pulling::Beginning), "{\"status\":\"pulling manifest\"}\n");
        assert_eq!(said(&Pulling::Beginning), "");
        assert_eq!(said(&fetching(0)), pulling(0, ""));
        assert_eq!(said(&fetching(0)), "");
        let fast = PullProgress { bytes_per_second: Some(1), ..progress(7) };
        assert_eq!(said(&Pulling::Fetching(fast)), pulling(7, ",\"bytes_per_second\":1,\"eta_seconds\":3"));
        assert_eq!(said(&fetching(10)), "{\"status\":\"verifying sha256 digest\"}\n");
        assert_eq!(said(&Pulling::Done), "{\"status\":\"writing manifest\"}\n{\"status\":\"success\"}\n");
    }
}
