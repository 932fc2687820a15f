//! What the metrics say, in figures that people ask for.

use serde::Serialize;

use super::scrape::{Scrape, Wanted};

/// Everything that is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) url: String,
    pub(super) version: String,
    pub(super) requests_in_flight: u64,
    pub(super) models: Vec<Model>,
    pub(super) upstreams: Vec<Upstream>,
}

/// One installed model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Model {
    pub(super) model: String,
    pub(super) state: String,
    pub(super) crashes: u64,
    pub(super) requests: Vec<Requests>,
    pub(super) prompt_tokens_per_second: f64,
    pub(super) output_tokens_per_second: f64,
    pub(super) chunk_tokens: u64,
    /// Mean times of a step.
    pub(super) decode_seconds: Option<f64>,
    pub(super) prefill_seconds: Option<f64>,
    pub(super) first_token: Percentiles,
    pub(super) between_tokens: Percentiles,
    /// Shares of all tokens of prompts.
    pub(super) prompt_share: Option<PromptShare>,
    /// The share of guesses that were right.
    pub(super) draft_acceptance: Option<f64>,
    pub(super) kv_cells: u64,
    pub(super) kv_cells_active: u64,
    pub(super) kv_cells_kept: u64,
    pub(super) archive_entries: u64,
    pub(super) archive_memory_bytes: u64,
    pub(super) archive_disk_bytes: u64,
}

/// The requests of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Requests {
    pub(super) class: String,
    pub(super) active: u64,
    pub(super) waiting: u64,
    pub(super) paused: u64,
}

/// Where the tokens of prompts came from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct PromptShare {
    pub(super) computed: f64,
    pub(super) slot: f64,
    pub(super) copied: f64,
    pub(super) memory: f64,
    pub(super) disk: f64,
}

/// Half, and nineteen of twenty, took at most so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
}

/// A model of another server that somebody used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Upstream {
    pub(super) model: String,
    pub(super) served_by: String,
    pub(super) prompt_tokens_per_second: f64,
    pub(super) output_tokens_per_second: f64,
    pub(super) first_token: Percentiles,
    pub(super) between_tokens: Percentiles,
}

/// The scrapes that the figures come from.
struct Scrapes<'a> {
    last: &'a Scrape,
    /// So many seconds before.
    before: &'a Scrape,
    seconds: f64,
    /// Where percentiles and shares begin; with the server when there is none.
    earlier: Option<&'a Scrape>,
}

impl Figures {
    /// Rates between `before` and `last`, which are so many seconds apart; percentiles and shares since `earlier`.
    pub(super) fn new(url: &str, last: &Scrape, before: &Scrape, seconds: f64, earlier: Option<&Scrape>) -> Self {
        let scrapes = Scrapes { last, before, seconds, earlier };
        let models = last.values("allerac_model_state", &[], "model");
        let upstreams = last.values("allerac_tokens_total", &[], "served_by").into_iter();
        let upstreams = upstreams.filter(|served_by| served_by.starts_with("upstream:"));
        Self {
            url: url.to_owned(),
            version: last.values("allerac_build_info", &[], "version").concat(),
            requests_in_flight: whole(last.sum("allerac_requests_in_flight", &[])),
            models: models.iter().map(|model| scrapes.model(model)).collect(),
            upstreams: upstreams.flat_map(|served_by| scrapes.upstream(&served_by)).collect(),
        }
    }
}

impl Scrapes<'_> {
    fn model(&self, model: &str) -> Model {
        let of = [("model", model)];
        let with = |label, value| [("model", model), (label, value)];
        let last = self.last;
        let now = |name: &str, wanted: Wanted<'_>| whole(last.sum(name, wanted));
        let states = last.values("allerac_model_state", &of, "state");
        let is_on = |state: &&String| last.sum("allerac_model_state", &[("model", model), ("state", state)]) > 0.0;
        let local = with("served_by", "local");
        Model {
            model: model.to_owned(),
            state: states.iter().find(is_on).cloned().unwrap_or_default(),
            crashes: now("allerac_engine_crashes_total", &of),
            requests: self.requests(model),
            prompt_tokens_per_second: self.rate("allerac_engine_prompt_tokens_total", &with("source", "computed")),
            output_tokens_per_second: self.rate("allerac_engine_output_tokens_total", &of),
            chunk_tokens: now("allerac_engine_chunk_tokens", &of),
            decode_seconds: self.mean("allerac_engine_step_time_seconds", &with("phase", "decode")),
            prefill_seconds: self.mean("allerac_engine_step_time_seconds", &with("phase", "prefill")),
            first_token: self.percentiles("allerac_time_to_first_token_seconds", &local),
            between_tokens: self.percentiles("allerac_inter_token_latency_seconds", &local),
            prompt_share: self.prompt_share(model),
            draft_acceptance: self.ratio(
                |scrape| scrape.sum("allerac_engine_draft_tokens_accepted_total", &of),
                |scrape| scrape.sum("allerac_engine_draft_tokens_total", &of),
            ),
            kv_cells: now("allerac_engine_kv_cells", &of),
            kv_cells_active: now("allerac_engine_kv_cells_used", &with("state", "active")),
            kv_cells_kept: now("allerac_engine_kv_cells_used", &with("state", "kept")),
            archive_entries: now("allerac_engine_archive_entries", &of),
            archive_memory_bytes: now("allerac_engine_archive_bytes", &with("tier", "memory")),
            archive_disk_bytes: now("allerac_engine_archive_bytes", &with("tier", "disk")),
        }
    }

    fn requests(&self, model: &str) -> Vec<Requests> {
        let classes = self.last.values("allerac_engine_requests", &[("model", model)], "class");
        let of = |class: String| {
            let count = |state| {
                let wanted = [("model", model), ("class", class.as_str()), ("state", state)];
                whole(self.last.sum("allerac_engine_requests", &wanted))
            };
            let (active, waiting, paused) = (count("active"), count("waiting"), count("paused"));
            Requests { class, active, waiting, paused }
        };
        classes.into_iter().map(of).collect()
    }

    fn prompt_share(&self, model: &str) -> Option<PromptShare> {
        let share = |source| {
            let name = "allerac_engine_prompt_tokens_total";
            let part = |scrape: &Scrape| scrape.sum(name, &[("model", model), ("source", source)]);
            self.ratio(part, |scrape| scrape.sum(name, &[("model", model)]))
        };
        let (computed, slot, copied) = (share("computed")?, share("slot")?, share("copied")?);
        Some(PromptShare { computed, slot, copied, memory: share("memory")?, disk: share("disk")? })
    }

    fn upstream(&self, served_by: &str) -> Vec<Upstream> {
        let models = self.last.values("allerac_tokens_total", &[("served_by", served_by)], "model").into_iter();
        let of = |model: String| {
            let wanted = [("served_by", served_by), ("model", model.as_str())];
            let rate = |kind| self.rate("allerac_tokens_total", &[wanted[0], wanted[1], ("kind", kind)]);
            Upstream {
                prompt_tokens_per_second: rate("prompt"),
                output_tokens_per_second: rate("completion"),
                first_token: self.percentiles("allerac_time_to_first_token_seconds", &wanted),
                between_tokens: self.percentiles("allerac_inter_token_latency_seconds", &wanted),
                served_by: served_by.to_owned(),
                model,
            }
        };
        models.map(of).collect()
    }

    /// How much a counter grows in a second.
    fn rate(&self, name: &str, wanted: Wanted<'_>) -> f64 {
        let grown = self.last.sum(name, wanted) - self.before.sum(name, wanted);
        if self.seconds > 0.0 { (grown / self.seconds).max(0.0) } else { 0.0 }
    }

    /// The mean of what a histogram has seen.
    fn mean(&self, name: &str, wanted: Wanted<'_>) -> Option<f64> {
        let (sum, count) = (format!("{name}_sum"), format!("{name}_count"));
        self.ratio(|scrape| scrape.sum(&sum, wanted), |scrape| scrape.sum(&count, wanted))
    }

    /// How one number grew beside another: lately, or ever where the other did not grow lately.
    fn ratio(&self, part: impl Fn(&Scrape) -> f64, all: impl Fn(&Scrape) -> f64) -> Option<f64> {
        let grown = |number: &dyn Fn(&Scrape) -> f64| number(self.last) - self.earlier.map_or(0.0, number);
        let lately = grown(&all);
        let (part, all) = if lately > 0.0 { (grown(&part), lately) } else { (part(self.last), all(self.last)) };
        (all > 0.0).then(|| part / all)
    }

    fn percentiles(&self, name: &str, wanted: Wanted<'_>) -> Percentiles {
        let mut lately = self.last.buckets(name, wanted);
        for (bound, count) in self.earlier.map(|earlier| earlier.buckets(name, wanted)).unwrap_or_default() {
            if let Some((_, now)) = lately.iter_mut().find(|(other, _)| other.total_cmp(&bound).is_eq()) {
                *now -= count;
            }
        }
        let is_empty = lately.last().is_none_or(|(_, count)| *count <= 0.0);
        let buckets = if is_empty { self.last.buckets(name, wanted) } else { lately };
        Percentiles { p50: quantile(&buckets, 0.5), p95: quantile(&buckets, 0.95) }
    }
}

/// Where a share of all values lies, by a straight line through the bucket that it falls into, as Prometheus does.
/// Beyond the last bound nothing is known but that.
fn quantile(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let wanted = buckets.last().map(|(_, all)| all * share).filter(|wanted| *wanted > 0.0)?;
    let (mut below, mut from) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= wanted {
            let place = (wanted - below) / (count - below);
            return Some(if bound.is_finite() { from + place * (bound - from) } else { from });
        }
        (below, from) = (*count, *bound);
    }
    None
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float becomes the nearest u64")]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(prompts: [u32; 2], answered: u32, times: [u32; 3]) -> Scrape {
        let [computed, disk] = prompts;
        let [fast, slow, all] = times;
        let prompt = "allerac_engine_prompt_tokens_total{model=\"m\",source=";
        let first = "allerac_time_to_first_token_seconds_bucket{model=\"m\",class=\"chat\",served_by=\"local\",le=";
        let sources = ["slot", "copied", "memory"].map(|source| format!("{prompt}\"{source}\"}} 0\n")).concat();
        let text = format!(
            "allerac_build_info{{version=\"1.2.3\"}} 1\nallerac_requests_in_flight 2\n\
             allerac_model_state{{model=\"m\",state=\"loading\"}} 0\nallerac_model_state{{model=\"m\",state=\"ready\"}} 1\n\
             {prompt}\"computed\"}} {computed}\n{prompt}\"disk\"}} {disk}\n{sources}\
             allerac_engine_output_tokens_total{{model=\"m\"}} {answered}\n\
             {first}\"1.0\"}} {fast}\n{first}\"2.0\"}} {slow}\n{first}\"+Inf\"}} {all}\n\
             allerac_engine_requests{{model=\"m\",class=\"voice\",state=\"waiting\"}} 3\n# EOF\n"
        );
        Scrape::parse(&text).unwrap()
    }

    #[test]
    fn rates_are_of_lately_and_shares_of_ever_when_nothing_happened() {
        let (before, last) = (scrape([100, 0], 10, [0, 0, 0]), scrape([300, 600], 60, [5, 10, 10]));
        let figures = Figures::new("u", &last, &before, 5.0, Some(&before));
        assert_eq!((figures.version.as_str(), figures.requests_in_flight), ("1.2.3", 2));
        let model = &figures.models[0];
        assert_eq!((model.model.as_str(), model.state.as_str()), ("m", "ready"));
        assert_eq!((model.prompt_tokens_per_second, model.output_tokens_per_second), (40.0, 10.0));
        assert_eq!(model.prompt_share.map(|share| (share.computed, share.disk)), Some((0.25, 0.75)));
        assert_eq!(model.first_token, Percentiles { p50: Some(1.0), p95: Some(1.9) });
        assert_eq!(model.between_tokens, Percentiles { p50: None, p95: None });
        assert_eq!((model.draft_acceptance, model.requests[0].waiting), (None, 3));
        let figures = Figures::new("u", &last, &last, 5.0, Some(&last));
        let model = &figures.models[0];
        assert_eq!(model.output_tokens_per_second, 0.0);
        assert_eq!(model.prompt_share.map(|share| share.disk), Some(600.0 / 900.0));
        assert_eq!(model.first_token.p50, Some(1.0));
    }

    #[test]
    fn beyond_the_last_bound_nothing_is_known() {
        let buckets = [(1.0, 1.0), (2.0, 2.0), (f64::INFINITY, 10.0)];
        assert_eq!([quantile(&buckets, 0.1), quantile(&buckets, 0.5)], [Some(1.0), Some(2.0)]);
        assert_eq!([quantile(&[], 0.5), quantile(&[(1.0, 0.0)], 0.5)], [None, None]);
    }
}
