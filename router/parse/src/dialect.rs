//! The words that families of models have for thoughts and calls.

use crate::words::MESSAGE;

/// A family's way to write what is no text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Text is all there is.
    #[default]
    Plain,
    /// `<tool_call>{"name": .., "arguments": ..}</tool_call>` and `<think>..</think>`: Hermes, Qwen, SmolLM.
    Hermes,
    /// `<tool_call><function=NAME><parameter=KEY>..</parameter></function></tool_call>`: Qwen3-Coder, Qwen 3.5,
    /// Nemotron 3.
    QwenCoder,
    /// `<tool_call>NAME<arg_key>..</arg_key><arg_value>..</arg_value></tool_call>`: GLM since 4.5.
    Glm,
    /// `{"name": .., "parameters": ..}` alone: Llama 3.
    Llama3,
    /// `[TOOL_CALLS][{"name": .., "arguments": ..}]`, and `[THINK]..[/THINK]`: Mistral up to 2024.
    Mistral,
    /// `[TOOL_CALLS]name[ARGS]{..}`: Mistral since 2025.
    MistralNamed,
    /// `<think>..</think>`, and calls with a fenced block of JSON between `<｜tool▁calls▁begin｜>` and
    /// `<｜tool▁calls▁end｜>`: DeepSeek R1 and V3.
    DeepSeek,
    /// As [`DeepSeek`](Self::DeepSeek), without the fence: since V3.1.
    DeepSeek31,
    /// Calls in a fenced block: Gemma.
    Gemma,
    /// Channels: gpt-oss.
    Harmony,
    /// `Action:` and a fenced list of calls: Command R.
    CommandR,
    /// `<|START_ACTION|>[..]<|END_ACTION|>` and `<|START_THINKING|>..`: Command R7B and A.
    CommandA,
    /// `<|tool_call|>[{"name": .., "arguments": ..}]`: Granite 3.
    Granite,
    /// `<|tool_call|>[{"name": .., "arguments": ..}]<|/tool_call|>`: Phi 4 mini.
    Phi4,
    /// `<TOOLCALL>[{"name": .., "arguments": ..}]</TOOLCALL>`: Nemotron.
    Nemotron,
}

/// What tells dialects by their templates: all of the words, then the dialect. The first that fits counts.
const SIGNS: &[(&[&str], Dialect)] = &[
    (&["<|start|>", "<|channel|>"], Dialect::Harmony),
    (&["<｜tool▁calls▁begin｜>", "```json"], Dialect::DeepSeek),
    (&["<｜tool▁calls▁begin｜>"], Dialect::DeepSeek31),
    (&["<｜Assistant｜>"], Dialect::DeepSeek),
    (&["[TOOL_CALLS]", "[ARGS]"], Dialect::MistralNamed),
    (&["[TOOL_CALLS]"], Dialect::Mistral),
    (&["[THINK]"], Dialect::MistralNamed),
    (&["<|START_ACTION|>"], Dialect::CommandA),
    (&["<|START_THINKING|>"], Dialect::CommandA),
    (&["<|CHATBOT_TOKEN|>"], Dialect::CommandR),
    (&["<TOOLCALL>"], Dialect::Nemotron),
    (&["<tool_call>", "<function=", "<parameter="], Dialect::QwenCoder),
    (&["<tool_call>", "<arg_key>"], Dialect::Glm),
    (&["<tool_call>"], Dialect::Hermes),
    (&["<|start_of_role|>"], Dialect::Granite),
    (&["<|tool_call|>"], Dialect::Phi4),
    (&["<|/tool|>"], Dialect::Phi4),
    (&["<start_of_turn>"], Dialect::Gemma),
    (&["<|start_header_id|>"], Dialect::Llama3),
];

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Plain,
        Self::Hermes,
        Self::Llama3,
        Self::Mistral,
        Self::MistralNamed,
        Self::DeepSeek,
        Self::DeepSeek31,
        Self::Gemma,
        Self::Harmony,
        Self::CommandR,
        Self::CommandA,
        Self::Granite,
        Self::Phi4,
        Self::Nemotron,
        Self::QwenCoder,
        Self::Glm,
    ];

    /// The dialect that a chat template is written in; where it shows no trace of any, what its models are taught
    /// by instructions.
    #[must_use]
    pub fn of_template(template: &str) -> Self {
        let fits = |words: &[&str]| words.iter().all(|word| template.contains(word));
        SIGNS.iter().find(|(words, _)| fits(words)).map_or(Self::Hermes, |(_, dialect)| *dialect)
    }

    /// Whether the words of this dialect are control tokens, which are otherwise left out of text.
    #[must_use]
    pub fn has_control_words(self) -> bool {
        !matches!(self, Self::Plain | Self::Hermes | Self::QwenCoder | Self::Gemma | Self::CommandR | Self::Nemotron)
    }

    /// Whether its models may think before they answer.
    #[must_use]
    pub fn has_thoughts(self) -> bool {
        self == Self::Harmony || self.words().thought.is_some()
    }

    /// Whether models of this template were taught to think: its words for that are in it.
    #[must_use]
    pub fn thinks(self, template: &str) -> bool {
        let words = self.words().thought.map(|(open, close)| [open, close]);
        let has = |words: [&str; 2]| words.iter().any(|word| template.contains(word));
        self == Self::Harmony || words.is_some_and(has) || template.contains("enable_thinking")
    }

    /// Whether a prompt that ends in this text has begun the model's thoughts for it.
    #[must_use]
    pub fn begins_in_thought(self, prompt_end: &str) -> bool {
        let end = prompt_end.trim_end();
        if self == Self::Harmony {
            return end.strip_suffix(MESSAGE).is_some_and(|end| end.ends_with("<|channel|>analysis"));
        }
        self.words().thought.is_some_and(|(open, _)| end.ends_with(open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_tells_its_dialect() {
        let table = [
            ("", Dialect::Hermes),
            ("{{'<|im_start|>' + message['role']}}", Dialect::Hermes),
            ("<|im_start|>{{ '\\n<tool_call>\\n{\"name\": \"' }}<think>", Dialect::Hermes),
            ("<|start_header_id|>{{ '<tool_call>' }}", Dialect::Hermes),
            ("{{ '\\n<tool_call>\\n<function=' + call.name + '>\\n' }}{{ '<parameter=' + name }}", Dialect::QwenCoder),
            ("[gMASK]<sop>{{ '\\n<tool_call>' + tc.name }}<arg_key>{{ k }}</arg_key>", Dialect::Glm),
            ("<|start_header_id|>{{ '{\"name\": \"' }}\"parameters\"<|python_tag|>", Dialect::Llama3),
            ("[INST]{{ '[TOOL_CALLS] [' }}", Dialect::Mistral),
            ("[INST]{{ '[TOOL_CALLS]' + name + '[ARGS]' }}[THINK]", Dialect::MistralNamed),
            ("<｜Assistant｜><｜tool▁calls▁begin｜>{{ '\\n```json\\n' }}", Dialect::DeepSeek),
            ("<｜Assistant｜><｜tool▁calls▁begin｜>{{ name + '<｜tool▁sep｜>' }}", Dialect::DeepSeek31),
            ("<｜User｜>{{ content }}<｜Assistant｜>", Dialect::DeepSeek),
            ("<start_of_turn>{{ role }}", Dialect::Gemma),
            ("<|start|>assistant<|channel|>analysis<|message|>", Dialect::Harmony),
            ("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", Dialect::CommandR),
            ("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_ACTION|>", Dialect::CommandA),
            ("<|start_of_role|>{{ '<|tool_call|>' }}", Dialect::Granite),
            ("<|tool|>{{ tools }}<|/tool|>", Dialect::Phi4),
            ("<|start_header_id|><TOOLCALL>[{{ call }}]</TOOLCALL>", Dialect::Nemotron),
        ];
        for (template, dialect) in table {
            assert_eq!(Dialect::of_template(template), dialect, "{template}");
        }
    }

    #[test]
    fn a_template_tells_whether_its_models_think() {
        let thinks = |template: &str| Dialect::of_template(template).thinks(template);
        assert!(thinks("<|im_start|>{{ content.split('</think>')[-1] }}"));
        assert!(thinks("<|im_start|>{% if enable_thinking %}"));
        assert!(thinks("<|start|>assistant<|channel|>analysis<|message|>"));
        assert!(!thinks("<|im_start|>{{ role }}"));
        assert!(!thinks("<start_of_turn>{{ role }}"));
    }

    #[test]
    fn a_prompt_may_begin_a_thought() {
        assert!(Dialect::Hermes.begins_in_thought("<|im_start|>assistant\n<think>\n"));
        assert!(!Dialect::Hermes.begins_in_thought("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
        assert!(Dialect::CommandA.begins_in_thought("<|CHATBOT_TOKEN|><|START_THINKING|>"));
        assert!(Dialect::Harmony.begins_in_thought("<|start|>assistant<|channel|>analysis<|message|>"));
        assert!(!Dialect::Harmony.begins_in_thought("<|start|>assistant"));
        assert!(!Dialect::Llama3.begins_in_thought("<think>"));
    }
}
