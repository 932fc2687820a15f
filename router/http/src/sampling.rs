//! What a client wrote becomes what the engine's sampler does.

use allerac_engine_core::{Dry, Mirostat, Repetition, SamplingParams, TokenId, Xtc};
use allerac_wire::{LastTokens, Sampling, WireError};

/// The parameters of one request. Without a seed, each call gives another one.
pub(crate) fn params(wanted: &Sampling) -> SamplingParams {
    let open = SamplingParams::default();
    let repetition = Repetition { penalty: wanted.repeat_penalty, last_tokens: count(wanted.repeat_last_n) };
    let dry = Dry {
        multiplier: wanted.dry.multiplier,
        base: wanted.dry.base,
        allowed_length: wanted.dry.allowed_length,
        last_tokens: count(wanted.dry.last_tokens),
        sequence_breakers: wanted.dry.sequence_breakers.clone(),
    };
    let xtc = Xtc { probability: wanted.xtc_probability, threshold: wanted.xtc_threshold };
    #[allow(clippy::float_cmp, reason = "exactly 1 is off")]
    let repeats = repetition.penalty != 1.0;
    SamplingParams {
        logit_bias: wanted.logit_bias.iter().map(|(token, bias)| (TokenId(*token), *bias)).collect(),
        repetition: Some(repetition).filter(|repetition| repeats && repetition.last_tokens > 0),
        presence_penalty: wanted.presence_penalty,
        frequency_penalty: wanted.frequency_penalty,
        dry: Some(dry).filter(|dry| dry.multiplier > 0.0 && dry.last_tokens > 0),
        top_k: wanted.top_k.unwrap_or(open.top_k),
        typical_p: wanted.typical_p,
        top_p: wanted.top_p.unwrap_or(open.top_p),
        min_p: wanted.min_p.unwrap_or(open.min_p),
        xtc: Some(xtc).filter(|xtc| xtc.probability > 0.0 && xtc.threshold <= XTC_THRESHOLD_MAX),
        temperature: wanted.temperature.unwrap_or(open.temperature),
        mirostat: wanted.mirostat.map(|mirostat| Mirostat { tau: mirostat.tau, eta: mirostat.eta }),
        seed: wanted.seed.map_or_else(rand::random, i64::cast_unsigned),
        post_sampling_probs: wanted.post_sampling_probs,
        min_tokens: wanted.min_tokens,
    }
}

/// Refuses a bias on what is no token of the model.
pub(crate) fn check_biases(wanted: &Sampling, vocabulary: u32) -> Result<(), WireError> {
    let unknown = wanted.logit_bias.iter().find(|(token, _)| *token >= vocabulary);
    unknown.map_or(Ok(()), |(token, _)| {
        Err(WireError {
            message: format!("`logit_bias` names token {token}; this model has {vocabulary}"),
            param: Some("logit_bias".into()),
            code: Some("invalid_value"),
        })
    })
}

/// There are never two tokens each more likely than this, so nothing would be excluded.
const XTC_THRESHOLD_MAX: f32 = 0.5;

/// The engine's number for how far to look back.
fn count(last: LastTokens) -> u32 {
    match last {
        LastTokens::All => u32::MAX,
        LastTokens::Last(count) => count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use allerac_wire::{ChatRequest, Envelope};

    fn of(more: &str) -> SamplingParams {
        let body = format!("{{\"model\": \"m\", \"messages\": [{{\"role\": \"user\", \"content\": \"\"}}]{more}}}");
        let request = ChatRequest::parse(Envelope::parse(body.as_bytes()).unwrap()).unwrap();
        params(&request.options.sampling)
    }

    #[test]
    fn what_is_off_costs_the_engine_nothing() {
        let off = of(r#", "seed": 0, "repeat_last_n": 9, "dry_base": 3, "xtc_threshold": 0.2, "mirostat_tau": 3"#);
        assert_eq!(off, SamplingParams::default());
        let off = of(
            r#", "seed": 0, "repeat_penalty": 1.5, "repeat_last_n": 0, "dry_multiplier": 1, "dry_penalty_last_n": 0,
            "xtc_probability": 1, "xtc_threshold": 0.6, "mirostat": 0"#,
        );
        assert_eq!(off, SamplingParams::default());
    }

    #[test]
    fn every_field_reaches_the_engine() {
        let on = of(r#", "seed": -1, "temperature": 0.5, "top_p": 0.25, "top_k": 3, "min_p": 0.125, "typical_p": 0.75,
            "presence_penalty": 0.5, "frequency_penalty": -0.5, "repetition_penalty": 1.5, "repeat_last_n": -1,
            "dry_multiplier": 1, "dry_base": 2, "dry_allowed_length": 4, "dry_penalty_last_n": 5,
            "dry_sequence_breakers": ["x"], "xtc_probability": 0.5, "xtc_threshold": 0.25, "mirostat": 2,
            "mirostat_tau": 3, "mirostat_eta": 0.25, "logit_bias": {"7": -100}, "post_sampling_probs": true, "min_tokens": 6"#);
        let expected = SamplingParams {
            logit_bias: vec![(TokenId(7), -100.0)],
            repetition: Some(Repetition { penalty: 1.5, last_tokens: u32::MAX }),
            presence_penalty: 0.5,
            frequency_penalty: -0.5,
            dry: Some(Dry {
                multiplier: 1.0,
                base: 2.0,
                allowed_length: 4,
                last_tokens: 5,
                sequence_breakers: vec!["x".into()],
            }),
            top_k: 3,
            typical_p: 0.75,
            top_p: 0.25,
            min_p: 0.125,
            xtc: Some(Xtc { probability: 0.5, threshold: 0.25 }),
            temperature: 0.5,
            mirostat: Some(Mirostat { tau: 3.0, eta: 0.25 }),
            seed: u64::MAX,
            post_sampling_probs: true,
            min_tokens: 6,
        };
        assert_eq!(on, expected);
    }
}
