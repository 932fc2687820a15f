//! Puts an answer together that is not streamed.

use allerac_engine_core::TokenLogprob;
use allerac_wire::CompletionUsage;
use tokio::sync::mpsc;

use crate::error::ApiError;
use crate::generation::Progress;

/// One whole choice.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(super) text: String,
    pub(super) logprobs: Vec<TokenLogprob>,
    pub(super) finish_reason: &'static str,
}

/// Waits for all choices.
pub(super) async fn collect(
    lane: &mut mpsc::Receiver<Progress>,
    choices: usize,
) -> Result<(Vec<Collected>, CompletionUsage), ApiError> {
    let mut collected: Vec<Collected> = Vec::new();
    collected.resize_with(choices, Collected::default);
    while let Some(progress) = lane.recv().await {
        match progress {
            Progress::Waiting { .. } | Progress::Started => {}
            Progress::Chunk { index, chunk } => {
                let choice = &mut collected[index as usize];
                choice.text.push_str(&chunk.text);
                choice.logprobs.extend(chunk.logprobs);
            }
            Progress::Finished { index, reason, tail } => {
                let choice = &mut collected[index as usize];
                choice.text.push_str(&tail);
                choice.finish_reason = reason;
            }
            Progress::Done(usage) => return Ok((collected, usage)),
            Progress::Failed(error) => return Err(error),
        }
    }
    Err(allerac_engine_link::EngineError::Stopped.into())
}
