//! Looks at a model file that nobody has looked at before: behind the confinement, as when it is served.

use std::io::Write;

use allerac_engine_link::protocol::ChatInput;
use allerac_engine_llama::{Model, load_kernels};

use crate::args::Args;
use crate::sandbox;
use crate::template::Template;

/// Loads the file and renders a conversation with its template; prints what it is. An error says what is wrong with it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    load_kernels()?;
    if !args.no_sandbox {
        sandbox::confine(args)?;
    }
    let (model, adapters) = Model::load_with(args.model(), None, &args.adapters, |_| {})?;
    if let Some(refused) = adapters.refused.into_iter().next() {
        return Err(refused.into());
    }
    let template = match model.chat_template() {
        None => "it has no chat template and only goes on with texts",
        Some(source) => {
            let (bos, eos) = (model.bos_text().unwrap_or_default(), model.eos_text().unwrap_or_default());
            let template = Template::new(source, bos, eos)
                .map_err(|error| anyhow::anyhow!("its chat template is no valid template: {error}"))?;
            let messages_json = r#"[{"role":"user","content":"hi"}]"#.to_owned();
            let rendered = template.render(&ChatInput { messages_json, ..ChatInput::default() });
            rendered.map_err(|error| anyhow::anyhow!("its chat template does not render a conversation: {error:?}"))?;
            if template.knows_tools() { "its chat template knows tools" } else { "its chat template knows no tools" }
        }
    };
    Ok(writeln!(std::io::stdout(), "checked: {template}")?)
}
