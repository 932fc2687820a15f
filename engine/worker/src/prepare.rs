//! From messages or text to tokens.

use allerac_engine_core::TokenId;
use allerac_engine_link::protocol::{PrepareError, Prompt, PromptInput};
use allerac_engine_llama::Model;

use crate::template::Template;

/// Renders and tokenises for one model.
pub(crate) struct Preparer {
    model: &'static Model,
    template: Option<Template>,
    /// The beginnings of prompts that are common to all.
    common: Vec<Vec<TokenId>>,
}

impl Preparer {
    pub(crate) fn new(model: &'static Model, common_prompts: &[String]) -> Self {
        let source = model.chat_template();
        let template = source.and_then(|source| {
            Template::new(source, model.bos_text().unwrap_or_default(), model.eos_text().unwrap_or_default())
                .inspect_err(|error| tracing::error!("the model's chat template is no valid template: {error}"))
                .ok()
        });
        let mut this = Self { model, template, common: Vec::new() };
        this.common = common_prompts.iter().filter_map(|prompt| this.beginning(prompt)).collect();
        this
    }

    /// The tokens that every chat with this system prompt begins with: what chats with different questions share.
    fn beginning(&self, system: &str) -> Option<Vec<TokenId>> {
        let chat = |question: &str| {
            let messages = serde_json::json!([
                {"role": "system", "content": system}, {"role": "user", "content": question}
            ]);
            self.tokens(&PromptInput::Chat { messages_json: messages.to_string() })
        };
        let (one, other) = chat("1")
            .and_then(|one| Ok((one, chat("a")?)))
            .inspect_err(|error| tracing::warn!("a common prompt is no prompt for this model: {error}"))
            .ok()?;
        let common = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
        Some(one[..common].to_vec())
    }

    pub(crate) fn has_template(&self) -> bool {
        self.template.is_some()
    }

    pub(crate) fn prepare(&self, input: &PromptInput) -> Result<Prompt, PrepareError> {
        let tokens = self.tokens(input)?;
        let common = self.common.iter().filter(|common| tokens.starts_with(common)).map(Vec::len).max();
        let common = u32::try_from(common.unwrap_or(0)).unwrap_or(0);
        Ok(Prompt { tokens, common })
    }

    fn tokens(&self, input: &PromptInput) -> Result<Vec<TokenId>, PrepareError> {
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
