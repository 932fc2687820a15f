//! What chat and plain completions have in common.

use serde_json::{Value, json};

use super::{any_of, array, boolean, described, example, form, integer, number, object, string, text, word};
use crate::options::{CHOICES_MAX, STOP_CHARS_MAX, STOPS_MAX};
use crate::sampling::{BIASES_MAX, BREAKER_BYTES_MAX, BREAKERS_MAX, TOKENS_MAX};

/// Everything but the prompt.
pub(super) fn options() -> Vec<(&'static str, Value)> {
    let tokens = || integer(1, i64::from(u32::MAX));
    let stop = || text(1, STOP_CHARS_MAX);
    let stream_options = object(&[], [("include_usage", boolean()), ("include_obfuscation", boolean())]);
    let mut options = vec![
        (
            "max_completion_tokens",
            described("The most tokens of an answer; by default 2048, or what the context has room for.", tokens()),
        ),
        ("max_tokens", example(64, described("The older name of `max_completion_tokens`.", tokens()))),
        ("n", described("Answers to give.", integer(1, i64::from(CHOICES_MAX)))),
        ("stop", described("The answer ends before any of these.", any_of([stop(), array(stop(), 0, STOPS_MAX)]))),
        (
            "service_tier",
            described(
                "How urgent it is: `flex` may wait for others, `priority` comes before them where the plan allows it.",
                word(&["auto", "default", "flex", "priority"]),
            ),
        ),
        ("stream", described("Whether the answer comes as server-sent events while it is made.", boolean())),
        ("stream_options", described("Only with `stream`.", stream_options)),
        ("user", described("Who asks, in the client's words; without effect.", string())),
        ("response_format", form::response_format()),
    ];
    options.extend(form::others());
    options.extend(sampling());
    options
}

/// How tokens are chosen.
pub(super) fn sampling() -> Vec<(&'static str, Value)> {
    let tokens = |least: i64| integer(least, i64::from(TOKENS_MAX));
    let share = || number(0.0, 1.0);
    let penalty = || number(-2.0, 2.0);
    let biases = json!({
        "type": "object", "maxProperties": BIASES_MAX, "propertyNames": {"pattern": "^[0-9]{1,9}$"},
        "additionalProperties": number(-100.0, 100.0),
    });
    vec![
        (
            "temperature",
            described("0 takes the likeliest token always; by default as the model's makers say.", number(0.0, 2.0)),
        ),
        ("top_p", described("Keep the smallest set of likeliest tokens with this share.", share())),
        ("top_k", described("Keep so many of the likeliest tokens; 0 keeps all.", integer(0, 1_000_000))),
        ("min_p", described("Keep tokens at least this fraction as likely as the likeliest.", share())),
        ("typical_p", described("Keep the tokens of most typical likelihood; 1 is off.", share())),
        ("presence_penalty", described("Subtracted once from what was said.", penalty())),
        ("frequency_penalty", described("Subtracted as often as it was said.", penalty())),
        ("repeat_penalty", described("Makes less likely what came lately; 1 is off.", number(0.01, 100.0))),
        ("repetition_penalty", described("vLLM's name of `repeat_penalty`.", number(0.01, 100.0))),
        ("repeat_last_n", described("Tokens that `repeat_penalty` looks back at; -1 is all.", tokens(-1))),
        ("dry_multiplier", described("Against repeated sequences; 0 is off.", number(0.0, 100.0))),
        ("dry_base", number(1.0, 100.0)),
        ("dry_allowed_length", tokens(0)),
        ("dry_penalty_last_n", tokens(-1)),
        ("dry_sequence_breakers", array(text(1, BREAKER_BYTES_MAX), 0, BREAKERS_MAX)),
        ("xtc_probability", described("How often the likeliest tokens are excluded.", share())),
        ("xtc_threshold", share()),
        ("mirostat", described("2 is version 2; 0 is off.", json!({"type": "integer", "enum": [0, 2]}))),
        ("mirostat_tau", number(0.0, 100.0)),
        ("mirostat_eta", share()),
        ("logit_bias", described("Tokens, and what is added to their logits; -100 bans one.", biases)),
        ("seed", described("The same seed gives the same answer.", integer(i64::MIN, i64::MAX))),
        (
            "post_sampling_probs",
            described("Whether log probabilities are those that tokens were drawn with.", boolean()),
        ),
        ("min_tokens", described("Before so many tokens the model may not end its answer.", tokens(0))),
        ("ignore_eos", described("Whether the model may never end its answer.", boolean())),
    ]
}
