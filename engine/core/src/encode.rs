//! Requests of encoders (embeddings, scores): texts in, vectors out. Texts of several requests are computed together,
//! a bounded number of tokens at a time, fair between owners as generations are.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::event::RefuseReason;
use crate::queue::PATIENCE;
use crate::request::{Class, RequestId, TokenId};
use crate::shares::Shares;

/// One text, or two that are looked at together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// All of it, at least one token.
    pub tokens: Vec<TokenId>,
    /// The first token of the second text; the length where there is none.
    pub second: u32,
}

/// Compute a vector for each of `sequences`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encode {
    /// The caller's name for this request.
    pub id: RequestId,
    /// Whose request it is: owners share the machine fairly.
    pub salt: u64,
    /// How urgent it is.
    pub class: Class,
    /// At least one.
    pub sequences: Vec<Sequence>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Encoded {
    /// The request's name.
    pub id: RequestId,
    /// Tokens that were computed for it, also where it has no result.
    pub tokens: u32,
    /// One vector for each sequence, in their order.
    pub result: Result<Vec<Vec<f32>>, EncodeFailure>,
}

/// Why there are no vectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncodeFailure {
    /// The caller cancelled.
    Cancelled,
    /// It never entered the queue.
    Refused(RefuseReason),
    /// A step failed; for the log and for the administrator.
    Backend(String),
}

/// Makes a vector one of length 1; as torch's normalize, nothing is divided by zero.
pub fn scale_to_one(vector: &mut [f32]) {
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|number| *number /= length);
}

/// The logistic function: any number as one from 0 to 1.
#[must_use]
pub fn logistic(number: f32) -> f32 {
    1.0 / (1.0 + (-number).exp())
}

/// What computes vectors: one model.
pub trait Encoder {
    /// The longest sequence, in tokens.
    fn context(&self) -> u32;

    /// One vector for each sequence; what it is does not depend on the others, but for rounding.
    ///
    /// # Errors
    /// [`EncodeError`] when they cannot be computed.
    fn encode(&mut self, sequences: &[&Sequence]) -> Result<Vec<Vec<f32>>, EncodeError>;
}

impl<E: Encoder + ?Sized> Encoder for Box<E> {
    fn context(&self) -> u32 {
        (**self).context()
    }

    fn encode(&mut self, sequences: &[&Sequence]) -> Result<Vec<Vec<f32>>, EncodeError> {
        (**self).encode(sequences)
    }
}

/// Why a batch could not be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(pub String);

/// Bounds of a [`Batcher`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatcherConfig {
    /// Requests that may wait.
    pub queue: usize,
    /// Tokens computed in one step, but for a single sequence that is longer.
    pub batch: u32,
}

/// Requests that wait or are under way, and what their owners had so far.
#[derive(Debug)]
pub struct Batcher<E> {
    encoder: E,
    config: BatcherConfig,
    /// In the order of arrival.
    jobs: Vec<Job>,
    served: Shares,
    last_step: Vec<(RequestId, u64)>,
}

#[derive(Debug)]
struct Job {
    request: Encode,
    vectors: Vec<Vec<f32>>,
    /// Tokens computed.
    tokens: u32,
    /// Sequences in the step that is being put together.
    taken: usize,
    /// Steps that others had since this one waits.
    passed: u32,
}

impl Job {
    fn class(&self) -> Class {
        let class = self.request.class;
        if self.passed < PATIENCE { class } else { class.max(Class::Chat) }
    }

    /// The sequence to compute next.
    fn next(&self) -> Option<&Sequence> {
        self.request.sequences.get(self.vectors.len() + self.taken)
    }

    fn end(self, failure: EncodeFailure) -> Encoded {
        Encoded { id: self.request.id, tokens: self.tokens, result: Err(failure) }
    }
}

impl<E: Encoder> Batcher<E> {
    /// Nothing waits yet.
    #[must_use]
    pub fn new(encoder: E, config: BatcherConfig) -> Self {
        Self { encoder, config, jobs: Vec::new(), served: Shares::default(), last_step: Vec::new() }
    }

    /// Whether a step would compute anything.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Takes a request in, or says at once how it ended.
    pub fn submit(&mut self, request: Encode) -> Option<Encoded> {
        let id = request.id;
        let refused = |reason| Some(Encoded { id, tokens: 0, result: Err(EncodeFailure::Refused(reason)) });
        if self.jobs.len() >= self.config.queue {
            let waiting = u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
            return refused(RefuseReason::QueueFull { waiting, wait_ms: 0 });
        }
        let context = self.encoder.context();
        let longest = request.sequences.iter().map(length).max().unwrap_or(0);
        if longest > context {
            return refused(RefuseReason::TooLong { tokens: longest, context });
        }
        if request.sequences.is_empty() {
            return Some(Encoded { id, tokens: 0, result: Ok(Vec::new()) });
        }
        let here: Vec<u64> = self.jobs.iter().map(|job| job.request.salt).collect();
        self.served.arrive(request.salt, &here);
        self.jobs.push(Job { request, vectors: Vec::new(), tokens: 0, taken: 0, passed: 0 });
        None
    }

    /// Ends a request, saying what it cost. Unknown ones are ignored.
    pub fn cancel(&mut self, id: RequestId) -> Option<Encoded> {
        let place = self.jobs.iter().position(|job| job.request.id == id)?;
        Some(self.jobs.remove(place).end(EncodeFailure::Cancelled))
    }

    /// Computes one batch; the requests that ended with it.
    pub fn step(&mut self) -> Vec<Encoded> {
        let batch = self.plan();
        let sequences: Vec<&Sequence> =
            batch.iter().map(|(job, place)| &self.jobs[*job].request.sequences[*place]).collect();
        self.last_step = batch
            .iter()
            .map(|(job, _)| self.jobs[*job].request.id)
            .zip(sequences.iter().map(|sequence| u64::from(length(sequence))))
            .collect();
        let computed = self.encoder.encode(&sequences);
        match computed {
            Ok(vectors) => {
                for ((job, place), vector) in batch.into_iter().zip(vectors) {
                    let job = &mut self.jobs[job];
                    job.tokens = job.tokens.saturating_add(length(&job.request.sequences[place]));
                    job.vectors.push(vector);
                }
                self.finish()
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Requests of the last step, each with the tokens that were computed of it.
    #[must_use]
    pub fn last_step(&self) -> &[(RequestId, u64)] {
        &self.last_step
    }

    /// Puts a batch together: for each sequence the job and its place in it. Within a job they go in order.
    fn plan(&mut self) -> Vec<(usize, usize)> {
        let (mut batch, mut tokens) = (Vec::new(), 0u32);
        while let Some(next) = self.next() {
            let job = &mut self.jobs[next];
            let Some(sequence) = job.next() else { break };
            let cost = length(sequence);
            if !batch.is_empty() && tokens.saturating_add(cost) > self.config.batch {
                break;
            }
            tokens = tokens.saturating_add(cost);
            batch.push((next, job.vectors.len() + job.taken));
            job.taken += 1;
            self.served.count(job.request.salt, cost.into());
        }
        for job in &mut self.jobs {
            job.passed = if job.taken == 0 { job.passed.saturating_add(1) } else { 0 };
        }
        batch
    }

    /// Of the most urgent jobs with something left, of the owner served least, the one that came first.
    fn next(&self) -> Option<usize> {
        let open = self.jobs.iter().enumerate().filter(|(_, job)| job.next().is_some());
        open.min_by_key(|(_, job)| (Reverse(job.class()), self.served.of(job.request.salt))).map(|(place, _)| place)
    }

    fn finish(&mut self) -> Vec<Encoded> {
        let mut ended = Vec::new();
        for mut job in std::mem::take(&mut self.jobs) {
            job.taken = 0;
            if job.vectors.len() == job.request.sequences.len() {
                ended.push(Encoded { id: job.request.id, tokens: job.tokens, result: Ok(job.vectors) });
            } else {
                self.jobs.push(job);
            }
        }
        ended
    }

    /// Ends the requests of a batch that failed.
    fn fail(&mut self, error: &EncodeError) -> Vec<Encoded> {
        let (failed, rest): (Vec<Job>, Vec<Job>) =
            std::mem::take(&mut self.jobs).into_iter().partition(|job| job.taken > 0);
        self.jobs = rest;
        failed.into_iter().map(|job| job.end(EncodeFailure::Backend(error.to_string()))).collect()
    }
}

fn length(sequence: &Sequence) -> u32 {
    u32::try_from(sequence.tokens.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence's vector is its first token; remembers the sizes of its batches.
    #[derive(Default)]
    struct Fake {
        batches: Vec<Vec<u32>>,
    }

    impl Encoder for Fake {
        fn context(&self) -> u32 {
            8
        }

        fn encode(&mut self, sequences: &[&Sequence]) -> Result<Vec<Vec<f32>>, EncodeError> {
            let first: Vec<u32> = sequences.iter().map(|sequence| sequence.tokens[0].0).collect();
            self.batches.push(first.clone());
            if first.contains(&666) {
                return Err(EncodeError("it broke".into()));
            }
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            Ok(first.into_iter().map(|token| vec![token as f32]).collect())
        }
    }

    fn batcher() -> Batcher<Fake> {
        Batcher::new(Fake::default(), BatcherConfig { queue: 3, batch: 8 })
    }

    /// Sequences that begin with these tokens, each so long.
    fn request(id: u64, owner: u64, first: &[u32], length: usize) -> Encode {
        let sequence = |first: &u32| Sequence {
            tokens: std::iter::once(TokenId(*first)).chain((1..length).map(|_| TokenId(0))).collect(),
            second: u32::try_from(length).unwrap(),
        };
        let sequences = first.iter().map(sequence).collect();
        Encode { id: RequestId(id), salt: owner, class: Class::Chat, sequences }
    }

    /// A request that ended: its name, its tokens, and its vectors.
    type Ended = (u64, u32, Option<Vec<Vec<f32>>>);

    fn ended(batcher: &mut Batcher<Fake>) -> Vec<Ended> {
        batcher.step().into_iter().map(|ended| (ended.id.0, ended.tokens, ended.result.ok())).collect()
    }

    #[test]
    fn requests_share_a_batch_and_get_their_own_vectors_in_order() {
        let mut batcher = batcher();
        assert_eq!(batcher.submit(request(1, 7, &[10, 11], 2)), None);
        assert_eq!(batcher.submit(request(2, 8, &[20], 2)), None);
        let all = [(1, 4, Some(vec![vec![10.0], vec![11.0]])), (2, 2, Some(vec![vec![20.0]]))];
        assert_eq!(ended(&mut batcher), all);
        assert_eq!(batcher.last_step(), [(RequestId(1), 2), (RequestId(2), 2), (RequestId(1), 2)]);
        assert_eq!(batcher.encoder.batches, [[10, 20, 11]]);
        assert!(!batcher.has_work());
    }

    #[test]
    fn a_small_request_does_not_wait_for_a_large_one_of_somebody_else() {
        let mut batcher = batcher();
        batcher.submit(request(1, 7, &[10, 11, 12, 13, 14, 15], 4));
        assert_eq!(ended(&mut batcher), []);
        batcher.submit(request(2, 8, &[20], 4));
        // Whoever comes begins at the least of those who are here; among equals who came first.
        assert_eq!(ended(&mut batcher), [(2, 4, Some(vec![vec![20.0]]))]);
        assert_eq!(batcher.encoder.batches, [[10, 11], [12, 20]]);
    }

    #[test]
    fn a_sequence_beyond_the_batch_is_computed_alone_and_one_beyond_the_context_refused() {
        let mut batcher = Batcher::new(Fake::default(), BatcherConfig { queue: 3, batch: 4 });
        batcher.submit(request(1, 7, &[10, 11], 6));
        assert_eq!(ended(&mut batcher), []);
        assert_eq!(ended(&mut batcher), [(1, 12, Some(vec![vec![10.0], vec![11.0]]))]);
        let refused = batcher.submit(request(2, 7, &[20], 9)).unwrap().result;
        assert_eq!(refused, Err(EncodeFailure::Refused(RefuseReason::TooLong { tokens: 9, context: 8 })));
    }

    #[test]
    fn the_queue_is_bounded_and_a_cancelled_request_says_what_it_cost() {
        let mut batcher = batcher();
        for id in 1..=3 {
            assert_eq!(batcher.submit(request(id, id, &[10, 11, 12], 4)), None);
        }
        let refused = batcher.submit(request(4, 4, &[20], 1)).unwrap().result;
        assert_eq!(refused, Err(EncodeFailure::Refused(RefuseReason::QueueFull { waiting: 3, wait_ms: 0 })));
        assert_eq!(ended(&mut batcher), []);
        assert_eq!(batcher.cancel(RequestId(1)).map(|ended| ended.tokens), Some(4));
        assert_eq!(batcher.cancel(RequestId(3)).map(|ended| ended.tokens), Some(0));
        assert_eq!(batcher.cancel(RequestId(9)), None);
    }

    #[test]
    fn what_nobody_waits_for_comes_last_but_comes() {
        let mut batcher = batcher();
        batcher.submit(Encode { class: Class::Batch, ..request(1, 7, &[10], 8) });
        for id in 2..2 + u64::from(PATIENCE) {
            batcher.submit(request(id, 8, &[20], 8));
            assert_eq!(ended(&mut batcher)[0].0, id);
        }
        batcher.submit(request(1000, 8, &[20], 8));
        assert_eq!(ended(&mut batcher)[0].0, 1);
    }

    #[test]
    fn a_step_that_fails_ends_its_own_requests_only() {
        let mut batcher = batcher();
        batcher.submit(request(1, 7, &[666], 8));
        batcher.submit(request(2, 8, &[20], 8));
        let failed = batcher.step();
        assert_eq!(failed.len(), 1);
        assert_eq!((failed[0].id.0, failed[0].tokens), (1, 0));
        assert_eq!(failed[0].result, Err(EncodeFailure::Backend("it broke".into())));
        assert_eq!(ended(&mut batcher), [(2, 8, Some(vec![vec![20.0]]))]);
    }

    #[test]
    fn a_vector_of_nothing_stays_finite() {
        let mut vector = [0.0, 0.0];
        scale_to_one(&mut vector);
        assert_eq!(vector, [0.0, 0.0]);
        let mut vector = [3.0, 4.0];
        scale_to_one(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
    }
}
