//! Guesses of a smaller model: used where they pay, and never seen in an answer.

use allerac_engine_core::{Engine, Event, Generate, Limits, SamplingParams, TokenId};

use crate::drafting::Drafting;
use crate::fake::{END, Fake, Faults, LIMITS, VOCABULARY, config, drain, request};

/// Sampling that never ends an answer before its length.
fn endless(sampling: SamplingParams) -> SamplingParams {
    SamplingParams { logit_bias: vec![(END, -100.0)], ..sampling }
}

/// Answers these requests one after the other; their tokens, and what that took.
fn answers(requests: &[Generate], drafting: Option<Drafting>) -> (Vec<Vec<TokenId>>, Fake) {
    let limits = Limits { cells: 9000, context: 3000, batch: 64, ..LIMITS };
    let faults = Faults { step_us: 500, ..Faults::default() };
    let mut engine = Engine::new(Fake::new(limits, faults).with_drafting(drafting), config(64));
    let mut answers = Vec::new();
    for request in requests {
        let mut events = Vec::new();
        engine.submit(request.clone(), &mut events);
        drain(&mut engine, &mut events);
        let tokens = events.into_iter().filter_map(|event| match event {
            Event::Chunk { chunk, .. } => Some(chunk.tokens),
            _ => None,
        });
        answers.push(tokens.flatten().collect());
    }
    (answers, engine.into_backend())
}

/// So many answers of so many tokens, of an owner each.
fn requests(count: u64, max_tokens: u32) -> Vec<Generate> {
    let sampling = endless(SamplingParams { temperature: 0.0, ..SamplingParams::default() });
    let prompt =
        |id: u64| (0..40).map(|place| 1 + (u32::try_from(id).unwrap() + place * place) % 31).collect::<Vec<_>>();
    let one = |id| Generate { salt: id, sampling: sampling.clone(), ..request(id, &prompt(id), max_tokens) };
    (0..count).map(one).collect()
}

/// How long the same answers take with a smaller model, in those without; and what it did.
fn share_of_time(requests: &[Generate], drafting: Drafting) -> (f64, Drafting) {
    let (plain_answers, plain) = answers(requests, None);
    let (answers, backend) = answers(requests, Some(drafting));
    assert_eq!(answers, plain_answers);
    (backend.took.as_secs_f64() / plain.took.as_secs_f64(), backend.drafting.unwrap())
}

#[test]
fn a_cheap_model_that_is_right_saves_most_of_the_time() {
    let (share, drafting) = share_of_time(&requests(8, 300), Drafting::right(25));
    assert!(share < 0.5, "{share}");
    assert!(drafting.guessed > 8 * 200);
    let half = Drafting { wrong_every: Some(4), ..Drafting::right(25) };
    let (share, _) = share_of_time(&requests(8, 300), half);
    assert!(share < 0.8, "{share}");
}

#[test]
fn a_model_that_does_not_pay_costs_next_to_nothing() {
    // The share that tries may lose, and the first one.
    for (name, drafting) in [
        ("as costly as the model itself", Drafting::right(510)),
        ("much more costly", Drafting::right(5000)),
        ("always wrong", Drafting { wrong_every: Some(1), ..Drafting::right(50) }),
        ("always wrong and costly", Drafting { wrong_every: Some(1), ..Drafting::right(2000) }),
        ("slow to catch up", Drafting { catch_up_us: 1000, ..Drafting::right(200) }),
        ("with nothing to say", Drafting { most: 0, ..Drafting::right(50) }),
    ] {
        let (share, drafting) = share_of_time(&requests(40, 250), drafting);
        assert!(share < 1.02, "{name}: {share}");
        assert!(drafting.calls > 0, "{name}");
    }
}

#[test]
fn a_model_that_was_slow_once_is_tried_again() {
    let slow = Drafting { slow_calls: 4, ..Drafting::right(100) };
    let (share, drafting) = share_of_time(&requests(40, 1000), slow);
    assert!(drafting.guessed > 10_000, "{}", drafting.guessed);
    assert!(share < 0.9, "{share}");
}

#[test]
fn what_a_client_expects_saves_time_where_it_comes_about_and_never_changes_an_answer() {
    // The fake model's own answer, right but for every fifth token, and something else.
    let plain = requests(4, 200);
    let expecting = |wrong_every: usize| -> Vec<Generate> {
        let (answers, _) = answers(&plain, None);
        let predict = |(request, answer): (&Generate, Vec<TokenId>)| {
            let wrong = |place: usize, token| if place.is_multiple_of(wrong_every) { TokenId(1) } else { token };
            let prediction = answer.into_iter().enumerate().map(|(place, token)| wrong(place, token)).collect();
            Generate { prediction, ..request.clone() }
        };
        plain.iter().zip(answers).map(predict).collect()
    };
    let (answers_plain, backend_plain) = answers(&plain, None);
    for (wrong_every, most) in [(usize::MAX, 0.7), (40, 0.9), (1, 1.05)] {
        let (found, backend) = answers(&expecting(wrong_every), None);
        assert_eq!(found, answers_plain);
        let share = backend.took.as_secs_f64() / backend_plain.took.as_secs_f64();
        assert!(share < most, "{share} with every {wrong_every}th token wrong");
    }
}

/// The probability of each token at a place of the answer, over all that may stand before it.
fn distribution(prompt: &[TokenId], place: usize, temperature: f64) -> Vec<f64> {
    // One token has the logit 1, the others 0, and the end none.
    let peak = (1.0 / temperature).exp();
    let mut contexts = vec![(prompt.to_vec(), 1.0)];
    let mut shares = Vec::new();
    for _ in 0..=place {
        shares = vec![0.0; VOCABULARY as usize];
        let mut longer = Vec::new();
        for (tokens, share) in &contexts {
            let next = Fake::next(tokens);
            let sum = f64::from(VOCABULARY - 2) + if next == END { 1.0 } else { peak };
            for id in 1..VOCABULARY {
                let odds = if TokenId(id) == next { peak } else { 1.0 };
                shares[id as usize] += share * odds / sum;
                longer.push(([tokens.as_slice(), &[TokenId(id)]].concat(), share * odds / sum));
            }
        }
        contexts = longer;
    }
    shares
}

#[test]
fn what_is_drawn_follows_the_same_distribution_with_guesses() {
    const DRAWS: u32 = 6000;
    let (prompt, temperature) = ([3, 9, 27, 17, 19, 25], 0.25f32);
    let tokens = prompt.map(TokenId);
    // The third token is the first that may be guessed: the second takes the step that is measured.
    let places = [2, 3];
    let expected = places.map(|place| distribution(&tokens, place, f64::from(temperature)));
    for drafting in [None, Some(Drafting::right(5)), Some(Drafting { wrong_every: Some(2), ..Drafting::right(5) })] {
        let (mut counts, mut guessed) = ([[0u32; VOCABULARY as usize]; 2], 0);
        for seed in 0..DRAWS {
            let sampling = SamplingParams { temperature, seed: seed.into(), ..SamplingParams::default() };
            let request = Generate { sampling: endless(sampling), ..request(1, &prompt, 8) };
            let (answers, backend) = answers(&[request], drafting.clone());
            for (counts, place) in counts.iter_mut().zip(places) {
                counts[answers[0][place].0 as usize] += 1;
            }
            guessed += backend.drafting.map_or(0, |drafting| drafting.guessed);
        }
        assert_eq!(guessed > u64::from(DRAWS), drafting.is_some());
        for (counts, expected) in counts.iter().zip(&expected) {
            let terms = counts.iter().zip(expected).filter(|(_, share)| **share > 0.0).map(|(count, share)| {
                let mean = share * f64::from(DRAWS);
                (f64::from(*count) - mean).powi(2) / mean
            });
            let (chi_squared, freedom) = (terms.sum::<f64>(), f64::from(VOCABULARY - 2));
            // Mean and four standard deviations.
            assert!(chi_squared < freedom + 4.0 * (2.0 * freedom).sqrt(), "{chi_squared} with {drafting:?}");
        }
    }
}
