use allerac_engine_core::Limits;

use super::*;

/// A millisecond for each token of a prompt, ten for each step of answers and one more a thousand tokens of depth.
struct Fake {
    lengths: Vec<u32>,
    limits: Limits,
    steps: u32,
}

impl Fake {
    fn new(context: u32, sequences: u32) -> Self {
        let limits = Limits {
            cells: context * sequences,
            context,
            sequences,
            batch: 128,
            vocabulary: 10,
            copy_min: Some(1),
            drafts: true,
            neighbours: true,
            piece_min: 1,
        };
        Self { lengths: vec![0; sequences as usize], limits, steps: 0 }
    }
}

impl Backend for Fake {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn decode(&mut self, batch: &[BatchToken], _: AdapterId) -> Result<Duration, BackendError> {
        assert!(batch.len() <= self.limits.batch as usize && !batch.is_empty());
        for token in batch {
            let length = &mut self.lengths[token.sequence as usize];
            assert_eq!(token.position, *length, "of sequence {}", token.sequence);
            *length += 1;
            assert!(*length <= self.limits.context);
        }
        assert!(batch.last().is_some_and(|token| token.wants_logits) || batch.len() == 128);
        let is_prompt = batch.len() > 1 && batch[0].sequence == batch[1].sequence;
        if is_prompt {
            return Ok(Duration::from_millis(batch.len() as u64));
        }
        self.steps += 1;
        // Every eighth is disturbed.
        let disturbed = if self.steps.is_multiple_of(8) { 100 } else { 0 };
        Ok(Duration::from_millis(u64::from(10 + batch[0].position / 1000 + disturbed)))
    }

    fn logits(&self, _: usize) -> &[f32] {
        &[]
    }

    fn clear(&mut self, sequence: u32) {
        self.lengths[sequence as usize] = 0;
    }

    fn truncate(&mut self, sequence: u32, from: u32) -> bool {
        if self.limits.drafts {
            self.lengths[sequence as usize] = from;
        }
        self.limits.drafts
    }

    fn copy(&mut self, from: u32, to: u32, length: u32) {
        assert_eq!((self.lengths[from as usize], self.lengths[to as usize]), (length, 0));
        self.lengths[to as usize] = length;
    }

    fn save(&self, _: u32) -> Option<Vec<u8>> {
        None
    }

    fn restore(&mut self, _: u32, _: &[u8]) -> bool {
        false
    }

    fn token_bytes(&self, _: TokenId) -> Vec<u8> {
        Vec::new()
    }

    fn is_end(&self, _: TokenId) -> bool {
        false
    }
}

/// What is said: `decode 1024 4: 363.6`.
fn said(fake: &mut Fake, plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let mut tell = |report: &Report| {
        lines.push(match report {
            Report::Measured(Measurement { part, tokens_per_second, uncertainty }) => {
                assert!(*uncertainty < 0.001, "the disturbed ones count too much");
                format!("{:?} {} {}: {tokens_per_second:.1}", part.phase, part.depth, part.sequences)
            }
            Report::Skipped { depth, reason } => format!("skipped {depth}: {reason}"),
            Report::Sampled { .. } => panic!("{report:?}"),
            Report::Done { .. } => panic!("that is said by the program"),
        });
    };
    measure(fake, &[TokenId(1), TokenId(2)], plan, &mut tell).unwrap();
    lines
}

#[test]
fn each_phase_is_measured_at_each_depth() {
    let expected = [
        "Prefill 0 1: 1000.0",
        "Decode 0 1: 100.0",
        "Decode 0 4: 400.0",
        "Prefill 1024 1: 1000.0",
        "Decode 1024 1: 90.9",
        "Decode 1024 4: 363.6",
        "Prefill 3072 1: 1000.0",
        "Decode 3072 1: 76.9",
        "Decode 3072 4: 307.7",
    ];
    assert_eq!(said(&mut Fake::new(4096, 4), &Plan::new(Effort::Full)), expected);
    assert_eq!(said(&mut Fake::new(4096, 4), &Plan::new(Effort::Quick)), expected[..6]);
    let alone = said(&mut Fake::new(4096, 1), &Plan::new(Effort::Quick));
    assert_eq!(alone, [expected[0], expected[1], expected[3], expected[4]]);
}

#[test]
fn what_does_not_fit_is_left_out_and_said() {
    let lines = said(&mut Fake::new(2048, 2), &Plan::new(Effort::Full));
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[6], "skipped 3072: it needs 3584 tokens of context, and there are 2048");
    let mut pool = Fake::new(4096, 4);
    pool.limits.cells = 4096;
    let lines = said(&mut pool, &Plan::new(Effort::Full));
    assert!(lines[2].starts_with("Decode 0 4") && lines.iter().all(|line| !line.starts_with("Decode 1024 4")));
}

#[test]
fn what_takes_too_long_is_left_out_and_said() {
    let plan = Plan { time_max: Duration::from_secs(3), ..Plan::new(Effort::Full) };
    let lines = said(&mut Fake::new(4096, 1), &plan);
    let expected = [
        "Prefill 0 1: 1000.0",
        "Decode 0 1: 100.0",
        "Prefill 1024 1: 1000.0",
        "Decode 1024 1: 90.9",
        "skipped 3072: it takes about 2.6 s, and 0.2 s are left",
    ];
    assert_eq!(lines, expected);
    // The beginning is measured all the same: one prompt, and the fewest tokens.
    let plan = Plan { time_max: Duration::from_millis(10), ..Plan::new(Effort::Full) };
    let mut fake = Fake::new(4096, 1);
    assert_eq!(said(&mut fake, &plan)[..2], expected[..2]);
    assert_eq!(fake.steps, 3);
}

#[test]
fn a_state_that_cannot_be_taken_back_is_measured_as_it_grows() {
    let mut recurrent = Fake::new(4096, 2);
    (recurrent.limits.drafts, recurrent.limits.copy_min) = (false, None);
    let lines = said(&mut recurrent, &Plan::new(Effort::Quick));
    let expected = ["Prefill 0 1: 1000.0", "Decode 0 1: 100.0", "Decode 0 2: 200.0", "Decode 1024 1: 90.9"];
    assert_eq!(lines, expected);
}

#[test]
fn the_median_forgets_what_was_disturbed() {
    assert_eq!(summary(vec![10.0, 10.0, 10.0, 10.0, 1.0]), (10.0, 0.0));
    let (median, uncertainty) = summary(vec![8.0, 9.0, 10.0, 11.0, 12.0]);
    assert_eq!(median, 10.0);
    assert!((uncertainty - 1.2533 * 1.4826 / 5f64.sqrt() / 10.0).abs() < 1e-12);
    assert_eq!(summary(vec![4.0, 6.0]).0, 5.0);
}

#[test]
fn a_workload_is_measured_whole_at_each_depth() {
    for drafts in [true, false] {
        let mut fake = Fake::new(2048, 1);
        fake.limits.drafts = drafts;
        let workload = Workload { prompt: 256, answer: 16, depths: vec![0, 1000, 2000], repeats: 3 };
        let mut told = Vec::new();
        bench(&mut fake, &[TokenId(1), TokenId(2)], &workload, &mut |report| told.push(report.clone())).unwrap();
        let Report::Skipped { depth: 2000, reason } = &told[4] else { panic!("{told:?}") };
        assert_eq!(reason, "it needs 2256 tokens of context, and there are 2048");
        assert_eq!(told.len(), 5);
        let sampled = |index: usize| match &told[index] {
            Report::Sampled { phase, depth, tokens, samples } => (*phase, *depth, *tokens, samples.clone()),
            other => panic!("{other:?}"),
        };
        for (index, depth) in [(0, 0), (2, 1000)] {
            // A token of a prompt takes a millisecond.
            assert_eq!(sampled(index), (Phase::Prefill, depth, 256, vec![1000.0; 3]), "{drafts}");
            let (phase, at, tokens, samples) = sampled(index + 1);
            assert_eq!((phase, at, tokens, samples.len()), (Phase::Decode, depth, 16, 3));
            // Every eighth step takes 100 ms longer, and two of 16 are such.
            let expected = 16.0 / (16.0 * (0.010 + f64::from(depth / 1000) / 1000.0) + 0.2);
            assert!(samples.iter().all(|speed| (speed - expected).abs() < 1e-9), "{samples:?}, not {expected}");
        }
    }
}
