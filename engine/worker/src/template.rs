//! Chat templates: Jinja programs that come with model files, rendered as Hugging Face's transformers do
//! (`apply_chat_template`: blocks trimmed, `raise_exception`, `strftime_now`).

use allerac_engine_link::protocol::PrepareError;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};

/// Instructions that rendering may take; a template that loops forever ends with an error. A conversation
/// of thousands of messages takes about a million.
const RENDER_FUEL: u64 = 50_000_000;

/// A model's compiled chat template.
pub(crate) struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl Template {
    pub(crate) fn new(source: String, bos: String, eos: String) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_fuel(Some(RENDER_FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_template_owned("chat", source)?;
        Ok(Self { environment, bos, eos })
    }

    /// The text of a conversation, up to where the model begins to answer.
    pub(crate) fn render(&self, messages_json: &str) -> Result<String, PrepareError> {
        let messages: Value =
            serde_json::from_str(messages_json).map_err(|error| PrepareError::Template(error.to_string()))?;
        let template = self.environment.get_template("chat").expect("the template was added in new()");
        // Templates tell no tools by `none`, which is what transformers passes, and not by absence.
        let variables = context! {
            messages => messages,
            tools => (),
            documents => (),
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        template.render(variables).map_err(|error| PrepareError::Template(reason(&error)))
    }
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
mod tests {
    use super::*;

    fn render(source: &str, messages: &str) -> Result<String, PrepareError> {
        Template::new(source.into(), "<s>".into(), "</s>".into()).unwrap().render(messages)
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
