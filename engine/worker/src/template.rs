//! Chat templates: Jinja programs that come with model files, rendered as Hugging Face's transformers do
//! (`apply_chat_template`: blocks trimmed, `raise_exception`, `strftime_now`, `tojson` as Python writes it).

mod json;

use allerac_engine_link::protocol::{ChatInput, PrepareError};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};

/// Instructions that rendering may take; a template that loops forever ends with an error. A conversation
/// of thousands of messages takes about a million.
const RENDER_FUEL: u64 = 50_000_000;

/// A name that no template has by itself.
const PROBE: &str = "probe_c7b1f2";

/// A model's compiled chat template.
pub(crate) struct Template {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
    knows_tools: bool,
}

impl Template {
    pub(crate) fn new(source: String, bos: String, eos: String) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_fuel(Some(RENDER_FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_template_owned("chat", source.clone())?;
        let mut this = Self { environment, source, bos, eos, knows_tools: false };
        this.knows_tools = this.renders_tools();
        Ok(this)
    }

    /// As it is in the model's file.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Whether it tells the model of tools.
    pub(crate) fn knows_tools(&self) -> bool {
        self.knows_tools
    }

    /// The text of a conversation, up to where the model begins to answer.
    pub(crate) fn render(&self, chat: &ChatInput) -> Result<String, PrepareError> {
        let template = self.environment.get_template("chat").expect("the template was added in new()");
        // Templates tell no tools by `none`, which is what transformers passes, and not by absence.
        let variables = context! {
            messages => parsed(&chat.messages_json)?,
            tools => chat.tools_json.as_deref().map(parsed).transpose()?,
            documents => (),
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            ..chat.variables_json.as_deref().map(parsed).transpose()?.unwrap_or_default()
        };
        template.render(variables).map_err(|error| PrepareError::Template(reason(&error)))
    }

    /// Renders a conversation with a tool and looks for the tool's name.
    fn renders_tools(&self) -> bool {
        let tool = format!(
            r#"[{{"type":"function","function":{{"name":"{PROBE}","description":"","parameters":
                {{"type":"object","properties":{{}}}}}}}}]"#
        );
        let messages_json = r#"[{"role":"user","content":"hi"}]"#.to_owned();
        let chat = ChatInput { messages_json, tools_json: Some(tool), ..ChatInput::default() };
        self.render(&chat).is_ok_and(|text| text.contains(PROBE))
    }
}

fn parsed(text: &str) -> Result<Value, PrepareError> {
    serde_json::from_str(text).map_err(|error| PrepareError::Template(error.to_string()))
}

/// What a user should read: the template's own words, without a listing of its source.
fn reason(error: &Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now())
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

#[cfg(test)]
mod families;

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, messages: &str) -> Result<String, PrepareError> {
        let chat = ChatInput { messages_json: messages.into(), ..ChatInput::default() };
        Template::new(source.into(), "<s>".into(), "</s>".into()).unwrap().render(&chat)
    }

    #[test]
    fn a_template_that_names_tools_knows_them() {
        let knows = |source: &str| Template::new(source.into(), String::new(), String::new()).unwrap().knows_tools();
        assert!(knows("{% for tool in tools %}{{ tool | tojson }}{% endfor %}"));
        assert!(!knows("{% if tools %}there are some{% endif %}"));
        assert!(!knows("{{ raise_exception('no tools') }}"));
    }

    #[test]
    fn a_template_sees_tools_and_variables() {
        let source =
            "{% for tool in tools %}{{ tool.function.name }}{% endfor %} {{ enable_thinking }} {{ eos_token }}";
        let chat = ChatInput {
            messages_json: "[]".into(),
            tools_json: Some(r#"[{"function": {"name": "f"}}]"#.into()),
            variables_json: Some(r#"{"enable_thinking": false, "eos_token": "mine"}"#.into()),
            prediction: None,
            begun: None,
        };
        let template = Template::new(source.into(), "<s>".into(), "</s>".into()).unwrap();
        // Truth is written as in Python; the model's own tokens are nobody else's to choose.
        assert_eq!(template.render(&chat).unwrap(), "f False </s>");
    }

    #[test]
    fn a_template_sees_messages_and_special_tokens() {
        let source = "{{ bos_token }}{% for m in messages %}\n[{{ m['role'].upper() }}]{{ m.content.strip() }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}[A]{% endif %}";
        let text = render(source, r#"[{"role":"user","content":" hi "}]"#).unwrap();
        assert_eq!(text, "<s>[USER]hi</s>\n[A]");
    }

    #[test]
    fn a_template_sees_that_there_are_no_tools() {
        let source = "{% if tools is not none %}tools{% endif %}{% if documents %}documents{% endif %}plain";
        assert_eq!(render(source, "[]").unwrap(), "plain");
    }

    #[test]
    fn a_template_may_refuse_in_its_own_words() {
        let refused = render("{{ raise_exception('roles must alternate') }}", "[]");
        assert_eq!(refused, Err(PrepareError::Template("roles must alternate".into())));
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a * b }}{% endfor %}{% endfor %}";
        assert!(matches!(render(endless, "[]"), Err(PrepareError::Template(_))));
    }

    #[test]
    fn the_date_is_formatted() {
        let year: i32 = render("{{ strftime_now('%Y') }}", "[]").unwrap().parse().unwrap();
        assert!(year >= 2026);
    }
}
