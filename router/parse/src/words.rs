//! What each dialect writes around thoughts and calls.

use crate::Dialect;
use crate::markup::Marks;

/// The words of a dialect.
#[derive(Debug)]
pub(crate) struct Words {
    /// Around a thought.
    pub(crate) thought: Option<(&'static str, &'static str)>,
    /// What calls begin with; the first is as the model was taught, the others as models misspell it.
    pub(crate) opens: &'static [&'static str],
    /// What each call in a block begins with.
    pub(crate) each: &'static str,
    /// What may stand behind each call in a block.
    pub(crate) tails: &'static [&'static str],
    /// What a block of calls ends with.
    pub(crate) close: &'static str,
    /// Whether a tool's name may stand before its arguments and not in one object with them.
    pub(crate) heads: bool,
    /// How arguments are marked up, where they are no JSON.
    pub(crate) marks: Option<&'static Marks>,
    /// Whether an answer that is a call's object alone is a call.
    pub(crate) bare: bool,
    /// What frames text and is none.
    pub(crate) frames: &'static [&'static str],
    /// What begins a header that says what follows, up to [`MESSAGE`].
    pub(crate) headers: &'static [&'static str],
}

/// What ends a header of gpt-oss.
pub(crate) const MESSAGE: &str = "<|message|>";
/// What stands beside the name of a tool in DeepSeek's calls.
pub(crate) const SEPARATOR: &str = "<｜tool▁sep｜>";
/// What stands behind the name of a tool in Mistral's calls.
pub(crate) const ARGS: &str = "[ARGS]";
/// What stands before the id of a call of Mistral.
pub(crate) const CALL_ID: &str = "[CALL_ID]";

const THINK: Option<(&str, &str)> = Some(("<think>", "</think>"));

const NONE: Words = Words {
    thought: None,
    opens: &[],
    each: "",
    tails: &[],
    close: "",
    heads: false,
    marks: None,
    bare: false,
    frames: &[],
    headers: &[],
};

static PLAIN: Words = NONE;
static HERMES: Words = Words { thought: THINK, opens: &["<tool_call>"], close: "</tool_call>", ..NONE };
static QWEN_CODER: Words = Words {
    thought: THINK,
    opens: &["<tool_call>"],
    close: "</tool_call>",
    marks: Some(&Marks {
        tool: "<function=",
        named: ">",
        key: ("<parameter=", ">"),
        value: ("", "</parameter>"),
        end: "</function>",
        lines: true,
    }),
    ..NONE
};
static GLM: Words = Words {
    thought: THINK,
    opens: &["<tool_call>"],
    close: "</tool_call>",
    marks: Some(&Marks {
        tool: "",
        named: "\n",
        key: ("<arg_key>", "</arg_key>"),
        value: ("<arg_value>", "</arg_value>"),
        end: "",
        lines: false,
    }),
    ..NONE
};
static LLAMA3: Words = Words { opens: &["<|python_tag|>"], bare: true, ..NONE };
static MISTRAL: Words = Words { thought: Some(("[THINK]", "[/THINK]")), opens: &["[TOOL_CALLS]"], heads: true, ..NONE };
static DEEPSEEK: Words = Words {
    thought: THINK,
    opens: &[
        "<｜tool▁calls▁begin｜>",
        "<｜tool_calls_begin｜>",
        "<｜tool calls begin｜>",
        "<｜tool\\_calls\\_begin｜>",
    ],
    each: "<｜tool▁call▁begin｜>",
    tails: &["```", "<｜tool▁call▁end｜>"],
    close: "<｜tool▁calls▁end｜>",
    heads: true,
    ..NONE
};
static GEMMA: Words = Words { opens: &["```tool_call"], close: "```", ..NONE };
static HARMONY: Words =
    Words { frames: &["<|end|>", "<|return|>", "<|call|>"], headers: &["<|channel|>", "<|start|>"], ..NONE };
static COMMAND_R: Words = Words { opens: &["Action: ```json", "Action:```json"], close: "```", ..NONE };
static COMMAND_A: Words = Words {
    thought: Some(("<|START_THINKING|>", "<|END_THINKING|>")),
    opens: &["<|START_ACTION|>"],
    close: "<|END_ACTION|>",
    frames: &["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"],
    ..NONE
};
static GRANITE: Words =
    Words { thought: THINK, opens: &["<|tool_call|>"], frames: &["<response>", "</response>"], ..NONE };
static PHI4: Words = Words { opens: &["<|tool_call|>"], close: "<|/tool_call|>", ..NONE };
static NEMOTRON: Words = Words { thought: THINK, opens: &["<TOOLCALL>"], close: "</TOOLCALL>", ..NONE };

impl Dialect {
    pub(crate) fn words(self) -> &'static Words {
        match self {
            Self::Plain => &PLAIN,
            Self::Hermes => &HERMES,
            Self::QwenCoder => &QWEN_CODER,
            Self::Glm => &GLM,
            Self::Llama3 => &LLAMA3,
            Self::Mistral | Self::MistralNamed => &MISTRAL,
            Self::DeepSeek | Self::DeepSeek31 => &DEEPSEEK,
            Self::Gemma => &GEMMA,
            Self::Harmony => &HARMONY,
            Self::CommandR => &COMMAND_R,
            Self::CommandA => &COMMAND_A,
            Self::Granite => &GRANITE,
            Self::Phi4 => &PHI4,
            Self::Nemotron => &NEMOTRON,
        }
    }
}
