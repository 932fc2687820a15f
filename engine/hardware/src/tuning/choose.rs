//! The rule by which measurements become settings. docs/tuning.md says it in words.

use std::collections::BTreeSet;

use super::{DEPTHS, Part, Phase, Trial};

/// Differences up to this are never believed: two runs of the same program differ by as much.
pub const NOISE: f64 = 0.03;

/// The share of the processors, in percent, that others may have used while a trial was measured for it to be believed. A
/// program that takes a core makes several threads look far worse than one, and it may be gone in a minute.
pub const OTHERS_PERCENT_MAX: u32 = 10;

/// How much faster quantised KV must be besides: it costs a little of the answers' quality.
pub const LOSSY_GAIN_MIN: f64 = 0.05;

/// The work by which choices are compared: a turn of a conversation, in tokens. Of a prompt most is known from the turn
/// before. Half of the answers are given alone, half in company.
const PROMPT: f64 = 300.0;
const ANSWER_ALONE: f64 = 150.0;
const ANSWER_IN_COMPANY: f64 = 150.0;

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The place of the chosen trial.
    pub chosen: usize,
    /// How much faster than the first each trial does the work, 0.1 for a tenth; `None` where it cannot be compared.
    pub gains: Vec<Option<f64>>,
}

/// Chooses among trials, of which the first is what would be used without measuring. It stays chosen unless another one
/// is faster by more than the noise; what is lossy must be faster by [`LOSSY_GAIN_MIN`] more. Trials during which others
/// used more than `others_percent_max` of the processors prove nothing.
#[must_use]
pub fn choose(trials: &[Trial], others_percent_max: u32) -> Verdict {
    let present = trials.first().and_then(|trial| time(trial, trials, None));
    let gain = |trial: &Trial| Some(present? / time(trial, trials, None)? - 1.0);
    let gains: Vec<Option<f64>> = trials.iter().map(gain).collect();
    let believed = |(place, gain): (usize, &Option<f64>)| {
        let (trial, first) = (&trials[place], &trials[0]);
        if trial.others_percent.max(first.others_percent) > others_percent_max {
            return None;
        }
        let lossy = if trial.engine.attention().is_lossy() && !first.engine.attention().is_lossy() {
            LOSSY_GAIN_MIN
        } else {
            0.0
        };
        let noise = NOISE.max(uncertainty(trial, trials) + uncertainty(first, trials));
        Some((place, (*gain)? - lossy)).filter(|(_, gain)| *gain > noise)
    };
    let best = gains.iter().enumerate().skip(1).filter_map(believed).max_by(|(_, a), (_, b)| a.total_cmp(b));
    Verdict { chosen: best.map_or(0, |(place, _)| place), gains }
}

/// The seconds that a turn takes, or one phase of it; over what was measured of all trials that work. `None` for a trial
/// that does not work, or that lacks a phase.
pub(super) fn time(trial: &Trial, all: &[Trial], phase: Option<Phase>) -> Option<f64> {
    let shares = shares(trial, all)?;
    Some(
        shares
            .iter()
            .filter(|(part, _)| phase.is_none_or(|phase| part.phase == phase))
            .map(|(_, seconds)| seconds)
            .sum(),
    )
}

/// The uncertainty of that time, as a share of it.
fn uncertainty(trial: &Trial, all: &[Trial]) -> f64 {
    let shares = shares(trial, all).unwrap_or_default();
    let total: f64 = shares.iter().map(|(_, seconds)| seconds).sum();
    let part = |(part, seconds): &(Part, f64)| trial.speed(*part).map_or(0.0, |speed| speed.uncertainty) * seconds;
    shares.iter().map(part).sum::<f64>() / total
}

/// The seconds that each part of a turn takes.
fn shares(trial: &Trial, all: &[Trial]) -> Option<Vec<(Part, f64)>> {
    if trial.failure.is_some() {
        return None;
    }
    let works = || all.iter().filter(|trial| trial.failure.is_none());
    let parts: BTreeSet<Part> = trial.measured.iter().map(|measurement| measurement.part).collect();
    let common: Vec<Part> =
        parts.into_iter().filter(|part| works().all(|trial| trial.speed(*part).is_some())).collect();
    let mut shares = Vec::new();
    for (phase, in_company, tokens) in [
        (Phase::Prefill, false, PROMPT),
        (Phase::Decode, false, ANSWER_ALONE),
        (Phase::Decode, true, ANSWER_IN_COMPANY),
    ] {
        let of_kind = |part: &&Part| part.phase == phase && (part.sequences > 1) == in_company;
        let weights: f64 = common.iter().filter(of_kind).map(|part| weight(part.depth)).sum();
        for part in common.iter().filter(of_kind) {
            let speed = trial.speed(*part)?.tokens_per_second;
            shares.push((*part, tokens * weight(part.depth) / weights / speed));
        }
    }
    let has = |phase| shares.iter().any(|(part, _)| part.phase == phase);
    (has(Phase::Prefill) && has(Phase::Decode)).then_some(shares)
}

fn weight(depth: u32) -> f64 {
    DEPTHS.iter().find(|(known, _)| *known == depth).map_or(1.0, |(_, weight)| *weight)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{choice, trial};
    use super::super::{Choice, Measurement};
    use super::*;
    use allerac_engine_core::{FlashAttention, KvType};

    fn lossy(threads: u32) -> Choice {
        Choice { flash_attention: FlashAttention::Off, kv_type_k: KvType::Q8_0, ..choice(threads) }
    }

    #[test]
    fn a_turn_takes_as_long_as_its_parts() {
        // 300 / 300 + 150 / 50 + 150 / 100 = 5.5 s, whatever the depths.
        let trials = [trial(choice(2), 300.0, 50.0, 100.0)];
        let seconds = |phase| time(&trials[0], &trials, phase).unwrap();
        assert!((seconds(None) - 5.5).abs() < 1e-9);
        assert!((seconds(Some(Phase::Prefill)) - 1.0).abs() < 1e-9);
        assert!((seconds(Some(Phase::Decode)) - 4.5).abs() < 1e-9);
    }

    #[test]
    fn deep_answers_weigh_as_written() {
        // One third at depth 0 and two thirds at 1024: a speed halved there adds two thirds.
        let mut slow = trial(choice(2), 300.0, 50.0, 100.0);
        let deep = slow.measured.iter_mut().find(|one| one.part.phase == Phase::Decode && one.part.depth == 1024);
        deep.unwrap().tokens_per_second = 25.0;
        let trials = [slow];
        assert!((time(&trials[0], &trials, None).unwrap() - (5.5 + 2.0)).abs() < 1e-9);
    }

    #[test]
    fn the_fastest_is_chosen() {
        let trials = [
            trial(choice(2), 300.0, 50.0, 100.0),
            trial(choice(1), 160.0, 40.0, 60.0),
            trial(choice(4), 600.0, 60.0, 120.0),
            trial(choice(8), 590.0, 55.0, 110.0),
        ];
        let verdict = choose(&trials, OTHERS_PERCENT_MAX);
        assert_eq!((verdict.chosen, verdict.gains[0]), (2, Some(0.0)));
        assert!(verdict.gains[1].unwrap() < 0.0 && verdict.gains[2].unwrap() > verdict.gains[3].unwrap());
    }

    #[test]
    fn what_is_below_the_noise_changes_nothing() {
        let first = trial(choice(2), 300.0, 50.0, 100.0);
        let faster = |share: f64| trial(choice(4), 300.0 * share, 50.0 * share, 100.0 * share);
        assert_eq!(choose(&[first.clone(), faster(1.029)], OTHERS_PERCENT_MAX).chosen, 0);
        assert_eq!(choose(&[first.clone(), faster(1.031)], OTHERS_PERCENT_MAX).chosen, 1);
        // Speeds that were not stable are believed less.
        let mut shaky = faster(1.10);
        shaky.measured.iter_mut().for_each(|one| one.uncertainty = 0.06);
        assert_eq!(choose(&[first.clone(), shaky.clone()], OTHERS_PERCENT_MAX).chosen, 1);
        // Of what is believed the fastest is taken, not the surest: one that was measured less often looks surer.
        assert_eq!(choose(&[first.clone(), faster(1.05), shaky.clone()], OTHERS_PERCENT_MAX).chosen, 2);
        let mut unsure = first;
        unsure.measured.iter_mut().for_each(|one| one.uncertainty = 0.05);
        assert_eq!(choose(&[unsure, shaky], OTHERS_PERCENT_MAX).chosen, 0);
    }

    #[test]
    fn what_is_lossy_must_be_faster_by_more() {
        let first = trial(choice(2), 300.0, 50.0, 100.0);
        let faster = |choice, share: f64| trial(choice, 300.0 * share, 50.0 * share, 100.0 * share);
        assert_eq!(choose(&[first.clone(), faster(lossy(2), 1.07)], OTHERS_PERCENT_MAX).chosen, 0);
        assert_eq!(choose(&[first.clone(), faster(lossy(2), 1.09)], OTHERS_PERCENT_MAX).chosen, 1);
        let off = Choice { flash_attention: FlashAttention::Off, ..choice(2) };
        let trials = [first.clone(), faster(off.clone(), 1.2), faster(lossy(2), 1.24)];
        assert_eq!(choose(&trials, OTHERS_PERCENT_MAX).chosen, 1);
        let trials = [first, faster(off, 1.2), faster(lossy(2), 1.26)];
        assert_eq!(choose(&trials, OTHERS_PERCENT_MAX).chosen, 2);
        // Where it is used anyway, it is not held against the next one.
        assert_eq!(choose(&[faster(lossy(2), 1.0), faster(lossy(4), 1.04)], OTHERS_PERCENT_MAX).chosen, 1);
    }

    #[test]
    fn what_does_not_work_is_neither_chosen_nor_in_the_way() {
        let first = trial(choice(2), 300.0, 50.0, 100.0);
        let failed = Trial { failure: Some("crashed".into()), measured: Vec::new(), ..trial(choice(9), 1.0, 1.0, 1.0) };
        let faster = trial(choice(4), 600.0, 60.0, 120.0);
        let verdict = choose(&[first.clone(), failed.clone(), faster.clone()], OTHERS_PERCENT_MAX);
        assert_eq!((verdict.chosen, verdict.gains[1]), (2, None));
        let verdict = choose(&[failed, first, faster], OTHERS_PERCENT_MAX);
        assert_eq!(verdict, Verdict { chosen: 0, gains: vec![None; 3] });
    }

    #[test]
    fn only_what_all_have_is_compared() {
        let mut first = trial(choice(2), 300.0, 50.0, 100.0);
        // So deep only the first was measured, and slow.
        let part = Part { phase: Phase::Decode, depth: 3072, sequences: 1 };
        first.measured.push(Measurement { part, tokens_per_second: 1.0, uncertainty: 0.0 });
        let verdict = choose(&[first.clone(), trial(choice(4), 300.0, 50.0, 100.0)], OTHERS_PERCENT_MAX);
        assert_eq!(verdict, Verdict { chosen: 0, gains: vec![Some(0.0), Some(0.0)] });
        let mut no_prompts = first;
        no_prompts.measured.retain(|one| one.part.phase == Phase::Decode);
        assert_eq!(choose(&[no_prompts], OTHERS_PERCENT_MAX).gains, [None]);
    }

    #[test]
    fn what_was_disturbed_is_not_believed() {
        let disturbed = |trial: Trial, others_percent| Trial { others_percent, ..trial };
        let first = trial(choice(2), 100.0, 10.0, 40.0);
        let faster = trial(choice(1), 150.0, 60.0, 70.0);
        for (one, other, chosen) in [(10, 10, 1), (11, 0, 0), (0, 11, 0)] {
            let trials = [disturbed(first.clone(), one), disturbed(faster.clone(), other)];
            assert_eq!(choose(&trials, OTHERS_PERCENT_MAX).chosen, chosen, "{one} {other}");
            assert_eq!(choose(&trials, 100).chosen, 1);
        }
    }
}
