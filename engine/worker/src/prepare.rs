//! From messages or text to tokens.

use allerac_engine_core::TokenId;
use allerac_engine_link::protocol::{ChatInput, PrepareError, Prompt, PromptInput};
use allerac_engine_llama::Model;

use crate::template::Template;

/// Characters of a rendered conversation's end that the router is told: more than any word for the beginning of a
/// thought has.
const END_CHARS: usize = 64;

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
            let chat = ChatInput { messages_json: messages.to_string(), ..ChatInput::default() };
            Ok::<_, PrepareError>(self.model.tokenise(&self.rendered(&chat)?, true))
        };
        let (one, other) = chat("1")
            .and_then(|one| Ok((one, chat("a")?)))
            .inspect_err(|error| tracing::warn!("a common prompt is no prompt for this model: {error}"))
            .ok()?;
        let common = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
        Some(one[..common].to_vec())
    }

    /// The model's chat template, where it has one.
    pub(crate) fn template(&self) -> Option<&Template> {
        self.template.as_ref()
    }

    pub(crate) fn prepare(&self, input: &PromptInput) -> Result<Prompt, PrepareError> {
        if let PromptInput::Spelled(input) = input {
            let prompt = self.prepare(input)?;
            let pieces = prompt.tokens.iter().map(|token| self.model.piece(*token).to_vec()).collect();
            return Ok(Prompt { pieces, ..prompt });
        }
        let mut prompt = Prompt::default();
        prompt.tokens = match input {
            PromptInput::Chat(chat) => {
                let text = self.rendered(chat)?;
                prompt.end = last_chars(&text).to_owned();
                prompt.prediction =
                    chat.prediction.as_deref().map(|text| self.model.tokenise_part(text)).unwrap_or_default();
                let mut tokens = self.model.tokenise(&text, true);
                if let Some(begun) = &chat.begun {
                    tokens.extend(self.model.tokenise_part(begun));
                }
                tokens
            }
            PromptInput::Text(text) => self.model.tokenise(text, false),
            PromptInput::Tokens(tokens) => {
                let unknown = tokens.iter().find(|token| token.0 >= self.model.vocabulary());
                if let Some(token) = unknown {
                    return Err(PrepareError::UnknownToken(token.0));
                }
                tokens.clone()
            }
            PromptInput::Infill { prefix, suffix } => {
                self.model.infill(prefix, suffix).ok_or(PrepareError::NoInfill)?
            }
            PromptInput::Spelled(_) => unreachable!("it is taken apart above"),
        };
        if prompt.tokens.is_empty() {
            return Err(PrepareError::Empty);
        }
        let common = self.common.iter().filter(|common| prompt.tokens.starts_with(common)).map(Vec::len).max();
        prompt.common = u32::try_from(common.unwrap_or(0)).unwrap_or(0);
        Ok(prompt)
    }

    fn rendered(&self, chat: &ChatInput) -> Result<String, PrepareError> {
        self.template.as_ref().ok_or(PrepareError::NoTemplate)?.render(chat)
    }
}

/// The last characters of a text.
fn last_chars(text: &str) -> &str {
    let from = text.char_indices().rev().nth(END_CHARS - 1).map_or(0, |(place, _)| place);
    &text[from..]
}
