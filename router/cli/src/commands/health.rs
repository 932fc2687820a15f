//! `allerac health`: asks the server for a token as a client would, by a key of its own that lives as long as the
//! question. A new version of the system is kept only when it gets one.

use std::time::{Duration, Instant};

use allerac_ledger::{KeyLimits, Ledger, NewKey, UpstreamPolicy};
use allerac_models::{Catalogue, Entry, Installed, ModelKind, Store};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use super::models::models_failure;
use crate::args::{Health, Place};
use crate::failure::{Exit, Failure};
use crate::output::print_line;

/// Who asks, in the ledger.
const USER: &str = "allerac-health";
/// Of whatever size the model is.
const PLAN: &str = "unlimited";
/// How long one answer may take: a large model is read from the disk first, by slow machines.
const ANSWER_MAX: Duration = Duration::from_secs(240);
/// The key's life, should nobody be left to take it away: longer than all waits together.
const KEY_S: i64 = 3600;
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(3);
/// Answers that say "not now" before they are believed.
const REFUSALS_MAX: u32 = 5;

pub(crate) async fn run(args: &Health, place: &Place) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(args.wait_s);
    let client = Client::builder().timeout(ANSWER_MAX).no_proxy().build();
    let client = client.map_err(|error| Failure::from_error(Exit::Failure, &error))?;
    let asker = Asker { client, url: args.url.clone(), deadline };
    asker.wait_alive().await?;
    let wanted = chat_models(place)?;
    let ledger = place.ledger()?;
    let new = NewKey {
        user: USER.to_owned(),
        label: "health check".to_owned(),
        plan: Some(PLAN.to_owned()),
        upstreams: UpstreamPolicy::None,
        limits: KeyLimits { expires_at: Some(jiff::Timestamp::now().as_second() + KEY_S), ..KeyLimits::default() },
    };
    let key = ledger.create_key(new).await?;
    let asked = asker.ask(&key.secret, &wanted).await;
    revoke(&ledger, &key.public_id).await?;
    Ok(print_line(&asked?)?)
}

async fn revoke(ledger: &Ledger, id: &str) -> Result<(), Failure> {
    ledger.revoke_key(id).await?;
    Ok(ledger.flush().await?)
}

/// The installed models that can chat, smallest first: they must be there for a new version of the system as well.
fn chat_models(place: &Place) -> Result<Vec<String>, Failure> {
    let store = Store::open(&place.data_dir()?);
    let mut models: Vec<Installed> = store.list().map_err(|error| models_failure(&error))?;
    models.retain(|model| Catalogue::builtin().get(&model.id).is_some_and(|entry| entry.kind == ModelKind::Chat));
    models.sort_by_key(|model| Catalogue::builtin().get(&model.id).map(Entry::size_bytes));
    Ok(models.into_iter().map(|model| model.id).collect())
}

struct Asker {
    client: Client,
    url: reqwest::Url,
    deadline: Instant,
}

impl Asker {
    async fn wait_alive(&self) -> Result<(), Failure> {
        loop {
            let answer = self.client.get(self.path("healthz")).send().await;
            if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return Ok(());
            }
            if Instant::now() >= self.deadline {
                return Err(wrong("the server does not answer"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask(&self, key: &str, wanted: &[String]) -> Result<String, Failure> {
        let (status, listed) = self.try_again(|| self.client.get(self.path("v1/models")).bearer_auth(key)).await?;
        let listed: Vec<&str> =
            listed["data"].as_array().into_iter().flatten().filter_map(|m| m["id"].as_str()).collect();
        if status != StatusCode::OK {
            return Err(wrong(format!("the list of models is answered with {status}")));
        }
        let Some(model) = wanted.first() else {
            return Ok("healthy: the API answers; no model is installed that could be asked".to_owned());
        };
        if !listed.contains(&model.as_str()) {
            return Err(wrong(format!("{model} is installed, but the API does not offer it")));
        }
        let request = json!({"model": model, "max_tokens": 1, "temperature": 0,
            "messages": [{"role": "user", "content": "Say yes."}]});
        let began = Instant::now();
        let chat = || self.client.post(self.path("v1/chat/completions")).bearer_auth(key).json(&request);
        let (status, answer) = self.try_again(chat).await?;
        let tokens = answer["usage"]["completion_tokens"].as_u64().unwrap_or(0);
        if status != StatusCode::OK || tokens != 1 || answer["choices"][0]["message"]["role"] != "assistant" {
            return Err(wrong(format!(
                "{model} was asked for a token, and the answer was {status} with {tokens} of them"
            )));
        }
        Ok(format!("healthy: {model} answered in {:.1} s", began.elapsed().as_secs_f64()))
    }

    /// Asks until it is answered otherwise than with "not now", or that was said too often.
    async fn try_again(&self, request: impl Fn() -> reqwest::RequestBuilder) -> Result<(StatusCode, Value), Failure> {
        let mut refusals = 0;
        loop {
            match request().send().await {
                Ok(answer) if answer.status().is_server_error() => refusals += 1,
                Ok(answer) => {
                    let status = answer.status();
                    let body = answer.json().await.map_err(|error| wrong(format!("an answer is no JSON: {error}")))?;
                    return Ok((status, body));
                }
                Err(error) if Instant::now() >= self.deadline => {
                    return Err(wrong(format!("the server does not answer: {error}")));
                }
                Err(_) => {}
            }
            if refusals >= REFUSALS_MAX || Instant::now() >= self.deadline {
                return Err(wrong("the server cannot answer; its log says why"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn path(&self, path: &str) -> reqwest::Url {
        self.url.join(path).expect("these paths join any address")
    }
}

fn wrong(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Failure, message)
}
