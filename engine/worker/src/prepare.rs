//! From messages or text to tokens.

use allerac_engine_core::TokenId;
use allerac_engine_link::protocol::{PrepareError, PromptInput};
use allerac_engine_llama::Model;

use crate::template::Template;

/// Renders and tokenises for one model.
pub(crate) struct Preparer {
    model: &'static Model,
    template: Option<Template>,
}

impl Preparer {
    pub(crate) fn new(model: &'static Model) -> Self {
        let source = model.chat_template();
        let template = source.and_then(|source| {
            Template::new(source, model.bos_text().unwrap_or_default(), model.eos_text().unwrap_or_default())
                .inspect_err(|error| tracing::error!("the model's chat template is no valid template: {error}"))
                .ok()
        });
        Self { model, template }
    }

    pub(crate) fn has_template(&self) -> bool {
        self.template.is_some()
    }

    pub(crate) fn prepare(&self, input: &PromptInput) -> Result<Vec<TokenId>, PrepareError> {
        let tokens = match input {
            PromptInput::Chat { messages_json } => {
                let template = self.template.as_ref().ok_or(PrepareError::NoTemplate)?;
                self.model.tokenise(&template.render(messages_json)?, true)
            }
            PromptInput::Text(text) => self.model.tokenise(text, false),
            PromptInput::Tokens(tokens) => {
                let unknown = tokens.iter().find(|token| token.0 >= self.model.vocabulary());
                if let Some(token) = unknown {
                    return Err(PrepareError::UnknownToken(token.0));
                }
                tokens.clone()
            }
        };
        if tokens.is_empty() { Err(PrepareError::Empty) } else { Ok(tokens) }
    }
}
