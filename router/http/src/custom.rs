//! Calls of custom tools: models write the text that these are given as the one argument of a function, and clients
//! get it as the text that it is.

use std::collections::{HashMap, HashSet};

use allerac_parse::{Input, Piece, input_of};
use allerac_wire::{CalledCustom, CalledFunction, CalledTool, Tools};

/// Reads such calls as they come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Customs {
    names: HashSet<String>,
    /// The calls of each choice that are being read.
    open: HashMap<(u32, u32), Input>,
}

impl Customs {
    pub(crate) fn of(tools: &Tools) -> Self {
        let names = tools.list.iter().filter(|tool| tool.text.is_some()).map(|tool| tool.name.clone()).collect();
        Self { names, open: HashMap::new() }
    }

    /// Whether a tool is one of them.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// A whole call, as its client gets it.
    pub(crate) fn called(&self, id: String, name: String, arguments: String) -> CalledTool {
        if self.has(&name) {
            CalledTool::Custom { id, custom: CalledCustom { input: input_of(&arguments), name } }
        } else {
            CalledTool::Function { id, function: CalledFunction { name, arguments } }
        }
    }

    /// Whether a call is of one of them.
    pub(crate) fn reads(&self, choice: u32, call: u32) -> bool {
        self.open.contains_key(&(choice, call))
    }

    /// A piece of a choice, with text in place of the arguments that it stands in; `None` where it says nothing.
    pub(crate) fn read(&mut self, choice: u32, piece: Piece) -> Option<Piece> {
        match piece {
            Piece::Call { index, id, name } => {
                if self.has(&name) {
                    self.open.insert((choice, index), Input::default());
                }
                Some(Piece::Call { index, id, name })
            }
            Piece::Arguments { index, json } => {
                let Some(input) = self.open.get_mut(&(choice, index)) else {
                    return Some(Piece::Arguments { index, json });
                };
                let text = input.push(&json);
                (!text.is_empty()).then_some(Piece::Arguments { index, json: text })
            }
            other => Some(other),
        }
    }

    /// What was yet to be understood of a choice's calls, now that it ended.
    pub(crate) fn finish(&mut self, choice: u32) -> Vec<Piece> {
        let mut calls: Vec<_> = self.open.iter_mut().filter(|((of, _), _)| *of == choice).collect();
        calls.sort_by_key(|((_, index), _)| *index);
        let rest =
            calls.into_iter().map(|((_, index), input)| Piece::Arguments { index: *index, json: input.finish() });
        rest.filter(|piece| !matches!(piece, Piece::Arguments { json, .. } if json.is_empty())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use allerac_wire::{FreeText, Tool, ToolChoice};
    use serde_json::json;

    #[test]
    fn only_calls_of_custom_tools_become_text() {
        let tool = |name: &str, text| Tool {
            name: name.into(),
            description: None,
            parameters: json!({}),
            strict: false,
            text,
            namespace: None,
        };
        let list = vec![tool("note", Some(FreeText::default())), tool("f", None)];
        let mut customs = Customs::of(&Tools { list, choice: ToolChoice::Auto, parallel: None });
        let call = |index, name: &str| Piece::Call { index, id: None, name: name.into() };
        let given = |index, json: &str| Piece::Arguments { index, json: json.into() };
        let told = [
            call(0, "note"),
            given(0, "{\"input\": "),
            given(0, "\"a\\n\"}"),
            call(1, "f"),
            given(1, "{}"),
            call(2, "note"),
            given(2, "{\"text\": 1}"),
        ];
        let read: Vec<_> = told.into_iter().filter_map(|piece| customs.read(0, piece)).collect();
        assert_eq!(read, [call(0, "note"), given(0, "a\n"), call(1, "f"), given(1, "{}"), call(2, "note")]);
        assert_eq!(customs.finish(1), []);
        assert_eq!(customs.finish(0), [given(2, "{\"text\": 1}")]);
    }
}
