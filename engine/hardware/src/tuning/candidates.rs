//! What is worth trying on a machine.

use allerac_engine_core::{Attention, FlashAttention, KvType};

use super::choose::{NOISE, time};
use super::{Choice, Phase, Trial};
use crate::topology::Topology;

/// Cores from which on half of them may be as fast as all: memory is then the limit, and fewer threads wait less for
/// each other.
const HALVES_MIN: u32 = 4;

/// Threads and processors that make sense here, the present choice first. They differ in nothing else.
#[must_use]
pub fn placements(present: &Choice, topology: &Topology) -> Vec<Choice> {
    let cores = topology.cores(None).max(1);
    let on = |threads, cpus| Choice { threads, threads_batch: threads, cpus, ..present.clone() };
    let mut all = vec![present.clone(), on(1, None)];
    if let Some(fast) = topology.performance() {
        all.push(on(topology.cores(Some(&fast)), Some(fast)));
    } else if cores >= HALVES_MIN {
        all.push(on(cores / 2, None));
    }
    all.extend([on(cores, None), on(topology.processors().max(1), None)]);
    without_doubles(all)
}

/// Ways to attend that are worth trying after the present one. Flash attention makes prompts faster and answers slower
/// on a CPU. Keys of 8 bits halve what an answer reads of them and lose next to nothing; values of 8 bits need flash
/// attention, whose prompts are then several times as slow, so they pay only where memory is the whole problem.
#[must_use]
pub fn attentions(present: &Choice) -> Vec<Choice> {
    let attention = |flash, kv_type_k, kv_type_v| Attention { flash, kv_type_k, kv_type_v };
    let all = [
        attention(FlashAttention::On, KvType::F16, KvType::F16),
        attention(FlashAttention::Off, KvType::F16, KvType::F16),
        attention(FlashAttention::Off, KvType::Q8_0, KvType::F16),
        attention(FlashAttention::On, KvType::Q8_0, KvType::Q8_0),
    ];
    // On a CPU llama.cpp's own choice is flash attention.
    let plain = |attention: Attention| match attention.flash {
        FlashAttention::Auto => Attention { flash: FlashAttention::On, ..attention },
        FlashAttention::On | FlashAttention::Off => attention,
    };
    let others = all.into_iter().filter(|one| *one != plain(present.attention()));
    others.map(|one| present.clone().with_attention(one)).collect()
}

/// Tokens of a prompt in one step that are worth trying after the present ones: what is computed of smaller pieces stays
/// in the caches, larger ones use weights more often once they are there. Beyond a prompt that is measured there is no
/// difference.
#[must_use]
pub fn batches(present: &Choice) -> Vec<Choice> {
    let others = [128, 256, 512].into_iter().filter(|batch| *batch != present.batch);
    others.map(|batch| Choice { batch, ..present.clone() }).collect()
}

/// Prompts and answers with the numbers of threads that are best for each, where those differ: on the processors of the
/// chosen trial, which an engine cannot change between the two.
#[must_use]
pub fn mixed(chosen: &Choice, trials: &[Trial]) -> Option<Choice> {
    let alike = |trial: &&Trial| trial.engine.cpus == chosen.cpus && trial.failure.is_none();
    let best = |phase| {
        let timed = trials.iter().filter(alike).filter_map(|trial| Some((trial, time(trial, trials, Some(phase))?)));
        timed.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(trial, seconds)| (&trial.engine, seconds))
    };
    let ((prompts, quick), (answers, _)) = (best(Phase::Prefill)?, best(Phase::Decode)?);
    let present = trials.iter().find(|trial| trial.engine == *answers)?;
    let gain = time(present, trials, Some(Phase::Prefill))? / quick - 1.0;
    let mixed = Choice { threads_batch: prompts.threads_batch, ..answers.clone() };
    (gain > NOISE && trials.iter().all(|trial| trial.engine != mixed)).then_some(mixed)
}

fn without_doubles(all: Vec<Choice>) -> Vec<Choice> {
    let mut kept: Vec<Choice> = Vec::new();
    for choice in all {
        if !kept.contains(&choice) {
            kept.push(choice);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{choice, trial};
    use super::*;
    use crate::topology::fixtures::{i5_13400, n100, ryzen_7600};

    fn said(topology: &Topology, present: u32) -> Vec<String> {
        let placements = placements(&choice(present), topology);
        let on = |choice: &Choice| choice.cpus.as_ref().map_or("all".to_owned(), ToString::to_string);
        placements.iter().map(|choice| format!("{} on {}", choice.threads, on(choice))).collect()
    }

    #[test]
    fn placements_follow_the_processor() {
        assert_eq!(said(&i5_13400(), 10), ["10 on all", "1 on all", "6 on 0-11", "16 on all"]);
        assert_eq!(said(&n100(), 4), ["4 on all", "1 on all", "2 on all"]);
        assert_eq!(said(&ryzen_7600(), 6), ["6 on all", "1 on all", "3 on all", "12 on all"]);
        assert_eq!(said(&ryzen_7600(), 5), ["5 on all", "1 on all", "3 on all", "6 on all", "12 on all"]);
        assert_eq!(said(&Topology::default(), 1), ["1 on all"]);
    }

    #[test]
    fn attentions_leave_the_present_one_out() {
        let said = |present| attentions(&present).iter().map(|one| one.attention().to_string()).collect::<Vec<_>>();
        let others = [
            "flash attention off, K f16, V f16",
            "flash attention off, K q8_0, V f16",
            "flash attention on, K q8_0, V q8_0",
        ];
        assert_eq!(said(choice(2)), others);
        let off = Choice { flash_attention: FlashAttention::Off, ..choice(2) };
        assert_eq!(said(off), ["flash attention on, K f16, V f16", others[1], others[2]]);
        assert!(attentions(&choice(2)).iter().all(|one| one.attention().check().is_ok()));
    }

    #[test]
    fn batches_leave_the_present_one_out() {
        let said = |batch| batches(&Choice { batch, ..choice(2) }).iter().map(|one| one.batch).collect::<Vec<_>>();
        assert_eq!((said(512), said(256), said(64)), (vec![128, 256], vec![128, 512], vec![128, 256, 512]));
    }

    #[test]
    fn prompts_may_want_more_threads_than_answers() {
        let few = trial(choice(3), 200.0, 60.0, 100.0);
        let many = trial(choice(6), 400.0, 50.0, 90.0);
        let both = Choice { threads_batch: 6, ..choice(3) };
        assert_eq!(mixed(&choice(3), &[many.clone(), few.clone()]), Some(both.clone()));
        // It was tried, or the best is best at both, or nothing is left to try.
        let tried = trial(both, 400.0, 60.0, 100.0);
        assert_eq!(mixed(&choice(3), &[many.clone(), few.clone(), tried]), None);
        assert_eq!(mixed(&choice(6), &[many.clone(), trial(choice(3), 200.0, 40.0, 80.0)]), None);
        assert_eq!(mixed(&choice(6), &[many.clone(), trial(choice(3), 395.0, 60.0, 100.0)]), None, "that is noise");
        let elsewhere = Choice { cpus: Some("0-3".parse().unwrap()), ..choice(3) };
        assert_eq!(mixed(&elsewhere, &[many, trial(elsewhere.clone(), 200.0, 60.0, 100.0)]), None);
    }
}
