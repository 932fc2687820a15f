//! Keys: `sk-allerac-<public id>-<secret>`.
//!
//! The public id (12 characters) finds the row; the secret (256 random bits) is kept as its BLAKE3 hash
//! only. A slow password hash would add nothing for a random secret and let anybody burn our CPU.

use std::sync::Arc;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;

use crate::balance::Holder;
use crate::error::AuthError;
use crate::hours::Hours;
use crate::plan::{Plan, Urgency, names_model};
use crate::role::{Right, Role, Scope, Scopes};

const PREFIX: &str = "sk-allerac-";
const PUBLIC_ID_CHARS: usize = 12;
/// 32 bytes in base64.
const SECRET_CHARS: usize = 43;

/// What a key may leave the box for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamPolicy {
    /// Everything stays on the box.
    None,
    /// These upstreams, by name.
    Named(Vec<String>),
    /// Every configured upstream.
    All,
}

impl UpstreamPolicy {
    /// Whether the upstream of this name may be used.
    #[must_use]
    pub fn allows(&self, upstream: &str) -> bool {
        match self {
            Self::None => false,
            Self::Named(names) => names.iter().any(|name| name == upstream),
            Self::All => true,
        }
    }

    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Named(names) => names.join("\n"),
            Self::All => "*".to_owned(),
        }
    }

    pub(crate) fn from_text(text: &str) -> Self {
        match text {
            "" => Self::None,
            "*" => Self::All,
            names => Self::Named(names.lines().map(str::to_owned).collect()),
        }
    }
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Whose key; a new name becomes a new user.
    pub user: String,
    /// What for, in the user's words.
    pub label: String,
    /// For a new user: the user's plan (`personal` when absent). For a known one: an extra limit of this key.
    pub plan: Option<String>,
    /// Where it may leave the box for.
    pub upstreams: UpstreamPolicy,
    /// What it is bound to beside that.
    pub limits: KeyLimits,
}

/// What a key is bound to, beyond what its person may.
#[derive(Debug, Clone, Default)]
pub struct KeyLimits {
    /// The endpoints.
    pub scopes: Scopes,
    /// The models by name, perhaps with `*` at the end; all where there is none.
    pub models: Vec<String>,
    /// When it may be used.
    pub hours: Hours,
    /// Until when, in seconds since 1970.
    pub expires_at: Option<i64>,
    /// The team that pays, of which its person is a member.
    pub team: Option<String>,
}

/// A key just made. Its secret is nowhere else.
#[derive(Clone)]
pub struct CreatedKey {
    /// The part that may be shown.
    pub public_id: String,
    /// The whole key.
    pub secret: String,
}

/// A key as the administrator sees it.
#[derive(Debug, Clone, Serialize)]
pub struct KeyRow {
    /// The part that may be shown.
    pub id: String,
    /// Whose.
    pub user: String,
    /// What for.
    pub name: String,
    /// The user's plan.
    pub user_plan: String,
    /// The key's own plan, an extra limit.
    pub plan: Option<String>,
    /// Where it may leave the box for.
    pub upstreams: UpstreamPolicy,
    /// The endpoints it is bound to.
    pub scopes: Vec<&'static str>,
    /// The models it is bound to; all where there is none.
    pub models: Vec<String>,
    /// When it may be used; always where it is empty.
    pub hours: String,
    /// The team that pays.
    pub team: Option<String>,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970, until when it opens.
    pub expires_at: Option<i64>,
    /// Seconds since 1970, when it was used last, to a minute.
    pub used_at: Option<i64>,
    /// Seconds since 1970, until when the secret before the last rotation opens.
    pub old_until: Option<i64>,
    /// Seconds since 1970, when it was revoked.
    pub revoked_at: Option<i64>,
}

/// Who a request comes from, and what it may do.
#[derive(Debug, Clone)]
pub struct Principal {
    pub(crate) key: i64,
    /// Who pays: the person, or a team.
    pub(crate) payer: i64,
    /// The public id of the key.
    pub key_id: String,
    /// The user's name.
    pub user_name: String,
    /// What the user is.
    pub role: Role,
    /// The team that pays, where it is not the user.
    pub team: Option<String>,
    /// The plan of whoever pays.
    pub user_plan: Arc<Plan>,
    /// The key's own plan.
    pub key_plan: Option<Arc<Plan>>,
    /// Where the key may leave the box for.
    pub upstreams: UpstreamPolicy,
    /// The endpoints that the key is bound to.
    pub scopes: Scopes,
    /// The models that the user and the key are bound to; all where there is none.
    pub(crate) models: [Vec<String>; 2],
    /// It is not one of the hours of the user or the key; when it will be, in seconds since 1970.
    pub(crate) closed: Option<Option<i64>>,
    /// The key itself has a plan, models, hours or an end of its own.
    pub is_bound: bool,
    /// The session that the request came in, by its public id.
    pub session: Option<String>,
    /// Keeps one user's cached prompts from another's.
    pub salt: u64,
    /// A soft limit was passed this month: requests wait for everybody else's.
    pub past_soft_limit: bool,
}

/// Why somebody may not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// People of this role may not.
    Role(Role, Right),
    /// The key is bound to other endpoints.
    Scope(Scope),
    /// Not at this time; when it begins again, in seconds since 1970.
    Hours(Option<i64>),
}

impl Principal {
    /// Whether this may be done, by the person, with the key, now.
    ///
    /// # Errors
    /// [`Denied`] with the reason.
    pub fn may(&self, right: Right) -> Result<(), Denied> {
        if !self.role.allows(right) {
            return Err(Denied::Role(self.role, right));
        }
        if !self.scopes.has(right.scope()) {
            return Err(Denied::Scope(right.scope()));
        }
        match self.closed {
            // Who is shut out may still see why, and sign out.
            Some(opens_at) if right != Right::Account => Err(Denied::Hours(opens_at)),
            _ => Ok(()),
        }
    }

    /// The plans that limit it: the user's, and the key's where it has one.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        std::iter::once(&self.user_plan).chain(&self.key_plan).map(Arc::as_ref)
    }

    /// The accounts that its requests are charged to, by their names in the books, with the plan that limits each.
    #[must_use]
    pub fn accounts(&self) -> Vec<(String, &Plan)> {
        let names = [Holder::User(self.payer).account(), Holder::Key(self.key).account()];
        names.into_iter().zip(self.plans()).collect()
    }

    /// Whether both plans allow a model of this many parameters.
    #[must_use]
    pub fn allows_parameters(&self, parameters: u64) -> bool {
        self.plans().filter_map(|plan| plan.parameters_below).all(|limit| parameters < limit)
    }

    /// Whether both plans have a model of this name, and neither the user nor the key is bound to others.
    #[must_use]
    pub fn allows_model(&self, model: &str) -> bool {
        self.plans().all(|plan| plan.allows_model(model)) && self.models.iter().all(|names| names_model(names, model))
    }

    /// Bytes that its person may keep, by the plans in force here; `None` for no limit.
    #[must_use]
    pub fn storage_bytes(&self) -> Option<u64> {
        self.plans().filter_map(|plan| plan.storage_bytes).min()
    }

    /// Whether both plans have a model of this name that is somebody's own.
    #[must_use]
    pub fn allows_own_model(&self, model: &str) -> bool {
        self.plans().all(|plan| plan.allows_own_model(model))
    }

    /// How urgent its requests may be.
    #[must_use]
    pub fn urgency(&self) -> Urgency {
        if self.past_soft_limit {
            return Urgency::Batch;
        }
        self.plans().map(|plan| plan.class).min().unwrap_or(Urgency::Chat)
    }

    /// Whether role, plans and key allow this upstream.
    #[must_use]
    pub fn allows_upstream(&self, upstream: &str) -> bool {
        self.role.allows(Right::LeaveTheBox)
            && self.plans().all(|plan| plan.upstreams)
            && self.upstreams.allows(upstream)
    }
}

/// The two halves of a presented key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Presented<'a> {
    pub(crate) public_id: &'a str,
    secret: &'a str,
}

impl<'a> Presented<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, AuthError> {
        Self::after(PREFIX, text)
    }

    /// One that begins with another word.
    pub(crate) fn after(prefix: &str, text: &'a str) -> Result<Self, AuthError> {
        let rest = text.strip_prefix(prefix).ok_or(AuthError::Malformed)?;
        let (public_id, secret) = rest.split_once('-').ok_or(AuthError::Malformed)?;
        if public_id.len() == PUBLIC_ID_CHARS && secret.len() == SECRET_CHARS {
            Ok(Self { public_id, secret })
        } else {
            Err(AuthError::Malformed)
        }
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        *blake3::hash(self.secret.as_bytes()).as_bytes()
    }
}

impl CreatedKey {
    pub(crate) fn random() -> Self {
        Self::beginning_with(PREFIX)
    }

    /// The same key with another secret.
    pub(crate) fn rotated(public_id: &str) -> Self {
        let secret = BASE64URL_NOPAD.encode(&random_bytes::<32>());
        Self { secret: format!("{PREFIX}{public_id}-{secret}"), public_id: public_id.to_owned() }
    }

    /// A secret of another kind, which begins with another word.
    pub(crate) fn beginning_with(prefix: &str) -> Self {
        let secret = BASE64URL_NOPAD.encode(&random_bytes::<32>());
        let public_id = public_id();
        Self { secret: format!("{prefix}{public_id}-{secret}"), public_id }
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        let secret = &self.secret[self.secret.len() - SECRET_CHARS..];
        *blake3::hash(secret.as_bytes()).as_bytes()
    }
}

/// A name for something that is made, to be shown.
pub(crate) fn public_id() -> String {
    let mut id = BASE32_NOPAD.encode(&random_bytes::<8>()).to_lowercase();
    id.truncate(PUBLIC_ID_CHARS);
    id
}

pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_parsed_back_and_others_are_malformed() {
        let key = CreatedKey::random();
        assert_eq!(key.secret.len(), PREFIX.len() + PUBLIC_ID_CHARS + 1 + SECRET_CHARS);
        assert_eq!(Presented::parse(&key.secret).unwrap().public_id, key.public_id);
        let huge = "x".repeat(1_000_000);
        for text in
            ["", "sk-", "sk-allerac-", "sk-allerac-abc-def", &key.secret[1..], &format!("{}x", key.secret), &huge]
        {
            assert!(matches!(Presented::parse(text), Err(AuthError::Malformed)));
        }
    }

    #[test]
    fn a_policy_survives_its_text() {
        for policy in [UpstreamPolicy::None, UpstreamPolicy::All, UpstreamPolicy::Named(vec!["a".into(), "b".into()])] {
            assert_eq!(UpstreamPolicy::from_text(&policy.to_text()), policy);
        }
    }
}
