//! Plans and users on the command line.

use allerac_ledger::{Counts, Plan, Urgency, Weight};
use clap::{Args as ClapArgs, Subcommand};

use super::Listing;
use crate::amount::{Gigabytes, Limit, ModelSize, Money, Named, parse_amount, parse_weight};

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  allerac plans list
  allerac plans add kids --tokens-a-month 500k --models-up-to 8B --requests-a-minute 20
  allerac plans set starter --soft-limit 800k
  allerac plans remove kids

Changes hold from the next request on, also while the server runs. What was used this month stays used.")]
pub(crate) enum Plans {
    /// List all plans with their limits
    List(Listing),
    /// Make a plan; what is not given is not limited
    Add(PlansAdd),
    /// Change a plan, for all who have it; what is not given stays as it is
    Set(PlansSet),
    /// Remove a plan that nobody has
    Remove(PlansRemove),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac plans add kids --tokens-a-month 500k --models-up-to 8B --requests-a-minute 20 --upstreams false
  allerac plans add trial --like starter --tokens-a-month 100k
  allerac plans add billed --tokens-a-month 10M --counts weighted --weight 'llama-3.3-70b=2,4' --weight 'qwen-*=0.5,1'")]
pub(crate) struct PlansAdd {
    /// The new plan's name
    pub(crate) name: String,
    /// Begin with the limits of this plan instead of none
    #[arg(long, value_name = "PLAN")]
    pub(crate) like: Option<String>,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac plans set starter --tokens-a-month 2M
  allerac plans set pro --tokens-a-minute 100k --concurrency 4
  allerac plans set personal --requests-a-minute none
  allerac plans set starter --storage-gb 10
  allerac plans set pro --upstream-budget 12.50")]
pub(crate) struct PlansSet {
    /// Which plan
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac plans remove trial")]
pub(crate) struct PlansRemove {
    /// Which plan
    pub(crate) name: String,
}

/// The limits of a plan. Amounts may end in k, M or G; `none` takes a limit away.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// Tokens in a calendar month
    #[arg(long, value_name = "TOKENS")]
    tokens_a_month: Option<Limit<u64>>,
    /// Beyond so many tokens a month, requests wait for everybody else's
    #[arg(long, value_name = "TOKENS")]
    soft_limit: Option<Limit<u64>>,
    /// Which tokens count: input, output, both or weighted
    #[arg(long, value_name = "WHICH")]
    counts: Option<Counts>,
    /// What a token of a prompt and one of an answer count with a model (`*` may end its name); may be repeated
    #[arg(long, value_name = "MODEL=INPUT,OUTPUT", value_parser = parse_weight)]
    weight: Vec<Weight>,
    /// Whether what a month leaves is there in the next one too
    #[arg(long, value_name = "BOOL")]
    carry_over: Option<bool>,
    /// Requests in any minute
    #[arg(long, value_name = "REQUESTS")]
    requests_a_minute: Option<Limit<u32>>,
    /// Tokens in any minute, of prompts and of answers as far as they may go
    #[arg(long, value_name = "TOKENS")]
    tokens_a_minute: Option<Limit<u64>>,
    /// Requests at once
    #[arg(long, value_name = "REQUESTS")]
    concurrency: Option<Limit<u32>>,
    /// Models up to this size, as their names have it: 8B, 1.5B, 135M
    #[arg(long, value_name = "SIZE")]
    models_up_to: Option<Limit<ModelSize>>,
    /// A model of the plan (`*` may end its name), or `all`; may be repeated
    #[arg(long, value_name = "MODEL")]
    model: Vec<String>,
    /// How urgent requests may be at most: batch, chat or voice
    #[arg(long, value_name = "CLASS")]
    class: Option<Urgency>,
    /// Whether keys may be allowed to use other servers
    #[arg(long, value_name = "BOOL")]
    upstreams: Option<bool>,
    /// Gigabytes that somebody may keep, in files, responses and batches
    #[arg(long, value_name = "GB")]
    storage_gb: Option<Limit<Gigabytes>>,
    /// What may be spent on other servers in a calendar month, in the currency of their prices
    #[arg(long, value_name = "MONEY")]
    upstream_budget: Option<Limit<Money>>,
}

impl Limits {
    /// Whether nothing is given.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { tokens_a_month, soft_limit, counts, weight, carry_over, requests_a_minute, .. } = self;
        let Self { tokens_a_minute, concurrency, models_up_to, model, class, upstreams, storage_gb, .. } = self;
        let no_amounts = storage_gb.is_none() && self.upstream_budget.is_none();
        let no_tokens = tokens_a_month.is_none() && soft_limit.is_none() && counts.is_none() && weight.is_empty();
        let no_rate = requests_a_minute.is_none() && tokens_a_minute.is_none() && concurrency.is_none();
        let no_models = models_up_to.is_none() && model.is_empty() && class.is_none() && upstreams.is_none();
        no_tokens && no_rate && no_models && carry_over.is_none() && no_amounts
    }

    /// Changes what is given.
    pub(crate) fn apply(&self, plan: &mut Plan) {
        set(&mut plan.tokens_a_month, self.tokens_a_month.as_ref());
        set(&mut plan.soft_tokens_a_month, self.soft_limit.as_ref());
        set(&mut plan.requests_a_minute, self.requests_a_minute.as_ref());
        set(&mut plan.tokens_a_minute, self.tokens_a_minute.as_ref());
        set(&mut plan.concurrency, self.concurrency.as_ref());
        if let Some(Limit(size)) = &self.models_up_to {
            plan.parameters_below = size.map(|size| size.below);
        }
        if let Some(Limit(storage)) = &self.storage_gb {
            plan.storage_bytes = storage.map(|Gigabytes(bytes)| bytes);
        }
        if let Some(Limit(budget)) = &self.upstream_budget {
            plan.upstream_budget_billionths = budget.map(|Money(billionths)| billionths);
        }
        plan.counts = self.counts.unwrap_or(plan.counts);
        if plan.counts != Counts::Weighted && self.counts.is_some() {
            plan.weights.clear();
        }
        if !self.weight.is_empty() {
            plan.weights.clone_from(&self.weight);
        }
        plan.carry_over = self.carry_over.unwrap_or(plan.carry_over);
        plan.class = self.class.unwrap_or(plan.class);
        plan.upstreams = self.upstreams.unwrap_or(plan.upstreams);
        if !self.model.is_empty() {
            plan.models = self.model.iter().filter(|model| *model != "all").cloned().collect();
        }
    }
}

fn set<T: Copy>(limit: &mut Option<T>, given: Option<&Limit<T>>) {
    if let Some(Limit(value)) = given {
        *limit = *value;
    }
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac users increase anna --tokens 2M --until 2026-12-24
  allerac users increase anna --tokens 500k --until 2026-12-24T18:00:00Z
  allerac users increase anna --end")]
pub(crate) struct UsersIncrease {
    /// Which user
    pub(crate) name: String,
    /// How many tokens a month beyond the plan
    #[arg(long, value_name = "TOKENS", value_parser = parse_amount, required_unless_present = "end")]
    pub(crate) tokens: Option<u64>,
    /// When it ends: a day (its begin, in the time zone of days and months), or a moment
    #[arg(long, value_name = "DATE|TIME", required_unless_present = "end")]
    pub(crate) until: Option<String>,
    /// End all increases of the user now
    #[arg(long, conflicts_with_all = ["tokens", "until"])]
    pub(crate) end: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac keys set k3x7q2m9p4ab --plan starter
  allerac keys set k3x7q2m9p4ab --plan none")]
pub(crate) struct KeysSet {
    /// The key's public id, as `allerac keys list` shows it
    pub(crate) id: String,
    /// A plan that limits this key beside its user's, or `none`
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: Named,
}
