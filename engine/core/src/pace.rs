//! What computing costs on this machine, learnt from every step, and what follows for the next one.

use std::time::Duration;

use crate::trial::Trial;

/// How much a new measurement counts against all before it.
const WEIGHT: f64 = 0.1;
/// Pieces of prompt shorter than this say more about a step's fixed cost than about a token's.
const PIECE_MEASURED_MIN: u32 = 16;
/// Lengths of drafts. With the token before them they fill batches of 4, 8 and 16, which kernels like;
/// drafts of one or two tokens gain nothing.
const DRAFTS: [u32; 3] = [3, 7, 15];
/// What one more token in a batch of one is taken to cost before it was measured, in steps of one token.
const TOKEN_ASSUMED: f64 = 0.5;
/// How fast a measurement that is not repeated fades to what is assumed.
pub(crate) const FADE: f64 = 0.0005;
/// Steps with guesses after which one without is measured again: what it takes grows with the sequences.
const STEPS_UNMEASURED_MAX: u32 = 32;
/// Tokens of an answer before any was measured.
const ANSWER_ASSUMED: f64 = 200.0;

/// A measure smoothed over its measurements; none before the first.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Smoothed(pub(crate) Option<f64>);

impl Smoothed {
    /// Takes a measurement; a backend that does not measure reports zero.
    pub(crate) fn note(&mut self, measured: f64) {
        if measured > 0.0 {
            self.0 = Some(self.0.map_or(measured, |before| before + WEIGHT * (measured - before)));
        }
    }
}

/// The costs of steps, and how long answers are.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Seconds of decoding one token for each of so many sequences, one less.
    decode: Vec<Smoothed>,
    /// Seconds of computing a token with a draft of each of the lengths.
    drafts: [Smoothed; DRAFTS.len()],
    /// Seconds of one token of a prompt.
    prompt_token: Smoothed,
    /// Tokens of an answer.
    answer: Smoothed,
    /// Steps with guesses since one without was measured.
    unmeasured: u32,
    /// What a model that guesses costs, and may cost.
    pub(crate) trial: Trial,
}

/// A guess that promises more tokens a second than none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plan {
    pub(crate) length: u32,
    /// Tokens a second over all that decode.
    pub(crate) rate: f64,
    /// Seconds saved for each token of the sequence that it is for.
    saved: f64,
}

impl Pace {
    pub(crate) fn new(sequences: u32) -> Self {
        Self {
            decode: vec![Smoothed::default(); sequences as usize],
            drafts: Default::default(),
            prompt_token: Smoothed::default(),
            answer: Smoothed::default(),
            unmeasured: 0,
            trial: Trial::default(),
        }
    }

    /// Learns from a step that decoded one token for each of `sequences`.
    pub(crate) fn note_decode(&mut self, sequences: usize, took: Duration) {
        self.unmeasured = 0;
        self.trial.earn(took.as_secs_f64());
        if let Some(seconds) = self.decode.get_mut(sequences.wrapping_sub(1)) {
            seconds.note(took.as_secs_f64());
        }
    }

    /// Learns from a step that decoded one token for each of `sequences`, with drafts of these lengths. A model made
    /// so many of the tokens.
    pub(crate) fn note_drafts(&mut self, sequences: usize, lengths: &[u32], by_model: u32, took: Duration) {
        self.unmeasured += 1;
        let (took, all) = (took.as_secs_f64(), f64::from(lengths.iter().sum::<u32>()));
        let plain = self.plain(sequences).unwrap_or(0.0);
        self.trial.spend((took - plain) * f64::from(by_model) / all);
        self.trial.worth = plain / to_f64(sequences);
        let share = (took - if sequences > 1 { plain } else { 0.0 }) / all;
        for length in lengths {
            if let Some(index) = DRAFTS.iter().position(|draft| draft == length) {
                self.drafts[index].note(share * f64::from(*length));
            }
        }
    }

    /// Learns that so many tokens a model guessed in the step before were right: each is one the less to decode.
    pub(crate) fn note_saved(&mut self, tokens: u32) {
        self.trial.save(tokens);
    }

    /// Learns from a piece of a prompt.
    pub(crate) fn note_prompt(&mut self, tokens: u32, took: Duration) {
        if tokens >= PIECE_MEASURED_MIN {
            self.prompt_token.note(took.as_secs_f64() / f64::from(tokens));
        }
    }

    /// Learns how long an answer became.
    pub(crate) fn note_answer(&mut self, tokens: u32) {
        self.answer.note(f64::from(tokens.max(1)));
    }

    /// How long a request at this place of the queue is likely to wait for one of the slots, in milliseconds: until
    /// so many answers of the usual length have ended. 0 before anything was measured.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float becomes the nearest u32")]
    pub(crate) fn wait_ms(&self, place: u32) -> u32 {
        let slots = self.decode.len();
        let (Some(step), Some(tokens)) = (self.plain(slots), self.answer.0) else { return 0 };
        (step * tokens * f64::from(place) / to_f64(slots) * 1e3) as u32
    }

    /// Prompt tokens that are computed in this time; `None` before the first measurement.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float becomes the nearest u32")]
    pub(crate) fn prompt_tokens_in(&self, time: Duration) -> Option<u32> {
        self.prompt_token.0.map(|seconds| (time.as_secs_f64() / seconds) as u32)
    }

    /// The draft that promises the most tokens a second over all `sequences` that decode, at most `longest`, when each
    /// of its tokens is right with probability `hit` and takes `seconds` to guess; `None` when none is better.
    pub(crate) fn plan(&self, sequences: usize, hit: f64, longest: u32, seconds: f64) -> Option<Plan> {
        let plain = self.plain(sequences)?;
        let (all, others) = (to_f64(sequences), to_f64(sequences.saturating_sub(1)));
        let lengths = DRAFTS.into_iter().enumerate().filter(|(_, length)| *length <= longest);
        let plans = lengths.map(|(index, length)| {
            let alone = self.checking(index) + seconds * f64::from(length);
            // A backend computes sequences with as many tokens together: drafts come on top of the others.
            let cost = if sequences > 1 { plain + alone } else { alone };
            let tokens = expected_tokens(length, hit);
            let saved = ((others + tokens) * plain / all - cost) / tokens;
            Plan { length, rate: (others + tokens) / cost, saved }
        });
        plans.filter(|plan| plan.rate > all / plain).max_by(|a, b| a.rate.total_cmp(&b.rate))
    }

    /// The same for a draft of a model, which has yet to compute `backlog` tokens of a sequence of which at most `left`
    /// are to come: these must be worth it. What the model costs is found out in any case.
    pub(crate) fn model_plan(&self, sequences: usize, hit: f64, longest: u32, backlog: u32) -> Option<Plan> {
        let length_max = if self.trial.is_fresh() { longest } else { longest.min(DRAFTS[0]) };
        let plan = self.plan(sequences, hit, length_max, self.trial.token(self.single()))?;
        let left = f64::from(longest).min(self.answer.0.unwrap_or(ANSWER_ASSUMED));
        let catch_up = self.trial.catch_up(self.prompt_token.0.unwrap_or(0.0)) * f64::from(backlog);
        (plan.saved * left >= catch_up || !self.trial.is_measured()).then_some(plan)
    }

    /// Whether the next step is to be one without guesses of a model, so that these are compared with what is.
    pub(crate) fn is_stale(&self) -> bool {
        self.unmeasured >= STEPS_UNMEASURED_MAX
    }

    /// A draft that looks too costly is tried again one day: the machine may have been busy.
    pub(crate) fn fade(&mut self) {
        let single = self.single();
        for (seconds, length) in self.drafts.iter_mut().zip(DRAFTS) {
            if let Some(measured) = &mut seconds.0 {
                *measured += FADE * (assumed(single, length) - *measured);
            }
        }
    }

    /// So is a model.
    pub(crate) fn fade_model(&mut self) {
        self.trial.fade(self.single(), self.prompt_token.0.unwrap_or(0.0));
    }

    /// Seconds of computing a token with a draft of this length. Where that was never measured, more tokens are not
    /// dearer than those of a shorter one.
    fn checking(&self, index: usize) -> f64 {
        let single = self.single();
        self.drafts[index].0.unwrap_or_else(|| {
            let shorter = (0..index).rev().find_map(|shorter| Some((shorter, self.drafts[shorter].0?)));
            let in_line = shorter.map_or(f64::INFINITY, |(shorter, seconds)| {
                let longer = f64::from(DRAFTS[index]) / f64::from(DRAFTS[shorter]);
                single + (seconds - single).max(0.0) * longer
            });
            assumed(single, DRAFTS[index]).min(in_line)
        })
    }

    fn single(&self) -> f64 {
        self.plain(1).unwrap_or(0.0)
    }

    /// Seconds of a step without drafts; of another number of sequences when this one was never measured.
    fn plain(&self, sequences: usize) -> Option<f64> {
        let known = |sequences: usize| self.decode.get(sequences.wrapping_sub(1))?.0;
        known(sequences).or_else(|| self.decode.iter().find_map(|seconds| seconds.0))
    }
}

/// Seconds of computing a token with a draft of this length, before it was measured.
fn assumed(single: f64, length: u32) -> f64 {
    single * (1.0 + TOKEN_ASSUMED * f64::from(length))
}

/// Tokens that come of one step with a draft: one in any case, and each guess counts while all before are right.
fn expected_tokens(length: u32, hit: f64) -> f64 {
    (0..=length).map(|place| hit.powi(i32::try_from(place).unwrap_or(i32::MAX))).sum()
}

fn to_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(single_ms: u64, drafts_ms: [u64; 3]) -> Pace {
        let mut pace = Pace::new(8);
        pace.note_decode(1, Duration::from_millis(single_ms));
        for (length, millis) in DRAFTS.into_iter().zip(drafts_ms) {
            pace.note_drafts(1, &[length], 0, Duration::from_millis(millis));
        }
        pace
    }

    /// How long a guess from what came before may be.
    fn length(pace: &Pace, sequences: usize, hit: f64, longest: u32) -> u32 {
        pace.plan(sequences, hit, longest, 0.0).map_or(0, |plan| plan.length)
    }

    #[test]
    fn a_chunk_is_as_long_as_its_time() {
        let mut pace = Pace::new(1);
        let time = Duration::from_millis(100);
        assert_eq!(pace.prompt_tokens_in(time), None);
        pace.note_prompt(PIECE_MEASURED_MIN - 1, Duration::from_secs(9));
        pace.note_prompt(64, Duration::ZERO);
        assert_eq!(pace.prompt_tokens_in(time), None);
        pace.note_prompt(50, Duration::from_millis(50));
        assert_eq!(pace.prompt_tokens_in(time), Some(100));
        for _ in 0..100 {
            pace.note_prompt(50, Duration::from_millis(100));
        }
        assert_eq!(pace.prompt_tokens_in(time), Some(50));
    }

    #[test]
    fn a_wait_lasts_until_answers_of_the_usual_length_have_ended() {
        let mut pace = Pace::new(8);
        assert_eq!(pace.wait_ms(1), 0);
        pace.note_decode(8, Duration::from_millis(40));
        assert_eq!(pace.wait_ms(1), 0);
        pace.note_answer(200);
        assert_eq!([pace.wait_ms(1), pace.wait_ms(8)], [1000, 8000]);
    }

    #[test]
    fn drafts_are_as_long_as_they_pay() {
        let cheap = pace(10, [12, 14, 20]);
        assert_eq!(length(&cheap, 1, 0.99, 15), 15);
        assert_eq!(length(&cheap, 1, 0.99, 8), 7);
        assert_eq!(length(&cheap, 1, 0.5, 15), 3);
        assert_eq!(length(&cheap, 1, 0.1, 15), 0);
        assert_eq!(length(&cheap, 1, 0.99, 2), 0);
        // As costly as the tokens one by one: nothing to gain.
        assert_eq!(length(&pace(10, [40, 80, 160]), 1, 0.99, 15), 0);
        assert_eq!(length(&Pace::new(8), 1, 0.99, 15), 0);
    }

    #[test]
    fn drafts_pay_less_among_many() {
        let mut pace = pace(10, [12, 14, 20]);
        pace.note_decode(8, Duration::from_millis(16));
        assert_eq!(length(&pace, 8, 0.6, 15), 0);
        assert_eq!(length(&pace, 8, 0.99, 15), 15);
    }

    #[test]
    fn what_drafts_cost_is_learnt_among_many_too() {
        let mut pace = pace(10, [12, 14, 20]);
        pace.note_decode(8, Duration::from_millis(16));
        for _ in 0..100 {
            pace.note_drafts(8, &[15, 15], 0, Duration::from_millis(16 + 200));
        }
        assert_eq!(length(&pace, 8, 0.99, 15), 0);
    }

    #[test]
    fn a_draft_that_was_slow_once_is_tried_again() {
        let mut pace = pace(10, [500, 500, 500]);
        let tries = (0..).find(|_| {
            pace.fade();
            length(&pace, 1, 0.9, 15) > 0
        });
        let tries = tries.unwrap();
        assert!((500..20_000).contains(&tries), "{tries}");
    }
}
