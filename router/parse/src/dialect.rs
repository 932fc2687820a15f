//! The words that families of models have for thoughts and calls.

/// A family's way to write what is no text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Text is all there is.
    #[default]
    Plain,
    /// `<tool_call>{"name": .., "arguments": ..}</tool_call>` and `<think>..</think>`: Hermes, Qwen, SmolLM.
    Hermes,
    /// `{"name": .., "parameters": ..}` alone: Llama 3.
    Llama3,
    /// `[TOOL_CALLS][{"name": .., "arguments": ..}]` or `[TOOL_CALLS]name[ARGS]{..}`, and `[THINK]..[/THINK]`: Mistral.
    Mistral,
    /// `<think>..</think>`, and calls between `<｜tool▁calls▁begin｜>` and `<｜tool▁calls▁end｜>`: DeepSeek.
    DeepSeek,
    /// Calls in a fenced block: Gemma.
    Gemma,
    /// Channels: gpt-oss.
    Harmony,
    /// `<|START_ACTION|>[..]<|END_ACTION|>` and `<|START_THINKING|>..`: Command R.
    CommandR,
}

impl Dialect {
    /// The dialect that a chat template is written in; where it shows no trace of any, what its models are taught
    /// by instructions.
    #[must_use]
    pub fn of_template(_template: &str) -> Self {
        Self::Plain
    }

    /// Whether the words of this dialect are control tokens, which are otherwise left out of text.
    #[must_use]
    pub fn has_control_words(self) -> bool {
        false
    }

    /// Whether its models may think before they answer.
    #[must_use]
    pub fn has_thoughts(self) -> bool {
        false
    }

    /// Whether a prompt that ends in this text has begun the model's thoughts for it.
    #[must_use]
    pub fn begins_in_thought(self, _prompt_end: &str) -> bool {
        false
    }
}
