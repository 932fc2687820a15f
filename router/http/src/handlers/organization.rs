//! `/v1/organization/usage/...`: what was used, in spans of time, as OpenAI's administration API tells it.

use std::collections::BTreeMap;

use allerac_ledger::{Bucket, BucketSum, Part, Wanted, Width};
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

use super::list::Params;
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::state::AppState;

/// What generates.
const GENERATING: &[&str] =
    &["chat.completions", "completions", "messages", "responses", "ollama.chat", "ollama.generate"];
/// What encodes.
const ENCODING: &[&str] = &["embeddings", "ollama.embed", "rerank"];
/// Names and ids that one request may ask for.
const FILTER_MAX: usize = 64;
/// What pages begin with that are named here.
const PAGE: &str = "page_";

/// A page of spans.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct UsagePage<T> {
    /// `page`.
    object: &'static str,
    /// Spans, oldest first.
    data: Vec<UsageBucket<T>>,
    /// Whether more come after.
    has_more: bool,
    /// What to ask for as `page` to get them.
    next_page: Option<String>,
}

/// A span of time.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct UsageBucket<T> {
    /// `bucket`.
    object: &'static str,
    /// Its begin, in seconds since 1970.
    start_time: i64,
    /// Its end, not included.
    end_time: i64,
    /// What was used; nothing where nothing was.
    results: Vec<T>,
}

/// What was used for answers.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CompletionsUsage {
    /// `organization.usage.completions.result`.
    object: &'static str,
    /// Tokens of prompts.
    input_tokens: i64,
    /// Of these, known from before.
    input_cached_tokens: i64,
    /// Tokens of output.
    output_tokens: i64,
    /// None here.
    input_audio_tokens: i64,
    /// None here.
    output_audio_tokens: i64,
    /// Requests.
    num_model_requests: i64,
    #[serde(flatten)]
    of: Of,
    /// Not told apart here.
    batch: Option<bool>,
}

/// What was used for vectors and scores.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EmbeddingsUsage {
    /// `organization.usage.embeddings.result`.
    object: &'static str,
    /// Tokens of texts.
    input_tokens: i64,
    /// Requests.
    num_model_requests: i64,
    #[serde(flatten)]
    of: Of,
}

/// Whose, and with what, where `group_by` asks for it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Of {
    /// There are no projects here.
    project_id: Option<String>,
    /// The user's name.
    user_id: Option<String>,
    /// The key's public id.
    api_key_id: Option<String>,
    /// The model.
    model: Option<String>,
}

impl From<&mut BucketSum> for Of {
    fn from(sum: &mut BucketSum) -> Self {
        Self { project_id: None, user_id: sum.user.take(), api_key_id: sum.key.take(), model: sum.model.take() }
    }
}

pub(crate) async fn completions(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<UsagePage<CompletionsUsage>>, ApiError> {
    page(&state, &wanted(params, GENERATING)?, |mut sum| CompletionsUsage {
        object: "organization.usage.completions.result",
        input_tokens: sum.prompt_tokens,
        input_cached_tokens: sum.cached_tokens,
        output_tokens: sum.completion_tokens,
        input_audio_tokens: 0,
        output_audio_tokens: 0,
        num_model_requests: sum.requests,
        of: Of::from(&mut sum),
        batch: None,
    })
}

pub(crate) async fn embeddings(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<UsagePage<EmbeddingsUsage>>, ApiError> {
    page(&state, &wanted(params, ENCODING)?, |mut sum| EmbeddingsUsage {
        object: "organization.usage.embeddings.result",
        input_tokens: sum.prompt_tokens,
        num_model_requests: sum.requests,
        of: Of::from(&mut sum),
    })
}

/// What other servers took, and what electricity and the machine cost here.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Cost {
    /// `organization.costs.result`.
    object: &'static str,
    amount: Amount,
    /// The model, where `group_by` asks for it; `box` for what the box took while no request was computed.
    line_item: Option<String>,
    /// There are no projects here.
    project_id: Option<String>,
    /// The key's public id, where `group_by` asks for it.
    api_key_id: Option<String>,
}

/// Money.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Amount {
    /// How much.
    value: f64,
    /// Of which currency, as ISO 4217 has it, in lower case.
    currency: String,
}

/// Billionths are what costs are counted in.
const BILLION: f64 = 1e9;
/// What the box itself is called among models.
const BOX: &str = "box";
/// Days on a page of costs, as OpenAI's API has it.
const COST_DAYS_MAX: u64 = 180;

pub(crate) async fn costs(
    State(state): State<AppState>,
    _: Authenticated,
    mut params: Params,
) -> Result<Json<UsagePage<Cost>>, ApiError> {
    let limit = params.number("limit", 1, COST_DAYS_MAX)?.unwrap_or(7);
    if params.take("bucket_width").is_some_and(|width| width != "1d") {
        return Err(ApiError::invalid_value("bucket_width", "`bucket_width` must be 1d"));
    }
    let parts = params.take_all("group_by").into_iter().map(|part| match part.as_str() {
        "api_key_id" => Ok(Part::Key),
        "line_item" => Ok(Part::Model),
        _ => Err(ApiError::unsupported_value("group_by", "costs are told apart by api_key_id and line_item here")),
    });
    let by = parts.collect::<Result<_, _>>()?;
    let wanted = wanted(params, &[])?;
    let wanted = Wanted { by, limit: usize::try_from(limit).unwrap_or(1), ..wanted };
    let currency = state.ledger.currency()?;
    // The box's own is nobody's and of no model.
    let is_all = wanted.users.is_empty() && wanted.keys.is_empty() && wanted.models.is_empty();
    let own = if is_all { state.ledger.own_electricity_by_day()? } else { BTreeMap::new() };
    let of_box = BucketSum { model: wanted.by.contains(&Part::Model).then(|| BOX.to_owned()), ..BucketSum::default() };
    let (mut buckets, next) = state.ledger.buckets(&wanted)?;
    for bucket in &mut buckets {
        let Some(electricity) = own.get(&state.ledger.day(bucket.start)).filter(|cost| **cost > 0) else { continue };
        match bucket.sums.first_mut().filter(|_| wanted.by.is_empty()) {
            Some(sum) => sum.cost_here += electricity,
            None => bucket.sums.push(BucketSum { cost_here: *electricity, ..of_box.clone() }),
        }
    }
    Ok(pages(buckets, next, |sum| Cost {
        object: "organization.costs.result",
        #[expect(clippy::cast_precision_loss, reason = "exact up to nine millions, and a sum for people beyond")]
        amount: Amount { value: (sum.cost + sum.cost_here) as f64 / BILLION, currency: currency.clone() },
        line_item: sum.model,
        project_id: None,
        api_key_id: sum.key,
    }))
}

fn page<T>(state: &AppState, wanted: &Wanted, result: impl Fn(BucketSum) -> T) -> Result<Json<UsagePage<T>>, ApiError> {
    // A read of milliseconds: see what `books_speed` measures of a million requests.
    let (buckets, next) = state.ledger.buckets(wanted)?;
    Ok(pages(buckets, next, result))
}

fn pages<T>(buckets: Vec<Bucket>, next: Option<i64>, result: impl Fn(BucketSum) -> T) -> Json<UsagePage<T>> {
    let bucket = |Bucket { start, end, sums }: Bucket| UsageBucket {
        object: "bucket",
        start_time: start,
        end_time: end,
        results: sums.into_iter().map(&result).collect(),
    };
    let data = buckets.into_iter().map(bucket).collect();
    let next_page = next.map(|next| format!("{PAGE}{next}"));
    Json(UsagePage { object: "page", data, has_more: next_page.is_some(), next_page })
}

fn wanted(mut params: Params, endpoints: &[&'static str]) -> Result<Wanted, ApiError> {
    let moment_max = i64::MAX.unsigned_abs() / 1_000_000_000;
    let moment = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let from = params.number("start_time", 0, moment_max)?.ok_or_else(|| ApiError::missing("start_time"))?;
    let to = params.number("end_time", 0, moment_max)?.map(moment);
    let (width, default, most) = match params.take("bucket_width").as_deref() {
        None | Some("1d") => (Width::Day, 7, 31),
        Some("1h") => (Width::Hour, 24, 168),
        Some("1m") => (Width::Minute, 60, 1440),
        Some(_) => return Err(ApiError::invalid_value("bucket_width", "`bucket_width` must be 1m, 1h or 1d")),
    };
    let limit = params.number("limit", 1, most)?.unwrap_or(default);
    let from = match params.take("page") {
        None => moment(from),
        Some(page) => {
            let begin = page.strip_prefix(PAGE).and_then(|begin| begin.parse::<i64>().ok());
            let begin = begin.filter(|begin| *begin >= moment(from) && begin.unsigned_abs() <= moment_max);
            begin.ok_or_else(|| ApiError::invalid_value("page", "`page` must be the `next_page` of an answer"))?
        }
    };
    if to.is_some_and(|to| to <= from) {
        return Err(ApiError::invalid_value("end_time", "`end_time` must be after `start_time`"));
    }
    let parts = params.take_all("group_by").into_iter().map(|part| match part.as_str() {
        "user_id" => Ok(Part::User),
        "api_key_id" => Ok(Part::Key),
        "model" => Ok(Part::Model),
        _ => Err(ApiError::unsupported_value("group_by", "usage is told apart by user_id, api_key_id and model here")),
    });
    let by = parts.collect::<Result<_, _>>()?;
    let mut filter = |name: &str| {
        let values = params.take_all(name);
        if values.len() <= FILTER_MAX {
            return Ok(values);
        }
        Err(ApiError::invalid_value(name, &format!("`{name}` may name {FILTER_MAX} at most")))
    };
    let (users, keys, models) = (filter("user_ids")?, filter("api_key_ids")?, filter("models")?);
    params.finish()?;
    let limit = usize::try_from(limit).unwrap_or(1);
    Ok(Wanted { width, from, to, limit, by, endpoints: endpoints.to_vec(), users, keys, models })
}
