//! Chooses the next token from the logits.
//!
//! It works on the backend's logits slice directly: greedy decoding is one pass over it, and filters look
//! at no more candidates than they must. What remembers earlier tokens is made only where a request asks for it.

mod breakers;
mod dry;
mod filter;
mod logprob;
mod mirostat;
mod random;
mod repetition;
mod softmax;
mod typical;
mod xtc;

use std::collections::HashMap;

use crate::constraint::TokenMask;
use crate::event::TokenLogprob;
use crate::request::{SamplingParams, TokenId};
use filter::Candidate;
pub use logprob::logprob;
use random::Random;
use softmax::Weights;

/// A bias at or below this bans the token, as OpenAI's API documents for -100.
const BIAS_BAN: f32 = -100.0;

/// Chooses the tokens of one request; its choices depend on nothing but the prompt and the logits it is given.
#[derive(Debug)]
pub struct Sampler {
    params: SamplingParams,
    random: Random,
    /// How often each token was produced; kept only when a penalty wants it.
    produced: HashMap<TokenId, u32>,
    recent: Option<repetition::Recent>,
    repeats: Option<dry::Repeats>,
    mirostat: Option<mirostat::Control>,
    /// Logits after mask, bias and penalties, reused from token to token.
    adjusted: Vec<f32>,
    candidates: Vec<Candidate>,
    drawn_from: DrawnFrom,
}

/// What the last token was drawn from.
#[derive(Debug, Clone, Copy)]
enum DrawnFrom {
    /// The token was certain.
    One,
    /// The logits as given.
    Logits,
    /// The logits in `adjusted`.
    Adjusted,
    /// Those in `candidates`.
    Candidates,
}

/// No token can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// The model computed something that is not a number.
    #[error("the model's logits are not numbers")]
    NotANumber,
    /// Every token is banned.
    #[error("logit_bias bans every token that could come")]
    AllBanned,
}

impl Sampler {
    /// A sampler for one request without a prompt.
    #[must_use]
    pub fn new(params: SamplingParams) -> Self {
        Self::after(params, &[], |_| Vec::new())
    }

    /// A sampler for what follows a prompt. `bytes` gives the bytes of a token; it is asked only where DRY is on.
    #[must_use]
    pub fn after(params: SamplingParams, prompt: &[TokenId], bytes: impl Fn(TokenId) -> Vec<u8>) -> Self {
        Self {
            random: Random::new(params.seed),
            produced: HashMap::new(),
            recent: params.repetition.and_then(|params| repetition::Recent::new(params, prompt)),
            repeats: params.dry.clone().and_then(|params| dry::Repeats::new(params, prompt, bytes)),
            mirostat: params.mirostat.map(mirostat::Control::new),
            adjusted: Vec::new(),
            candidates: Vec::new(),
            drawn_from: DrawnFrom::One,
            params,
        }
    }

    /// Chooses a token where no sequence breakers are to be found in it; see [`Self::sample_with`].
    ///
    /// # Errors
    /// [`SampleError`] when the logits are unusable.
    pub fn sample(&mut self, logits: &[f32], allowed: Option<&TokenMask>) -> Result<TokenId, SampleError> {
        self.sample_with(logits, allowed, &[], |_| Vec::new())
    }

    /// Chooses the next token of the answer, of the `allowed` ones where not all are and none of the `banned` ones, and
    /// remembers it where a penalty wants that. `bytes` gives the bytes of a token; it is asked only where DRY is on.
    ///
    /// # Errors
    /// [`SampleError`] when the logits are unusable.
    pub fn sample_with(
        &mut self,
        logits: &[f32],
        allowed: Option<&TokenMask>,
        banned: &[TokenId],
        bytes: impl Fn(TokenId) -> Vec<u8>,
    ) -> Result<TokenId, SampleError> {
        let repeats = self.repeats.as_mut().is_some_and(dry::Repeats::find);
        let token = if repeats || allowed.is_some() || !banned.is_empty() || self.changes_logits() {
            let mut adjusted = std::mem::take(&mut self.adjusted);
            if let Some(allowed) = allowed {
                allowed.apply(logits, &mut adjusted);
            } else {
                adjusted.clear();
                adjusted.extend_from_slice(logits);
            }
            self.adjust(&mut adjusted);
            for token in banned {
                adjusted[token.0 as usize] = f32::NEG_INFINITY;
            }
            let token = self.choose(&adjusted);
            self.adjusted = adjusted;
            if matches!(self.drawn_from, DrawnFrom::Logits) {
                self.drawn_from = DrawnFrom::Adjusted;
            }
            token?
        } else {
            self.choose(logits)?
        };
        self.accept(token, bytes);
        Ok(token)
    }

    /// The log probability of `token`, chosen last from these logits, and of the `top` likeliest tokens: the model's
    /// own, or where the parameters say so those that it was drawn with. Then what could not be drawn is absent.
    pub fn logprob(&self, logits: &[f32], token: TokenId, top: u8, bytes: impl Fn(TokenId) -> Vec<u8>) -> TokenLogprob {
        if !self.params.post_sampling_probs {
            return logprob(logits, token, top, bytes);
        }
        let temperature = self.params.temperature;
        let certain = [Candidate { token: token.0, logit: 0.0 }];
        let drawn = match self.drawn_from {
            DrawnFrom::One => logprob::Drawn::of_candidates(&certain, 1.0, token, top),
            DrawnFrom::Logits => logprob::Drawn::of_logits(logits, temperature, token, top),
            DrawnFrom::Adjusted => logprob::Drawn::of_logits(&self.adjusted, temperature, token, top),
            DrawnFrom::Candidates => logprob::Drawn::of_candidates(&self.candidates, temperature, token, top),
        };
        drawn.entry(bytes)
    }

    fn changes_logits(&self) -> bool {
        !self.params.logit_bias.is_empty()
            || !self.produced.is_empty()
            || self.recent.as_ref().is_some_and(|recent| !recent.is_empty())
    }

    /// Applies bias and penalties, OpenAI's as `logit - presence - count * frequency` for each token produced before.
    #[allow(clippy::cast_precision_loss, reason = "a request never produces 2^24 equal tokens")]
    fn adjust(&self, logits: &mut [f32]) {
        for (token, bias) in &self.params.logit_bias {
            if let Some(logit) = logits.get_mut(token.0 as usize) {
                *logit = if *bias <= BIAS_BAN { f32::NEG_INFINITY } else { *logit + bias };
            }
        }
        if let Some(recent) = &self.recent {
            recent.apply(logits);
        }
        for (token, count) in &self.produced {
            if let Some(logit) = logits.get_mut(token.0 as usize) {
                *logit -= self.params.presence_penalty + *count as f32 * self.params.frequency_penalty;
            }
        }
        if let Some(repeats) = &self.repeats {
            repeats.apply(logits);
        }
    }

    fn choose(&mut self, logits: &[f32]) -> Result<TokenId, SampleError> {
        let (best, highest) = softmax::highest(logits)?;
        let SamplingParams { temperature, typical_p, xtc, .. } = self.params;
        if let Some(control) = self.mirostat.as_mut().filter(|_| temperature > 0.0) {
            let best = Candidate { token: best.0, logit: highest };
            control.keep(logits, best, temperature, &mut self.candidates);
            return Ok(self.draw(Weights::new(highest, temperature)));
        }
        let xtc = xtc.filter(|xtc| self.mirostat.is_none() && self.random.unit() < f64::from(xtc.probability));
        // No other filter ever drops the likeliest token.
        let keeps_best = xtc.is_none() && (self.mirostat.is_some() || typical_p >= 1.0);
        if temperature <= 0.0 && keeps_best {
            self.drawn_from = DrawnFrom::One;
            return Ok(best);
        }
        if xtc.is_none() && filter::keeps_all(&self.params) {
            self.drawn_from = DrawnFrom::Logits;
            return Ok(Weights::new(highest, temperature).draw(logits, self.random.unit()));
        }
        filter::keep(logits, highest, &self.params, &mut self.candidates);
        if let Some(xtc) = xtc {
            xtc::exclude(&mut self.candidates, xtc.threshold);
        }
        let highest = if keeps_best { highest } else { filter::highest_of(&self.candidates) };
        if temperature <= 0.0 {
            self.drawn_from = DrawnFrom::One;
            return Ok(filter::likeliest_of(&self.candidates));
        }
        Ok(self.draw(Weights::new(highest, temperature)))
    }

    /// Draws one of the candidates.
    fn draw(&mut self, weights: Weights) -> TokenId {
        self.drawn_from = DrawnFrom::Candidates;
        let token = filter::draw(&self.candidates, weights, self.random.unit());
        if let Some(control) = &mut self.mirostat {
            let drawn = self.candidates.iter().find(|candidate| candidate.token == token.0);
            let weight = drawn.map_or(0.0, |candidate| f64::from(weights.of(candidate.logit)));
            control.note(weight / filter::sum(weights, &self.candidates));
        }
        token
    }

    fn accept(&mut self, token: TokenId, bytes: impl Fn(TokenId) -> Vec<u8>) {
        if self.params.presence_penalty != 0.0 || self.params.frequency_penalty != 0.0 {
            *self.produced.entry(token).or_default() += 1;
        }
        if let Some(recent) = &mut self.recent {
            recent.push(token);
        }
        if let Some(repeats) = &mut self.repeats {
            repeats.push(token, &bytes(token));
        }
    }
}

#[cfg(test)]
mod tests;
