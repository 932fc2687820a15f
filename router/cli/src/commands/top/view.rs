//! The figures as lines of text, made for 80 columns.

use super::figures::{Figures, Model, Percentiles, PromptShare, Requests, Upstream};
use crate::output::{bytes, grouped};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    text: String,
    /// Whether it names what the lines below are about.
    pub(super) is_title: bool,
}

impl Line {
    fn title(text: String) -> Self {
        Self { text, is_title: true }
    }

    fn plain(text: String) -> Self {
        Self { text, is_title: false }
    }

    /// As much of it as has room.
    pub(super) fn cut(&self, width: usize) -> &str {
        let end = self.text.char_indices().nth(width).map_or(self.text.len(), |(place, _)| place);
        &self.text[..end]
    }
}

/// Everything, from the top. `trouble` says why the figures are old.
pub(super) fn lines(figures: &Figures, trouble: Option<&str>) -> Vec<Line> {
    let Figures { url, version, requests_in_flight, models, upstreams } = figures;
    let mut lines = vec![Line::plain(format!("allerac {version} at {url}: {requests_in_flight} requests in flight"))];
    lines.extend(trouble.map(|trouble| Line::plain(format!("as of before: {trouble}"))));
    for each in models {
        lines.push(Line::plain(String::new()));
        lines.push(Line::title(title(each)));
        if each.state != "unloaded" {
            lines.extend(model(each).into_iter().map(Line::plain));
        }
    }
    for each in upstreams {
        lines.push(Line::plain(String::new()));
        lines.push(Line::title(format!("{}  ({})", each.model, each.served_by)));
        lines.extend(upstream(each).into_iter().map(Line::plain));
    }
    if models.is_empty() && upstreams.is_empty() {
        lines.push(Line::plain("no model is installed; fetch one: allerac models pull ID".to_owned()));
    }
    lines
}

fn title(model: &Model) -> String {
    match model.crashes {
        0 => format!("{}  ({})", model.model, model.state),
        1 => format!("{}  ({}, crashed once)", model.model, model.state),
        crashes => format!("{}  ({}, crashed {crashes} times)", model.model, model.state),
    }
}

fn model(model: &Model) -> Vec<String> {
    let chunk = grouped(model.chunk_tokens);
    let (decode, prefill) = (time(model.decode_seconds), time(model.prefill_seconds));
    let rates = tokens(model.prompt_tokens_per_second, model.output_tokens_per_second);
    vec![
        row("requests", &requests(&model.requests)),
        row("tokens/s", &rates),
        row("steps", &format!("decode {decode}, prompt {prefill}, chunk of {chunk} tokens")),
        row("waiting", &waits(model.first_token, model.between_tokens)),
        row("prompts", &model.prompt_share.map_or_else(|| "none yet".to_owned(), shares)),
        row("guesses", &model.draft_acceptance.map_or_else(|| "none yet".to_owned(), |hit| percent(hit) + " right")),
        row("KV", &kv(model)),
        row("archive", &archive(model)),
    ]
}

fn upstream(upstream: &Upstream) -> [String; 2] {
    let rates = tokens(upstream.prompt_tokens_per_second, upstream.output_tokens_per_second);
    [row("tokens/s", &rates), row("waiting", &waits(upstream.first_token, upstream.between_tokens))]
}

fn row(name: &str, text: &str) -> String {
    format!("  {name:<10}{text}")
}

/// All of them, and of which classes they are.
fn requests(requests: &[Requests]) -> String {
    let sum = |count: fn(&Requests) -> u64| requests.iter().map(count).sum::<u64>();
    let mut text = format!("{} active", sum(|of| of.active));
    text += &format!(", {} waiting, {} paused", sum(|of| of.waiting), sum(|of| of.paused));
    let all = |of: &Requests| of.active + of.waiting + of.paused;
    let classes = requests.iter().rev().filter(|of| all(of) > 0).map(|of| format!("{} {}", all(of), of.class));
    let classes: Vec<String> = classes.collect();
    if !classes.is_empty() {
        text += &format!("  ({})", classes.join(", "));
    }
    text
}

fn tokens(prompt: f64, answer: f64) -> String {
    format!("prompts {}, answers {}", rate(prompt), rate(answer))
}

fn waits(first: Percentiles, between: Percentiles) -> String {
    let both = |times: Percentiles| format!("p50 {}, p95 {}", time(times.p50), time(times.p95));
    format!("first token {}; then {}", both(first), both(between))
}

fn shares(share: PromptShare) -> String {
    let PromptShare { computed, slot, copied, memory, disk } = share;
    let [known, slot, copied] = [1.0 - computed, slot, copied].map(percent);
    format!("{known} known: slot {slot}, copied {copied}, memory {}, disk {}", percent(memory), percent(disk))
}

fn kv(model: &Model) -> String {
    let [all, active, kept] = [model.kv_cells, model.kv_cells_active, model.kv_cells_kept].map(grouped);
    format!("{active} cells active, {kept} kept, of {all}")
}

fn archive(model: &Model) -> String {
    let (entries, memory) = (grouped(model.archive_entries), bytes(model.archive_memory_bytes));
    format!("{entries} sequences, {memory} in memory, {} on disk", bytes(model.archive_disk_bytes))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float becomes the nearest u64")]
fn rate(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { grouped(rate.round() as u64) }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", (share * 100.0).max(0.0))
}

/// With two digits or more, in the unit that suits.
fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 0.01 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Model {
        let class = |class: &str, active, waiting, paused| Requests { class: class.into(), active, waiting, paused };
        let percentiles = |p50, p95| Percentiles { p50: Some(p50), p95: Some(p95) };
        Model {
            model: "smollm2-135m-instruct".into(),
            state: "ready".into(),
            crashes: 2,
            requests: vec![class("batch", 128, 512, 128), class("chat", 128, 512, 0), class("voice", 128, 512, 0)],
            prompt_tokens_per_second: 12_345.6,
            output_tokens_per_second: 99.94,
            chunk_tokens: 8192,
            decode_seconds: Some(0.0069),
            prefill_seconds: Some(0.098),
            first_token: percentiles(0.12, 119.96),
            between_tokens: percentiles(0.0071, 0.25),
            prompt_share: Some(PromptShare { computed: 0.0, slot: 0.25, copied: 0.25, memory: 0.25, disk: 0.25 }),
            draft_acceptance: Some(0.714),
            kv_cells: 1_048_576,
            kv_cells_active: 524_288,
            kv_cells_kept: 524_288,
            archive_entries: 4096,
            archive_memory_bytes: 536_870_912,
            archive_disk_bytes: 4_294_967_296,
        }
    }

    fn idle() -> Model {
        let none = Percentiles { p50: None, p95: None };
        let (decode_seconds, prefill_seconds, prompt_share, draft_acceptance) = (None, None, None, None);
        let (first_token, between_tokens, requests, crashes) = (none, none, Vec::new(), 0);
        let idle = Model { decode_seconds, prefill_seconds, prompt_share, draft_acceptance, ..busy() };
        Model { first_token, between_tokens, requests, crashes, ..idle }
    }

    fn figures(models: Vec<Model>) -> Figures {
        let url = "http://127.0.0.1:8080".to_owned();
        Figures { url, version: "0.1.0".into(), requests_in_flight: 3, models, upstreams: Vec::new() }
    }

    fn text(figures: &Figures) -> Vec<String> {
        lines(figures, None).iter().map(|line| line.cut(1000).to_owned()).collect()
    }

    #[test]
    fn a_busy_model_fits_eighty_columns() {
        let expected = "\
allerac 0.1.0 at http://127.0.0.1:8080: 3 requests in flight

smollm2-135m-instruct  (ready, crashed 2 times)
  requests  384 active, 1536 waiting, 128 paused  (640 voice, 640 chat, 768 batch)
  tokens/s  prompts 12 346, answers 99.9
  steps     decode 6.9 ms, prompt 98 ms, chunk of 8 192 tokens
  waiting   first token p50 120 ms, p95 120.0 s; then p50 7.1 ms, p95 250 ms
  prompts   100 % known: slot 25 %, copied 25 %, memory 25 %, disk 25 %
  guesses   71 % right
  KV        524 288 cells active, 524 288 kept, of 1 048 576
  archive   4 096 sequences, 536.87 MB in memory, 4.29 GB on disk";
        let text = text(&figures(vec![busy()]));
        assert_eq!(text.join("\n"), expected);
        // The numbers of requests are beyond all that a box takes.
        assert!(text.iter().all(|line| line.chars().count() <= 82));
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let lines = text(&figures(vec![idle()]));
        assert_eq!(lines[2..4], ["smollm2-135m-instruct  (ready)", "  requests  0 active, 0 waiting, 0 paused"]);
        assert_eq!(
            lines[6..9],
            ["  waiting   first token p50 -, p95 -; then p50 -, p95 -", "  prompts   none yet", "  guesses   none yet",]
        );
        let unloaded = Model { state: "unloaded".into(), ..idle() };
        assert_eq!(text(&figures(vec![unloaded])).len(), 3);
        assert!(text(&figures(Vec::new()))[1].starts_with("no model is installed"));
    }

    #[test]
    fn lines_are_cut_between_characters() {
        let line = Line::plain("Zoë's".into());
        assert_eq!([line.cut(0), line.cut(3), line.cut(4), line.cut(9)], ["", "Zoë", "Zoë'", "Zoë's"]);
    }

    #[test]
    fn what_is_old_says_so() {
        let lines = lines(&figures(vec![idle()]), Some("no server answers"));
        assert_eq!(lines[1].cut(100), "as of before: no server answers");
    }
}
