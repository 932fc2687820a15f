//! Puts an answer together that is not streamed.

use allerac_engine_core::TokenLogprob;
use allerac_parse::Piece;
use allerac_wire::CompletionUsage;
use tokio::sync::mpsc;

use crate::error::ApiError;
use crate::progress::{Finish, Progress};

/// One whole choice.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) logprobs: Vec<TokenLogprob>,
    pub(crate) finish: Finish,
    /// Whether anything was heard of it.
    is_begun: bool,
}

/// A whole call.
#[derive(Debug, Default)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

impl Collected {
    fn add(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) => self.text += &text,
            Piece::Reasoning(text) => self.reasoning += &text,
            Piece::Call { id, name, .. } => {
                self.calls.push(Call { id: id.unwrap_or_default(), name, arguments: String::new() });
            }
            Piece::Arguments { index, json } => {
                if let Some(call) = self.calls.get_mut(index as usize) {
                    call.arguments += &json;
                }
            }
        }
    }
}

/// An answer as far as it came.
#[derive(Debug)]
pub(crate) struct Collector(Vec<Collected>);

impl Collector {
    /// Of so many choices.
    pub(crate) fn new(choices: usize) -> Self {
        Self((0..choices).map(|_| Collected::default()).collect())
    }

    /// Adds a step; the usage when it was the last.
    pub(crate) fn push(&mut self, progress: Progress) -> Option<Result<CompletionUsage, ApiError>> {
        match progress {
            Progress::Waiting { .. } | Progress::Started(_) => None,
            Progress::Chunk { index, pieces, logprobs } => {
                if let Some(choice) = self.begun(index) {
                    pieces.into_iter().for_each(|piece| choice.add(piece));
                    choice.logprobs.extend(logprobs);
                }
                None
            }
            Progress::Finished { index, reason } => {
                if let Some(choice) = self.begun(index) {
                    choice.finish = reason;
                }
                None
            }
            Progress::Done(usage) => Some(Ok(usage)),
            Progress::Failed(error) => Some(Err(error)),
        }
    }

    fn begun(&mut self, index: u32) -> Option<&mut Collected> {
        let choice = self.0.get_mut(index as usize)?;
        choice.is_begun = true;
        Some(choice)
    }

    /// The choices. Another server may give fewer than it was asked for: those that nothing came of are no answers.
    pub(crate) fn into_choices(mut self) -> Vec<Collected> {
        let given = self.0.iter().rposition(|choice| choice.is_begun).map_or(1, |last| last + 1);
        self.0.truncate(given);
        self.0
    }
}

/// Waits for all choices; `watch` sees each step as it comes.
pub(crate) async fn collect(
    lane: &mut mpsc::Receiver<Progress>,
    choices: usize,
    mut watch: impl FnMut(&Progress),
) -> Result<(Vec<Collected>, CompletionUsage), ApiError> {
    let mut collector = Collector::new(choices);
    while let Some(progress) = lane.recv().await {
        watch(&progress);
        if let Some(usage) = collector.push(progress) {
            return Ok((collector.into_choices(), usage?));
        }
    }
    Err(allerac_engine_link::EngineError::Stopped.into())
}
