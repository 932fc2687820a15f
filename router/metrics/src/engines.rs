//! What engines report, as metrics. Their counters are their own: they are read at each scrape, not counted again.

use std::fmt;

use allerac_engine_core::Class;
use allerac_engine_core::stats::{Counters, Gauges, STEP_BOUNDS, StepTimes};
use allerac_engine_link::{EngineStatus, Report};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// An installed model, and what its engine reports.
#[derive(Debug, Clone)]
pub struct ModelReport {
    /// The model's id.
    pub model: String,
    /// What its engine is doing; `None` while it has none.
    pub status: Option<EngineStatus>,
    /// What its engines did so far.
    pub report: Report,
}

/// Everything that is read at a scrape.
#[derive(Debug)]
pub(crate) struct Reports {
    pub(crate) models: Vec<ModelReport>,
    pub(crate) in_flight: usize,
    pub(crate) version: String,
}

/// A value with the labels that it has besides the model's.
type Sample = (Vec<(&'static str, &'static str)>, u64);

/// A metric that is one number for each of its labels.
struct Metric<From> {
    name: &'static str,
    help: &'static str,
    samples: fn(&From) -> Vec<Sample>,
}

/// One label.
fn by<const N: usize>(label: &'static str, values: [(&'static str, u64); N]) -> Vec<Sample> {
    values.into_iter().map(|(name, value)| (vec![(label, name)], value)).collect()
}

fn alone(value: impl Into<u64>) -> Vec<Sample> {
    vec![(Vec::new(), value.into())]
}

const STATES: [&str; 6] = ["unloaded", "loading", "ready", "restarting", "failed", "stopped"];

const COUNTERS: [Metric<Counters>; 7] = [
    Metric {
        name: "engine_requests_ended",
        help: "Requests of the engine by how they ended",
        samples: |counters| {
            let ended = &counters.ended;
            let [stop, length, cancelled] =
                [("stop", ended.stop), ("length", ended.length), ("cancelled", ended.cancelled)];
            let [failed, full, long] =
                [("failed", ended.failed), ("queue_full", ended.queue_full), ("too_long", ended.too_long)];
            by("reason", [stop, length, cancelled, failed, full, long])
        },
    },
    Metric {
        name: "engine_prompt_tokens",
        help: "Tokens of prompts by where their KV came from",
        samples: |counters| {
            let prompt = &counters.prompt;
            let [computed, slot, copied] =
                [("computed", prompt.computed), ("slot", prompt.slot), ("copied", prompt.copied)];
            by("source", [computed, slot, copied, ("memory", prompt.memory), ("disk", prompt.disk)])
        },
    },
    Metric { name: "engine_output_tokens", help: "Tokens produced", samples: |counters| alone(counters.output_tokens) },
    Metric {
        name: "engine_draft_tokens",
        help: "Tokens guessed and computed",
        samples: |counters| alone(counters.draft_tokens),
    },
    Metric {
        name: "engine_draft_tokens_accepted",
        help: "Tokens guessed right",
        samples: |counters| alone(counters.draft_tokens_accepted),
    },
    Metric {
        name: "engine_pauses",
        help: "Requests that gave up their slot to a more urgent one",
        samples: |counters| alone(counters.paused),
    },
    Metric {
        name: "engine_resumes",
        help: "Paused requests that went on",
        samples: |counters| alone(counters.resumed),
    },
];

const GAUGES: [Metric<Gauges>; 6] = [
    Metric {
        name: "engine_requests",
        help: "Requests that have not ended, by class and state",
        samples: |gauges| {
            let of = |class: Class| {
                let requests = gauges.requests[class as usize];
                let states = [("waiting", requests.waiting), ("active", requests.active), ("paused", requests.paused)];
                states.map(|(state, count)| (vec![("class", class.name()), ("state", state)], count.into()))
            };
            Class::ALL.into_iter().flat_map(of).collect()
        },
    },
    Metric {
        name: "engine_chunk_tokens",
        help: "Prompt tokens computed in a step beside those who generate",
        samples: |gauges| alone(gauges.chunk_tokens),
    },
    Metric { name: "engine_kv_cells", help: "KV cells of the context", samples: |gauges| alone(gauges.cells) },
    Metric {
        name: "engine_kv_cells_used",
        help: "KV cells in use, by requests at work and by what is kept of ended ones",
        samples: |gauges| by("state", [("active", gauges.cells_active.into()), ("kept", gauges.cells_kept.into())]),
    },
    Metric {
        name: "engine_archive_entries",
        help: "Sequences kept outside the context",
        samples: |gauges| alone(gauges.archive.entries),
    },
    Metric {
        name: "engine_archive_bytes",
        help: "What sequences outside the context take",
        samples: |gauges| by("tier", [("memory", gauges.archive.memory_bytes), ("disk", gauges.archive.disk_bytes)]),
    },
];

impl ModelReport {
    fn state(&self) -> &'static str {
        let place = match &self.status {
            None => 0,
            Some(EngineStatus::Loading { .. }) => 1,
            Some(EngineStatus::Ready(_)) => 2,
            Some(EngineStatus::Restarting { .. }) => 3,
            Some(EngineStatus::Failed { .. }) => 4,
            Some(EngineStatus::Stopped) => 5,
        };
        STATES[place]
    }
}

impl Collector for Reports {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encoder
            .encode_descriptor("build", "The version that serves", None, MetricType::Info)?
            .encode_info(&[("version", self.version.as_str())])?;
        encoder
            .encode_descriptor("requests_in_flight", "Requests not answered yet", None, MetricType::Gauge)?
            .encode_gauge(&u64::try_from(self.in_flight).unwrap_or(u64::MAX))?;
        self.numbers(
            &mut encoder,
            "model_state",
            "1 for the state that the model is in",
            MetricType::Gauge,
            |model| by("state", STATES.map(|state| (state, u64::from(state == model.state())))),
        )?;
        self.numbers(&mut encoder, "engine_crashes", "Engine processes that died", MetricType::Counter, |model| {
            alone(model.report.crashes)
        })?;
        for Metric { name, help, samples } in &COUNTERS {
            let samples = |model: &ModelReport| samples(&model.report.stats.counters);
            self.numbers(&mut encoder, name, help, MetricType::Counter, samples)?;
        }
        for Metric { name, help, samples } in &GAUGES {
            let samples = |model: &ModelReport| samples(&model.report.stats.gauges);
            self.numbers(&mut encoder, name, help, MetricType::Gauge, samples)?;
        }
        self.step_times(&mut encoder)
    }
}

impl Reports {
    fn numbers(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl Fn(&ModelReport) -> Vec<Sample>,
    ) -> fmt::Result {
        if self.models.is_empty() {
            return Ok(());
        }
        let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
        for model in &self.models {
            for (labels, value) in samples(model) {
                let labels: Vec<(&str, &str)> = [("model", model.model.as_str())].into_iter().chain(labels).collect();
                let mut sample = metric.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => sample.encode_counter::<NoLabelSet, _, f64>(&value, None)?,
                    _ => sample.encode_gauge(&value)?,
                }
            }
        }
        Ok(())
    }

    fn step_times(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if self.models.is_empty() {
            return Ok(());
        }
        let help = "Computing a batch of decoding, or a piece of prompt";
        let unit = Some(&Unit::Seconds);
        let mut metric = encoder.encode_descriptor("engine_step_time", help, unit, MetricType::Histogram)?;
        for model in &self.models {
            let counters = &model.report.stats.counters;
            for (phase, times) in [("decode", &counters.decode), ("prefill", &counters.prefill)] {
                let labels = [("model", model.model.as_str()), ("phase", phase)];
                let StepTimes { steps, time, buckets } = times;
                let bounds = STEP_BOUNDS.iter().map(std::time::Duration::as_secs_f64).chain([f64::INFINITY]);
                let buckets: Vec<(f64, u64)> = bounds.zip(buckets.iter().copied()).collect();
                let mut sample = metric.encode_family(&labels)?;
                sample.encode_histogram::<NoLabelSet>(time.as_secs_f64(), *steps, &buckets, None)?;
            }
        }
        Ok(())
    }
}
