//! What a user or a key may use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A preset of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plan {
    /// 1 million tokens a month, models up to 8B.
    Starter,
    /// 10 million tokens a month, models up to 14B.
    Personal,
    /// 50 million tokens a month, all models, other servers.
    Pro,
    /// No limit; the owner's own.
    Unlimited,
}

impl Plan {
    /// All plans, smallest first.
    pub const ALL: [Self; 4] = [Self::Starter, Self::Personal, Self::Pro, Self::Unlimited];

    /// Tokens in a calendar month, prompt and output together; `None` for no limit.
    #[must_use]
    pub fn tokens_a_month(self) -> Option<u64> {
        match self {
            Self::Starter => Some(1_000_000),
            Self::Personal => Some(10_000_000),
            Self::Pro => Some(50_000_000),
            Self::Unlimited => None,
        }
    }

    /// Models with fewer parameters than this. Model names round down: an "8B" has up to 8.99 billion.
    #[must_use]
    pub fn parameters_below(self) -> Option<u64> {
        match self {
            Self::Starter => Some(9_000_000_000),
            Self::Personal => Some(15_000_000_000),
            Self::Pro | Self::Unlimited => None,
        }
    }

    /// Whether keys under this plan may be allowed to use other servers.
    #[must_use]
    pub fn allows_upstreams(self) -> bool {
        matches!(self, Self::Pro | Self::Unlimited)
    }

    /// Whether requests may ask to come before others.
    #[must_use]
    pub fn has_priority(self) -> bool {
        !matches!(self, Self::Starter)
    }

    /// The plan's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starter => "starter",
            Self::Personal => "personal",
            Self::Pro => "pro",
            Self::Unlimited => "unlimited",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A plan of that name is not known.
#[derive(Debug, thiserror::Error)]
#[error("there is no plan `{0}`; plans are starter, personal, pro and unlimited")]
pub struct UnknownPlan(String);

impl FromStr for Plan {
    type Err = UnknownPlan;

    fn from_str(name: &str) -> Result<Self, UnknownPlan> {
        Self::ALL.into_iter().find(|plan| plan.as_str() == name).ok_or_else(|| UnknownPlan(name.to_owned()))
    }
}
