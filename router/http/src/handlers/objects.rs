//! People, keys and what belongs to them, as they are told of. Times are seconds since 1970.

use allerac_ledger::{
    AuditEntry, BudgetState, CreatedKey, InvitationRow, KeyLimits, KeyRow, NoHours, PlanRow, QuotaState, Scope, Scopes,
    SessionRow, TeamRow, UpstreamPolicy, UserRow,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::now_s;
use crate::error::ApiError;

/// What is left this month.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Quota {
    /// Tokens a month with increases; null for no limit.
    limit: Option<u64>,
    soft_limit: Option<u64>,
    used: u64,
    reserved: u64,
    free: Option<u64>,
    renews_at: i64,
}

/// What may be spent on other servers in a month, in billionths of the currency.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Spending {
    /// Null for no limit.
    limit_billionths: Option<u64>,
    used_billionths: u64,
    /// What running requests may cost at most.
    reserved_billionths: u64,
    free_billionths: Option<u64>,
}

/// Somebody.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PersonObject {
    object: &'static str,
    pub(crate) id: String,
    name: String,
    role: &'static str,
    plan: String,
    /// Keys that open.
    keys: u64,
    month: Quota,
    spending: Spending,
    /// Temporary increases, in tokens a month and until when.
    increases: Vec<IncreaseObject>,
    /// When they may use the box; always where it is empty.
    hours: String,
    /// The models that they may use; all where there is none.
    models: Vec<String>,
    has_password: bool,
    has_second_factor: bool,
    /// Passkeys that let them in.
    passkeys: u64,
    /// Whether another provider lets them in.
    has_single_sign_on: bool,
    created_at: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct IncreaseObject {
    tokens: u64,
    ends_at: i64,
}

/// A key without its secret.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct KeyObject {
    object: &'static str,
    pub(crate) id: String,
    name: String,
    user: String,
    /// The team that pays.
    team: Option<String>,
    /// A plan that limits this key beside its person's.
    plan: Option<String>,
    /// Other servers that it may use by name, or `all`.
    upstreams: Vec<String>,
    scopes: Vec<&'static str>,
    models: Vec<String>,
    hours: String,
    created_at: i64,
    expires_at: Option<i64>,
    /// To a minute.
    last_used_at: Option<i64>,
    /// Until when the secret before the last rotation opens.
    old_secret_until: Option<i64>,
    revoked_at: Option<i64>,
}

/// A key just made, or turned. The secret is told this once.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SecretObject {
    #[serde(flatten)]
    key: KeyObject,
    /// The whole key.
    secret: String,
}

/// A browser that is signed in.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SessionObject {
    object: &'static str,
    pub(crate) id: String,
    user: String,
    team: Option<String>,
    /// What the browser said that it is.
    agent: String,
    address: String,
    created_at: i64,
    expires_at: i64,
    last_used_at: i64,
    /// Whether it is the one that this was asked in.
    current: bool,
}

/// An invitation without its secret.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct InvitationObject {
    object: &'static str,
    pub(crate) id: String,
    name: Option<String>,
    role: &'static str,
    plan: String,
    team: Option<String>,
    /// `open`, `taken`, `revoked` or `expired`.
    status: &'static str,
    created_by: String,
    created_at: i64,
    expires_at: i64,
    /// Who took it.
    user: Option<String>,
    used_at: Option<i64>,
}

/// An invitation just made. The link is told this once.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LinkObject {
    #[serde(flatten)]
    pub(crate) invitation: InvitationObject,
    /// To be sent to whoever is invited. What opens it stands after the `#`, which browsers send to nobody.
    pub(crate) url: String,
}

/// A team.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TeamObject {
    object: &'static str,
    pub(crate) id: String,
    name: String,
    plan: String,
    members: Vec<String>,
    month: Quota,
    spending: Spending,
    created_at: i64,
}

/// A plan, and how many have it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PlanObject {
    object: &'static str,
    pub(crate) id: String,
    /// Its limits, as they are given when it is made.
    limits: Value,
    users: u64,
    keys: u64,
}

/// Something that was done.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AuditObject {
    object: &'static str,
    pub(crate) id: String,
    at: i64,
    actor: String,
    action: String,
    subject: String,
    detail: Value,
    /// Over all of this and the entry before.
    hash: String,
}

impl From<QuotaState> for Quota {
    fn from(state: QuotaState) -> Self {
        let QuotaState { limit, soft_limit, used, reserved, free, renews_at } = state;
        Self { limit, soft_limit, used, reserved, free, renews_at }
    }
}

impl From<BudgetState> for Spending {
    fn from(state: BudgetState) -> Self {
        Self {
            limit_billionths: state.limit,
            used_billionths: state.used,
            reserved_billionths: state.reserved,
            free_billionths: state.free,
        }
    }
}

impl From<UserRow> for PersonObject {
    fn from(row: UserRow) -> Self {
        let increases = row.increases.into_iter();
        Self {
            object: "person",
            id: row.user.clone(),
            name: row.user,
            role: row.role.as_str(),
            plan: row.plan,
            keys: row.keys,
            month: row.quota.into(),
            spending: row.spending.into(),
            increases: increases.map(|one| IncreaseObject { tokens: one.tokens, ends_at: one.ends_at }).collect(),
            hours: row.hours,
            models: row.models,
            has_password: row.password,
            has_second_factor: row.second_factor,
            passkeys: row.passkeys,
            has_single_sign_on: row.identities > 0,
            created_at: row.created_at,
        }
    }
}

impl From<KeyRow> for KeyObject {
    fn from(row: KeyRow) -> Self {
        Self {
            object: "key",
            id: row.id,
            name: row.name,
            user: row.user,
            team: row.team,
            plan: row.plan,
            upstreams: match row.upstreams {
                UpstreamPolicy::None => Vec::new(),
                UpstreamPolicy::Named(names) => names,
                UpstreamPolicy::All => vec!["all".to_owned()],
            },
            scopes: row.scopes,
            models: row.models,
            hours: row.hours,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.used_at,
            old_secret_until: row.old_until.filter(|until| *until > now_s()),
            revoked_at: row.revoked_at,
        }
    }
}

impl SecretObject {
    pub(crate) fn new(row: KeyRow, key: CreatedKey) -> Self {
        Self { key: row.into(), secret: key.secret }
    }
}

impl SessionObject {
    pub(crate) fn new(row: SessionRow, current: Option<&str>) -> Self {
        let current = current == Some(&row.id);
        let SessionRow { id, user, team, agent, address, created_at, expires_at, used_at } = row;
        let (object, last_used_at) = ("session", used_at);
        Self { object, id, user, team, agent, address, created_at, expires_at, last_used_at, current }
    }
}

impl From<InvitationRow> for InvitationObject {
    fn from(row: InvitationRow) -> Self {
        let status = match &row {
            InvitationRow { used_at: Some(_), .. } => "taken",
            InvitationRow { revoked_at: Some(_), .. } => "revoked",
            row if row.invited.expires_at <= now_s() => "expired",
            _ => "open",
        };
        Self {
            object: "invitation",
            id: row.id,
            name: row.invited.name,
            role: row.invited.role.as_str(),
            plan: row.invited.plan,
            team: row.invited.team,
            status,
            created_by: row.created_by,
            created_at: row.created_at,
            expires_at: row.invited.expires_at,
            user: row.user,
            used_at: row.used_at,
        }
    }
}

impl From<TeamRow> for TeamObject {
    fn from(row: TeamRow) -> Self {
        let TeamRow { team, plan, members, quota, spending, created_at } = row;
        let (month, spending) = (quota.into(), spending.into());
        Self { object: "team", id: team.clone(), name: team, plan, members, month, spending, created_at }
    }
}

impl From<PlanRow> for PlanObject {
    fn from(row: PlanRow) -> Self {
        let limits = serde_json::to_value(&row.plan).unwrap_or_default();
        Self { object: "plan", id: row.plan.name, limits, users: row.users, keys: row.keys }
    }
}

impl From<AuditEntry> for AuditObject {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { id, at, actor, action, subject, detail, hash } = entry;
        Self { object: "audit_entry", id: id.to_string(), at, actor, action, subject, detail, hash }
    }
}

/// What a key is to be bound to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KeyRequest {
    /// What it is for.
    #[schemars(length(max = 64), regex(pattern = r"^$|^[!-~]([ -~]*[!-~])?$"))]
    name: String,
    /// Whose it is; only where keys are made for others. A new name becomes a new person.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) user: Option<String>,
    /// A plan that limits it beside its person's.
    plan: Option<String>,
    /// Other servers that it may use by name, or `all`.
    upstreams: Vec<String>,
    /// The endpoints: `inference`, `models`, `files`, `account`, `admin`; all that its person may where none is named.
    scopes: Vec<ScopeWord>,
    /// The models by name, perhaps with `*` at the end; all where none is named.
    models: Vec<String>,
    /// When it may be used, as `mon-fri 07:00-20:00; sat,sun 09:00-21:30`.
    hours: Option<String>,
    /// How long it opens: up to ten years.
    #[schemars(range(min = 1, max = 315_360_000))]
    expires_in_seconds: Option<i64>,
    /// A team of its person's, which pays for it.
    team: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ScopeWord {
    Inference,
    Models,
    Files,
    Account,
    Admin,
}

/// What a request for a key says, in the ledger's terms.
pub(crate) struct Wanted {
    pub(crate) label: String,
    pub(crate) plan: Option<String>,
    pub(crate) upstreams: UpstreamPolicy,
    pub(crate) limits: KeyLimits,
}

/// The longest time of a key with an end, in seconds: ten years.
const EXPIRES_MAX_S: i64 = 10 * 365 * 24 * 3600;
/// Names in one list.
const NAMES_MAX: usize = 256;

impl KeyRequest {
    pub(crate) fn wanted(self) -> Result<Wanted, ApiError> {
        let scopes: Vec<Scope> = self.scopes.iter().map(|word| word.scope()).collect();
        let hours = self.hours.as_deref().unwrap_or_default().parse();
        let hours = hours.map_err(|error: NoHours| ApiError::invalid_value("hours", &error.to_string()))?;
        let expires_at = match self.expires_in_seconds {
            None => None,
            Some(seconds) if (1..=EXPIRES_MAX_S).contains(&seconds) => Some(now_s() + seconds),
            Some(_) => {
                let message = format!("`expires_in_seconds` must be between 1 and {EXPIRES_MAX_S}");
                return Err(ApiError::invalid_value("expires_in_seconds", &message));
            }
        };
        let is_name = |name: &String| !name.is_empty() && name.len() <= 256 && !name.contains(char::is_whitespace);
        if self.upstreams.len() > NAMES_MAX || !self.upstreams.iter().all(is_name) {
            return Err(ApiError::invalid_value("upstreams", "`upstreams` are names of other servers, or `all`"));
        }
        let upstreams = match self.upstreams {
            names if names.is_empty() => UpstreamPolicy::None,
            names if names.iter().any(|name| name == "all") => UpstreamPolicy::All,
            names => UpstreamPolicy::Named(names),
        };
        let limits = KeyLimits { scopes: Scopes::of(&scopes), models: self.models, hours, expires_at, team: self.team };
        Ok(Wanted { label: self.name, plan: self.plan, upstreams, limits })
    }
}

impl ScopeWord {
    fn scope(self) -> Scope {
        match self {
            Self::Inference => Scope::Inference,
            Self::Models => Scope::Models,
            Self::Files => Scope::Files,
            Self::Account => Scope::Account,
            Self::Admin => Scope::Admin,
        }
    }
}

/// How long the secret before still opens.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RotateRequest {
    /// Up to 90 days; 0 where it is to end at once.
    #[schemars(range(min = 0, max = 7_776_000))]
    pub(crate) overlap_seconds: i64,
}
