//! Tools for models whose chat template knows of none: told in a system message, called and answered in text.

use std::borrow::Cow;

use allerac_wire::{Message, Part, Role, ToolCall, ToolChoice, Tools};

use crate::Dialect;
use crate::spelling::spelled;

/// The conversation with the tools explained, and with calls and their answers as text.
#[must_use]
pub fn teach(dialect: Dialect, messages: &[Message], tools: &Tools) -> Vec<Message> {
    let mut taught: Vec<Message> = Vec::with_capacity(messages.len() + 1);
    for message in messages {
        let told = in_text(dialect, message);
        match taught.last_mut() {
            // Several tools that answer at once are one turn, for templates in which turns alternate.
            Some(last) if message.role == Role::Tool && last.role == Role::User => append(last, &told.all_text()),
            _ => taught.push(told),
        }
    }
    if !tools.callable().is_empty() {
        explain(dialect, &mut taught, &instructions(dialect, tools));
    }
    taught
}

/// A message without calls and answers to them.
fn in_text(dialect: Dialect, message: &Message) -> Message {
    if message.role == Role::Tool {
        let answer = format!("<tool_response>\n{}\n</tool_response>", message.all_text());
        return Message::text(Role::User, answer);
    }
    let mut told = message.clone();
    let calls = std::mem::take(&mut told.tool_calls);
    if !calls.is_empty() {
        append(&mut told, &spelled(dialect, &calls));
    }
    told
}

/// Adds text to a message, on a line of its own.
fn append(message: &mut Message, text: &str) {
    let is_empty = message.all_text().is_empty();
    let text = if is_empty { text.to_owned() } else { format!("\n{text}") };
    message.content.push(Part::Text(text));
}

/// Puts instructions where a model reads them: in the system message, or where its template may have none, before
/// the first question.
fn explain(dialect: Dialect, messages: &mut Vec<Message>, instructions: &str) {
    match messages.first_mut() {
        Some(first) if first.role == Role::System => append(first, &format!("\n{instructions}")),
        Some(first) if first.role == Role::User && dialect == Dialect::Gemma => {
            first.content.insert(0, Part::Text(format!("{instructions}\n\n")));
        }
        _ => messages.insert(0, Message::text(Role::System, instructions)),
    }
}

fn instructions(dialect: Dialect, tools: &Tools) -> String {
    let list: Vec<String> = tools.callable().iter().map(|tool| tool.json()["function"].to_string()).collect();
    let example =
        ToolCall { id: String::new(), name: "NAME".to_owned(), arguments: "{\"PARAMETER\": VALUE}".to_owned() };
    let must = match &tools.choice {
        ToolChoice::Named(name) => format!("Call the tool {name} now."),
        ToolChoice::Required => "Call one of them now.".to_owned(),
        ToolChoice::Auto | ToolChoice::None => "Where none of them helps, answer without them.".to_owned(),
    };
    format!(
        "You can call tools. These are the tools, with JSON schemas of their parameters:\n{}\n\nTo call a tool, write \
         this and nothing else, with its name and its arguments:\n{}\n\n{must}",
        list.join("\n"),
        spelled(dialect, &[example]),
    )
}

/// Characters that an id of a call has in Mistral's templates, no more and no less.
const MISTRAL_ID_CHARS: usize = 9;
/// What they may be.
const MISTRAL_ID_ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// A message as the templates of a dialect take it: Mistral's refuse ids of calls that are not their models' own.
#[must_use]
pub fn fitted(dialect: Dialect, message: &Message) -> Cow<'_, Message> {
    let has_ids = message.tool_call_id.is_some() || !message.tool_calls.is_empty();
    if !has_ids || !matches!(dialect, Dialect::Mistral | Dialect::MistralNamed) {
        return Cow::Borrowed(message);
    }
    let mut fitted = message.clone();
    for id in fitted.tool_calls.iter_mut().map(|call| &mut call.id).chain(&mut fitted.tool_call_id) {
        *id = mistral_id(id);
    }
    Cow::Owned(fitted)
}

/// The same short id for the same id.
fn mistral_id(id: &str) -> String {
    if id.len() == MISTRAL_ID_CHARS && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    // FNV-1a.
    let mut hash =
        id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let letters = (0..MISTRAL_ID_CHARS).map(|_| {
        let letter = MISTRAL_ID_ALPHABET[usize::try_from(hash % 36).unwrap_or(0)];
        hash /= 36;
        char::from(letter)
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use allerac_wire::Tool;
    use serde_json::json;

    use crate::{Parser, Piece};

    fn tools(choice: ToolChoice) -> Tools {
        let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let weather = Tool {
            name: "weather".into(),
            description: Some("Tells it.".into()),
            parameters,
            strict: false,
            text: None,
            namespace: None,
        };
        Tools { list: vec![weather], choice, parallel: None }
    }

    fn call(id: &str, city: &str) -> ToolCall {
        ToolCall { id: id.into(), name: "weather".into(), arguments: json!({"city": city}).to_string() }
    }

    fn conversation() -> Vec<Message> {
        let asked =
            Message { tool_calls: vec![call("a", "Bern"), call("b", "Rome")], ..Message::text(Role::Assistant, "") };
        let answer =
            |id: &str, text: &str| Message { tool_call_id: Some(id.into()), ..Message::text(Role::Tool, text) };
        vec![Message::text(Role::User, "Warm?"), asked, answer("a", "no"), answer("b", "yes")]
    }

    #[test]
    fn tools_are_explained_and_calls_and_answers_become_text() {
        let taught = teach(Dialect::Hermes, &conversation(), &tools(ToolChoice::Auto));
        let roles: Vec<Role> = taught.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
        let system = taught[0].all_text();
        let told = r#"{"name":"weather","description":"Tells it.","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}"#;
        assert!(system.contains(told), "{system}");
        assert!(
            system.contains("<tool_call>\n{\"name\": \"NAME\", \"arguments\": {\"PARAMETER\": VALUE}}\n</tool_call>")
        );
        assert_eq!(
            taught[2].all_text(),
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\":\"Bern\"}}\n</tool_call>\n\
             <tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\":\"Rome\"}}\n</tool_call>"
        );
        assert!(taught[2].tool_calls.is_empty());
        assert_eq!(
            taught[3].all_text(),
            "<tool_response>\nno\n</tool_response>\n<tool_response>\nyes\n</tool_response>"
        );
    }

    #[test]
    fn instructions_stand_where_a_template_takes_them() {
        let named = tools(ToolChoice::Named("weather".into()));
        let system = [Message::text(Role::System, "Be brief."), Message::text(Role::User, "Hi")];
        let taught = teach(Dialect::Hermes, &system, &named);
        assert_eq!(taught.len(), 2);
        assert!(taught[0].all_text().starts_with("Be brief.\n\nYou can call tools."));
        assert!(taught[0].all_text().ends_with("\n\nCall the tool weather now."));
        let taught = teach(Dialect::Gemma, &system[1..], &named);
        assert_eq!((taught.len(), taught[0].role), (1, Role::User));
        assert!(taught[0].all_text().ends_with("\n\nHi"));
        // The calls that were made are told also where no more may be made.
        let taught = teach(Dialect::Hermes, &conversation(), &tools(ToolChoice::None));
        assert_eq!((taught.len(), taught[0].all_text().as_str()), (3, "Warm?"));
    }

    #[test]
    fn what_is_spelled_is_read_as_the_same_calls() {
        let calls = [call("", "Bern"), call("", "Rome")];
        for dialect in Dialect::ALL {
            let read_as = if matches!(dialect, Dialect::Plain | Dialect::Harmony) { Dialect::Hermes } else { dialect };
            let mut parser = Parser::new(read_as, true, false);
            let mut pieces = parser.push(&spelled(dialect, &calls));
            pieces.extend(parser.finish());
            // Whatever the white space between the parts of JSON.
            for piece in &mut pieces {
                if let Piece::Arguments { json, .. } = piece {
                    *json = serde_json::from_str::<serde_json::Value>(json).unwrap().to_string();
                }
            }
            let wanted: Vec<Piece> = (0..)
                .zip(&calls)
                .flat_map(|(index, call)| {
                    let begins = Piece::Call { index, id: None, name: call.name.clone() };
                    [begins, Piece::Arguments { index, json: call.arguments.clone() }]
                })
                .collect();
            assert_eq!(pieces, wanted, "{dialect:?}");
        }
    }

    #[test]
    fn mistral_has_ids_of_nine_letters() {
        let messages = conversation();
        let short = fitted(Dialect::Mistral, &messages[1]);
        let id = &short.tool_calls[0].id;
        assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        assert_ne!(id, &short.tool_calls[1].id);
        assert_eq!(fitted(Dialect::Mistral, &messages[2]).tool_call_id.as_ref(), Some(id));
        assert_eq!(mistral_id("Abcdefgh1"), "Abcdefgh1");
        assert_eq!(fitted(Dialect::Hermes, &messages[1]).as_ref(), &messages[1]);
    }
}
