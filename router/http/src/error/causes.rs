//! What each part's errors are to a client.

use std::error::Error;
use std::iter::successors;

use allerac_engine_link::EngineError;
use allerac_engine_link::protocol::PrepareError;
use allerac_ledger::{AuthError, Denied, LedgerError, ReserveError, Right, money_text};
use allerac_objects::StoreError;
use allerac_router_core::{Measure, ModelsError, NoEngine, NoRoute, NotAdmitted, Refused, TooManyPulls, UpstreamError};
use allerac_wire::WireError;
use axum::http::StatusCode;

use super::{ApiError, INVALID, RETRY_AFTER_BUSY_S, RETRY_AFTER_MAX_S, SERVER, shorten};

impl From<WireError> for ApiError {
    fn from(error: WireError) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: INVALID,
            code: error.code,
            param: error.param,
            message: error.message,
            retry_after_s: None,
            is_lasting: false,
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Ledger(error) => error.into(),
            AuthError::Malformed | AuthError::Unknown | AuthError::Revoked => {
                Self { message: error.to_string(), ..Self::no_key() }
            }
            AuthError::Expired => Self::unauthenticated("key_expired", &error.to_string()),
            AuthError::SignedOut => Self::unauthenticated("signed_out", &error.to_string()),
        }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Role(_, Right::Look | Right::Administer | Right::MakeAdmins) => {
                let message = "only the owner or an admin of the box may do this: use a key of theirs";
                Self::forbidden("owner_only", message)
            }
            Denied::Role(role, right) => {
                let message = format!("people with the role {role} may not {}; ask the owner of the box", right.what());
                Self::forbidden("role_not_allowed", message)
            }
            Denied::Scope(scope) => {
                let message = format!("this key is not made for the endpoints `{}`; use another one", scope.as_str());
                Self::forbidden("scope_not_allowed", message)
            }
            Denied::Hours(opens_at) => {
                let opens = opens_at.and_then(|at| jiff::Timestamp::from_second(at).ok());
                let until = opens.map_or_else(String::new, |at| format!("; the next ones begin at {at}"));
                Self::forbidden("outside_hours", format!("these are not the hours of this person or key{until}"))
            }
        }
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Full => {
                tracing::error!("the ledger: {error}");
                Self::busy("disk_full", error.to_string())
            }
            LedgerError::Unreachable(ref cause) => {
                tracing::error!("the ledger: {error}: {cause}");
                Self::busy("ledger_unavailable", format!("{error}; try again soon"))
            }
            LedgerError::AlreadyClaimed => {
                Self::new(StatusCode::CONFLICT, INVALID, "already_claimed", error.to_string())
            }
            LedgerError::InvalidName => Self::invalid_value("name", &error.to_string()),
            LedgerError::Invalid { field, ref reason } => Self::invalid_value(field, reason),
            LedgerError::UnknownPlan(ref plan) => {
                Self::invalid_value("plan", &format!("there is no plan `{}`", shorten(plan)))
            }
            LedgerError::PlanForbidsUpstreams { plan } => {
                Self::invalid_value("upstreams", &format!("the plan {plan} does not include other servers"))
            }
            LedgerError::InvalidPlan(_) | LedgerError::InvalidIncrease(_) => {
                Self::new(StatusCode::BAD_REQUEST, INVALID, "invalid_value", error.to_string())
            }
            LedgerError::UnknownKey(id) => Self::nothing("key", &id),
            LedgerError::UnknownUser(name) => Self::nothing("person", &name),
            LedgerError::Missing { what, id } => Self::nothing(what, &id),
            LedgerError::Conflict { code, reason } => Self::conflict(code, reason),
            LedgerError::PlanExists(name) => Self::conflict("plan_exists", format!("there is a plan {name} already")),
            LedgerError::PlanInUse { .. } | LedgerError::PlanNeeded(_) => {
                Self::conflict("plan_in_use", error.to_string())
            }
            LedgerError::Forbidden(message) => Self::forbidden("role_not_allowed", message),
            error => {
                tracing::error!("the ledger: {error}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "ledger_error", "the ledger failed; see the log")
            }
        }
    }
}

impl From<TooManyPulls> for ApiError {
    fn from(error: TooManyPulls) -> Self {
        Self::busy("too_many_downloads", error.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoRoom { .. } | StoreError::TooMany { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, "storage_full", error.to_string())
            }
            StoreError::DiskFull => {
                tracing::error!("the store: {error}");
                Self::busy("disk_full", error.to_string())
            }
            error => {
                let causes = successors(error.source(), |&cause| cause.source());
                tracing::error!("the store: {error}{}", causes.map(|cause| format!(": {cause}")).collect::<String>());
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "store_error", "the store failed; see the log")
            }
        }
    }
}

impl From<NotAdmitted> for ApiError {
    fn from(reason: NotAdmitted) -> Self {
        match reason {
            NotAdmitted::Full => Self::too_many_requests(),
            NotAdmitted::Refused(refused) => refused.into(),
            NotAdmitted::Away => {
                Self::busy("ledger_unavailable", "the ledger's database cannot be reached; try again soon")
            }
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let Refused { measure, limit, asked, wait } = refused;
        let seconds = wait.map(|wait| u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1));
        let (kind, message) = match (measure, seconds) {
            (Measure::Requests, _) => ("requests", format!("your plan has {limit} requests a minute")),
            (Measure::Concurrency, _) => ("requests", format!("your plan has {limit} requests at once; wait for one")),
            (Measure::Tokens, Some(_)) => {
                ("tokens", format!("your plan has {limit} tokens a minute; this request may need {asked}"))
            }
            (Measure::Tokens, None) => (
                "tokens",
                format!(
                    "your plan has {limit} tokens a minute and this request may need {asked}, which never fits: send \
                     less, or ask for less with max_tokens"
                ),
            ),
        };
        let message = seconds.map_or(message.clone(), |seconds| format!("{message}; try again in {seconds} s"));
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, kind, "rate_limit_exceeded", message);
        match (measure, seconds) {
            (_, Some(seconds)) => error.retry_after(seconds),
            // How long the others take is not known; most answers take less than the usual wait.
            (Measure::Concurrency, None) => error.retry_after(RETRY_AFTER_BUSY_S),
            (Measure::Requests | Measure::Tokens, None) => Self { is_lasting: true, ..error },
        }
    }
}

impl From<ReserveError> for ApiError {
    fn from(error: ReserveError) -> Self {
        match error {
            ReserveError::QuotaExceeded { limit, free, requested, renews_at } => used_up(renews_at, |renews| {
                format!(
                    "this request may need {requested} tokens, and {free} of the {limit} a month are left; they \
                     renew at {renews}. Ask for less with max_tokens, or ask the owner for a larger plan"
                )
            }),
            ReserveError::BudgetExceeded { upstream, limit, free, requested, currency, renews_at } => {
                let currency = currency.to_uppercase();
                let [limit, free, requested] = [limit, free, requested].map(money_text);
                let whose = upstream.map_or_else(
                    || "your plan has for other servers".to_owned(),
                    |name| format!("everybody together has for the server {name}"),
                );
                used_up(renews_at, |renews| {
                    format!(
                        "this request may cost {requested} {currency}, and {free} of the {limit} {currency} a month that \
                         {whose} are left; they renew at {renews}. Ask for less with max_tokens, use a model of this \
                         box, or ask the owner for a larger budget"
                    )
                })
            }
            ReserveError::TooMany => Self::too_many_requests(),
            ReserveError::Ledger(error) => error.into(),
        }
    }
}

/// The month has too little left of something.
fn used_up(renews_at: i64, message: impl FnOnce(jiff::Timestamp) -> String) -> ApiError {
    let renews = jiff::Timestamp::from_second(renews_at).unwrap_or(jiff::Timestamp::MAX);
    let seconds = renews_at.saturating_sub(jiff::Timestamp::now().as_second());
    const CODE: &str = "insufficient_quota";
    let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, CODE, CODE, message(renews));
    let seconds = u32::try_from(seconds.max(1)).unwrap_or(u32::MAX);
    ApiError { is_lasting: true, ..error.retry_after(seconds) }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::QueueFull { wait_ms, .. } => Self::busy("engine_overloaded", message)
                .retry_after(wait_ms.div_ceil(1000).clamp(RETRY_AFTER_BUSY_S, RETRY_AFTER_MAX_S)),
            EngineError::TooLong { .. } => {
                Self::new(StatusCode::BAD_REQUEST, INVALID, "context_length_exceeded", message)
            }
            EngineError::Prepare(PrepareError::Busy | PrepareError::Crowded) => {
                Self::busy("engine_overloaded", message)
            }
            EngineError::Constraint { .. } => Self::new(StatusCode::BAD_REQUEST, INVALID, "grammar_failed", message),
            EngineError::Prepare(_) => Self::new(StatusCode::BAD_REQUEST, INVALID, "invalid_prompt", message),
            // The reason may name paths of the box; it is in the log.
            EngineError::LoadFailed { .. } => {
                Self::busy("model_unavailable", "the model cannot be loaded; the owner of the box finds why in its log")
            }
            EngineError::Crashed => Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "engine_crashed", message),
            EngineError::Backend { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "engine_failed", message)
            }
            EngineError::ClientStalled => Self::new(StatusCode::REQUEST_TIMEOUT, INVALID, "client_stalled", message),
            EngineError::Timeout | EngineError::Stopped => Self::busy("engine_unavailable", message),
        }
    }
}

impl From<NoEngine> for ApiError {
    fn from(error: NoEngine) -> Self {
        let message = error.to_string();
        match error {
            NoEngine::TooLarge { .. } => Self::busy("insufficient_memory", message).retry_after(RETRY_AFTER_MAX_S),
            NoEngine::NoMemory { .. } => Self::busy("insufficient_memory", message),
            // The reason may name paths of the box; it is in the log.
            NoEngine::Failed { reason, retry_in } => {
                let seconds = u32::try_from(retry_in.as_secs()).unwrap_or(u32::MAX);
                Self::from(EngineError::LoadFailed { reason })
                    .retry_after(seconds.clamp(RETRY_AFTER_BUSY_S, RETRY_AFTER_MAX_S))
            }
            NoEngine::Gone => Self::new(StatusCode::NOT_FOUND, INVALID, "model_not_found", message).with_param("model"),
            NoEngine::Engine(error) => error.into(),
        }
    }
}

/// Said to the owner of the box, who is the only one to order models.
impl From<&ModelsError> for ApiError {
    fn from(error: &ModelsError) -> Self {
        let message = error.to_string();
        match error {
            ModelsError::NotInstalled(id) => Self::no_route(id, NoRoute::Unknown),
            ModelsError::Name(_) => Self::invalid_value("destination", &message),
            ModelsError::Taken(_) | ModelsError::Busy(_) => Self::conflict("model_exists", message),
            ModelsError::DiskFull { .. } | ModelsError::NoRoom { .. } => Self::busy("disk_full", message),
            ModelsError::Licence { .. } => {
                Self::new(StatusCode::FORBIDDEN, INVALID, "licence_not_accepted", message).with_param("accept_licence")
            }
            ModelsError::Gated { .. } => Self::new(StatusCode::FORBIDDEN, INVALID, "model_gated", message),
            ModelsError::Hub(_) => {
                Self::new(StatusCode::NOT_FOUND, INVALID, "model_not_found", message).with_param("model")
            }
            ModelsError::NotModel { .. } | ModelsError::Misfit { .. } | ModelsError::NoBase { .. } => {
                Self::new(StatusCode::BAD_REQUEST, INVALID, "model_not_usable", message)
            }
            ModelsError::Download(_)
            | ModelsError::WrongDigest { .. }
            | ModelsError::Package { .. }
            | ModelsError::Pip { .. } => Self::new(StatusCode::BAD_GATEWAY, SERVER, "download_failed", message),
            ModelsError::Catalogue(_)
            | ModelsError::File { .. }
            | ModelsError::Damaged { .. }
            | ModelsError::Record { .. } => {
                tracing::error!("the models: {error}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "models_error", message)
            }
        }
    }
}

impl From<UpstreamError> for ApiError {
    fn from(error: UpstreamError) -> Self {
        let causes = successors(error.source(), |&cause| cause.source());
        tracing::warn!("{error}{}", causes.map(|cause| format!(": {cause}")).collect::<String>());
        Self::new(StatusCode::BAD_GATEWAY, "upstream_error", "upstream_error", error.to_string())
    }
}
