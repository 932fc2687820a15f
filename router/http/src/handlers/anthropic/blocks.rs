//! A message that grows: its blocks, one after the other.

use std::collections::HashMap;

use allerac_parse::Piece;
use allerac_wire::anthropic::{Block, BlockDelta, Event, Thoughts, ToolCaller};
use serde_json::json;

/// The blocks of a streamed message.
pub(super) struct Blocks {
    thoughts: Thoughts,
    open: Option<Open>,
    /// The place of the next block.
    next: u32,
    /// The blocks of calls, by the calls' own places.
    calls: HashMap<u32, u32>,
}

/// The block that grows.
enum Open {
    Text,
    Thinking(Box<blake3::Hasher>),
    Call,
}

impl Blocks {
    pub(super) fn new(thoughts: Thoughts) -> Self {
        Self { thoughts, open: None, next: 0, calls: HashMap::new() }
    }

    /// The events of a piece.
    pub(super) fn add(&mut self, piece: Piece) -> Vec<Event> {
        match piece {
            Piece::Text(text) => {
                let is_open = matches!(self.open, Some(Open::Text));
                let begin = || (Open::Text, Block::Text { text: String::new(), citations: None });
                let mut events = if is_open { Vec::new() } else { self.begin(begin()) };
                events.push(self.delta(BlockDelta::TextDelta { text }));
                events
            }
            Piece::Reasoning(_) if self.thoughts == Thoughts::Hidden => Vec::new(),
            Piece::Reasoning(thinking) => self.think(thinking),
            Piece::Call { index, id, name } => {
                let (id, input) = (id.unwrap_or_default(), json!({}));
                let events = self.begin((Open::Call, Block::ToolUse { id, name, input, caller: ToolCaller::Direct }));
                self.calls.insert(index, self.next - 1);
                events
            }
            Piece::Arguments { index, json } => {
                let place = self.calls.get(&index).copied();
                let delta = BlockDelta::InputJsonDelta { partial_json: json };
                place.map(|index| Event::ContentBlockDelta { index, delta }).into_iter().collect()
            }
        }
    }

    /// The end of the block that grows.
    pub(super) fn close(&mut self) -> Vec<Event> {
        let Some(open) = self.open.take() else { return Vec::new() };
        let mut events = Vec::new();
        if let Open::Thinking(hasher) = open {
            events.push(self.delta(BlockDelta::SignatureDelta { signature: signature(&hasher) }));
        }
        events.push(Event::ContentBlockStop { index: self.next - 1 });
        events
    }

    fn think(&mut self, thinking: String) -> Vec<Event> {
        let mut events = Vec::new();
        if !matches!(self.open, Some(Open::Thinking(_))) {
            let block = Block::Thinking { thinking: String::new(), signature: String::new() };
            events = self.begin((Open::Thinking(Box::default()), block));
        }
        if let Some(Open::Thinking(hasher)) = &mut self.open {
            hasher.update(thinking.as_bytes());
        }
        if self.thoughts == Thoughts::Shown {
            events.push(self.delta(BlockDelta::ThinkingDelta { thinking }));
        }
        events
    }

    fn begin(&mut self, (open, content_block): (Open, Block)) -> Vec<Event> {
        let mut events = self.close();
        self.open = Some(open);
        events.push(Event::ContentBlockStart { index: self.next, content_block });
        self.next += 1;
        events
    }

    fn delta(&self, delta: BlockDelta) -> Event {
        Event::ContentBlockDelta { index: self.next.saturating_sub(1), delta }
    }
}

/// The block of a whole thought; `None` where nobody asked for it.
pub(super) fn thought(thoughts: Thoughts, thinking: String) -> Option<Block> {
    let signature = signature(blake3::Hasher::new().update(thinking.as_bytes()));
    match thoughts {
        Thoughts::Hidden => None,
        Thoughts::Omitted => Some(Block::Thinking { thinking: String::new(), signature }),
        Thoughts::Shown => Some(Block::Thinking { thinking, signature }),
    }
}

/// Clients want one, and send it back: the BLAKE3 hash of the thought. Nothing here asks for it again.
fn signature(hasher: &blake3::Hasher) -> String {
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(thoughts: Thoughts, pieces: Vec<Piece>) -> Vec<serde_json::Value> {
        let mut blocks = Blocks::new(thoughts);
        let mut events: Vec<Event> = pieces.into_iter().flat_map(|piece| blocks.add(piece)).collect();
        events.extend(blocks.close());
        events.iter().map(|event| serde_json::to_value(event).unwrap()).collect()
    }

    fn pieces() -> Vec<Piece> {
        vec![
            Piece::Reasoning("hm".into()),
            Piece::Text("a".into()),
            Piece::Text("b".into()),
            Piece::Call { index: 0, id: Some("c".into()), name: "f".into() },
            Piece::Arguments { index: 0, json: "{}".into() },
            Piece::Call { index: 1, id: Some("d".into()), name: "g".into() },
        ]
    }

    #[test]
    fn each_block_begins_grows_and_ends_in_order() {
        let start = |index: u32, block| json!({"type": "content_block_start", "index": index, "content_block": block});
        let delta = |index: u32, delta| json!({"type": "content_block_delta", "index": index, "delta": delta});
        let stop = |index: u32| json!({"type": "content_block_stop", "index": index});
        let text = |text: &str| json!({"type": "text_delta", "text": text});
        let tool = |id: &str, name: &str| json!({"type": "tool_use", "id": id, "name": name, "input": {}, "caller": {"type": "direct"}});
        let signature = blake3::hash(b"hm").to_hex().to_string();
        let expected = vec![
            start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
            delta(0, json!({"type": "signature_delta", "signature": signature})),
            stop(0),
            start(1, json!({"type": "text", "text": "", "citations": null})),
            delta(1, text("a")),
            delta(1, text("b")),
            stop(1),
            start(2, tool("c", "f")),
            delta(2, json!({"type": "input_json_delta", "partial_json": "{}"})),
            stop(2),
            start(3, tool("d", "g")),
            stop(3),
        ];
        assert_eq!(told(Thoughts::Shown, pieces()), expected);
    }

    #[test]
    fn thoughts_are_told_as_asked() {
        let kinds =
            |thoughts| told(thoughts, pieces()).iter().map(|event| event["delta"]["type"].clone()).collect::<Vec<_>>();
        assert_eq!(kinds(Thoughts::Hidden)[1], "text_delta");
        let omitted = kinds(Thoughts::Omitted);
        assert_eq!((&omitted[1], omitted.contains(&json!("thinking_delta"))), (&json!("signature_delta"), false));
    }
}
