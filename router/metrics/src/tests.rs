//! What is told, read back from the text.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use allerac_engine_core::Class;
use allerac_engine_core::archive::ArchiveStats;
use allerac_engine_core::stats::{Counters, Ended, Gauges, PromptTokens, Requests, StepTimes};
use allerac_engine_core::{Stats, stats};
use allerac_engine_link::{EngineStatus, Report};

use crate::{Metrics, ModelReport, Outcome, RequestLabels, RequestMeter, Tokens};

fn labels(class: Class) -> RequestLabels {
    let (endpoint, model, served_by) = ("chat.completions", "m".to_owned(), "local".to_owned());
    RequestLabels { endpoint, model, class, served_by }
}

fn report() -> ModelReport {
    let gauges = Gauges {
        requests: [1, 2, 3].map(|count| Requests { waiting: count, active: 10 + count, paused: 20 + count }),
        chunk_tokens: 31,
        cells: 32,
        cells_active: 33,
        cells_kept: 34,
        archive: ArchiveStats { entries: 35, memory_bytes: 36, disk_bytes: 37 },
    };
    let mut decode = StepTimes { steps: 3, time: Duration::from_millis(3005), ..StepTimes::default() };
    (decode.buckets[0], decode.buckets[2], decode.buckets[11]) = (1, 1, 1);
    let counters = Counters {
        submitted: 40,
        ended: Ended { stop: 41, length: 42, cancelled: 43, failed: 44, queue_full: 45, too_long: 46 },
        prompt: PromptTokens { computed: 47, slot: 48, copied: 49, memory: 50, disk: 51 },
        output_tokens: 52,
        draft_tokens: 53,
        draft_tokens_accepted: 54,
        decode,
        prefill: StepTimes::default(),
        paused: 55,
        resumed: 56,
    };
    let report = Report { stats: Stats { gauges, counters }, crashes: 57, process: None, gpu_failure: None };
    ModelReport { model: "m".into(), status: Some(EngineStatus::Stopped), report }
}

fn ends(meter: &mut RequestMeter, outcome: Outcome, now: Instant) {
    meter.end(outcome, Tokens { prompt: 7, cached: 3, completion: 2 }, now);
}

/// The value of a line that begins like this.
#[track_caller]
fn value(text: &str, line: &str) -> f64 {
    let found = text.lines().find_map(|candidate| candidate.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {line} in\n{text}")).parse().unwrap()
}

#[test]
fn a_request_is_measured_as_its_client_sees_it() {
    let (metrics, begin) = (Metrics::default(), Instant::now());
    let at = |millis| begin + Duration::from_millis(millis);
    let mut meter = metrics.request(labels(Class::Voice), begin);
    for choice in 0..2 {
        meter.queued(choice, at(10));
        meter.started(choice, at(40));
    }
    // The engine crashed and began anew.
    meter.started(0, at(60));
    meter.piece(0, at(100));
    meter.piece(1, at(150));
    meter.piece(0, at(250));
    ends(&mut meter, Outcome::Completed, at(300));
    ends(&mut meter, Outcome::Failed, at(400));
    drop(meter);
    let text = metrics.render(Vec::new(), 0, "1");
    let served = "{model=\"m\",class=\"voice\",served_by=\"local\"}";
    for (name, count, sum) in [
        ("time_to_first_token", 1.0, 0.1),
        ("inter_token_latency", 1.0, 0.15),
        ("queue_time", 2.0, 0.06),
        ("request_duration", 1.0, 0.3),
    ] {
        assert_eq!(value(&text, &format!("allerac_{name}_seconds_count{served}")), count, "{name}");
        let told = value(&text, &format!("allerac_{name}_seconds_sum{served}"));
        assert!((told - sum).abs() < 1e-9, "{name}: {told}");
    }
    for (kind, count) in [("prompt", 7.0), ("cached", 3.0), ("completion", 2.0)] {
        let line = format!("allerac_tokens_total{{model=\"m\",class=\"voice\",served_by=\"local\",kind=\"{kind}\"}}");
        assert_eq!(value(&text, &line), count);
    }
    assert_eq!(text.matches("allerac_requests_total{").count(), 1);
}

#[test]
fn each_request_is_counted_once_however_it_ends() {
    let (metrics, now) = (Metrics::default(), Instant::now());
    for outcome in [Outcome::Completed, Outcome::Cancelled, Outcome::Failed, Outcome::Refused] {
        ends(&mut metrics.request(labels(Class::Chat), now), outcome, now);
    }
    drop(metrics.request(labels(Class::Chat), now));
    let text = metrics.render(Vec::new(), 0, "1");
    for (outcome, count) in [("completed", 1.0), ("cancelled", 1.0), ("failed", 1.0), ("refused", 2.0)] {
        let labels = "endpoint=\"chat.completions\",model=\"m\",class=\"chat\",served_by=\"local\"";
        assert_eq!(value(&text, &format!("allerac_requests_total{{{labels},outcome=\"{outcome}\"}}")), count);
    }
    let duration = "allerac_request_duration_seconds_count{model=\"m\",class=\"chat\",served_by=\"local\"}";
    assert_eq!(value(&text, duration), 1.0);
}

#[test]
fn what_engines_report_is_told() {
    let idle = ModelReport { model: "n".into(), status: None, report: Report::default() };
    let text = Metrics::default().render(vec![report(), idle], 5, "1.2.3");
    for (line, wanted) in [
        ("allerac_build_info{version=\"1.2.3\"}", 1.0),
        ("allerac_requests_in_flight", 5.0),
        ("allerac_model_state{model=\"m\",state=\"stopped\"}", 1.0),
        ("allerac_model_state{model=\"m\",state=\"ready\"}", 0.0),
        ("allerac_model_state{model=\"n\",state=\"unloaded\"}", 1.0),
        ("allerac_engine_crashes_total{model=\"m\"}", 57.0),
        ("allerac_engine_requests{model=\"m\",class=\"batch\",state=\"waiting\"}", 1.0),
        ("allerac_engine_requests{model=\"m\",class=\"chat\",state=\"active\"}", 12.0),
        ("allerac_engine_requests{model=\"m\",class=\"voice\",state=\"paused\"}", 23.0),
        ("allerac_engine_chunk_tokens{model=\"m\"}", 31.0),
        ("allerac_engine_kv_cells{model=\"m\"}", 32.0),
        ("allerac_engine_kv_cells_used{model=\"m\",state=\"active\"}", 33.0),
        ("allerac_engine_kv_cells_used{model=\"m\",state=\"kept\"}", 34.0),
        ("allerac_engine_archive_entries{model=\"m\"}", 35.0),
        ("allerac_engine_archive_bytes{model=\"m\",tier=\"memory\"}", 36.0),
        ("allerac_engine_archive_bytes{model=\"m\",tier=\"disk\"}", 37.0),
        ("allerac_engine_output_tokens_total{model=\"m\"}", 52.0),
        ("allerac_engine_draft_tokens_total{model=\"m\"}", 53.0),
        ("allerac_engine_draft_tokens_accepted_total{model=\"m\"}", 54.0),
        ("allerac_engine_pauses_total{model=\"m\"}", 55.0),
        ("allerac_engine_resumes_total{model=\"m\"}", 56.0),
        ("allerac_engine_output_tokens_total{model=\"n\"}", 0.0),
    ] {
        assert_eq!(value(&text, line), wanted, "{line}");
    }
    let all = |name: &str, label: &str, wanted: &[(&str, f64)]| {
        for (label_value, wanted) in wanted {
            let line = format!("allerac_{name}_total{{model=\"m\",{label}=\"{label_value}\"}}");
            assert_eq!(value(&text, &line), *wanted, "{line}");
        }
    };
    let ended = [
        ("stop", 41.0),
        ("length", 42.0),
        ("cancelled", 43.0),
        ("failed", 44.0),
        ("queue_full", 45.0),
        ("too_long", 46.0),
    ];
    all("engine_requests_ended", "reason", &ended);
    let sources = [("computed", 47.0), ("slot", 48.0), ("copied", 49.0), ("memory", 50.0), ("disk", 51.0)];
    all("engine_prompt_tokens", "source", &sources);
    let decode = |what: &str, le: &str| {
        value(&text, &format!("allerac_engine_step_time_seconds_{what}{{{le}model=\"m\",phase=\"decode\"}}"))
    };
    assert_eq!([decode("count", ""), decode("sum", "")], [3.0, 3.005]);
    let buckets = ["0.001", "0.002", "0.005", "2.0", "+Inf"].map(|le| decode("bucket", &format!("le=\"{le}\",")));
    assert_eq!(buckets, [1.0, 1.0, 2.0, 2.0, 3.0]);
    assert_eq!(stats::STEP_BOUNDS.len() + 1, text.matches("seconds_bucket{le=\"").count() / 4);
}

#[test]
fn a_clients_own_words_are_no_labels() {
    let metrics = Metrics::default();
    for method in ["GET", "POST", "BREW", "PROPFIND"] {
        metrics.count_http("/v1/models", method, 200);
    }
    let text = metrics.render(Vec::new(), 0, "1");
    let line = "allerac_http_requests_total{route=\"/v1/models\",method=\"other\",status=\"200\"}";
    assert_eq!(value(&text, line), 2.0);
}

#[test]
fn the_documentation_lists_what_there_is_and_nothing_else() {
    let metrics = Metrics::default();
    metrics.count_http("/", "GET", 200);
    let now = Instant::now();
    let mut meter = metrics.request(labels(Class::Chat), now);
    meter.queued(0, now);
    meter.started(0, now);
    meter.piece(0, now);
    ends(&mut meter, Outcome::Completed, now);
    metrics.count_taken("m", 1, 1);
    metrics.count_own_energy(1);
    let text = metrics.render(vec![report()], 0, "1");
    let mut told = BTreeSet::new();
    for words in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = words.split_once(' ').unwrap();
        told.insert(match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        });
    }
    let table = include_str!("../../../docs/metrics.md").lines();
    let listed: BTreeSet<String> =
        table.filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect();
    assert_eq!(listed, told);
}
