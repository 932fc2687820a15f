//! Numbers the events of a stream, so that a client whose connection broke can say which came last.

use crate::background::Event;

/// What ends an event.
const END: &[u8] = b"\n\n";

/// Numbers one stream, however it is cut.
#[derive(Debug, Default)]
pub(crate) struct Numbering {
    next: u64,
    /// What is yet to be ended.
    rest: Vec<u8>,
}

impl Numbering {
    /// The text that is whole with `data`, as it is to be sent, and the events in it. Comments are no events. An event that
    /// has a number keeps it.
    pub(crate) fn add(&mut self, data: &[u8]) -> (String, Vec<Event>) {
        self.rest.extend_from_slice(data);
        let (mut text, mut events) = (String::new(), Vec::new());
        let mut from = 0;
        while let Some(length) = self.rest[from..].windows(END.len()).position(|bytes| bytes == END) {
            let block = String::from_utf8_lossy(&self.rest[from..from + length + END.len()]).into_owned();
            from += length + END.len();
            if !block.lines().any(|line| line.starts_with("data:")) {
                text += &block;
                continue;
            }
            let (number, block) = match number_of(&block) {
                Some(number) => (number, block),
                None => (self.next, format!("id: {}\n{block}", self.next)),
            };
            self.next = number + 1;
            text += &block;
            events.push(Event { number, text: block.into() });
        }
        self.rest.drain(..from);
        (text, events)
    }

    /// What never ended.
    pub(crate) fn rest(self) -> String {
        String::from_utf8_lossy(&self.rest).into_owned()
    }
}

/// The number of an event.
fn number_of(event: &str) -> Option<u64> {
    event.lines().find_map(|line| line.strip_prefix("id: ")?.parse().ok())
}

/// The events of a whole stream that come after one of this number.
pub(crate) fn events_after(stream: &str, after: Option<u64>) -> String {
    let is_after = |event: &&str| after.is_none_or(|after| number_of(event).is_some_and(|number| number > after));
    stream.split_inclusive("\n\n").filter(is_after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "data: a\n\n: waiting\n\nevent: x\ndata: é\n\ndata: [DONE]\n\n";
    const NUMBERED: &str = "id: 0\ndata: a\n\n: waiting\n\nid: 1\nevent: x\ndata: é\n\nid: 2\ndata: [DONE]\n\n";

    #[test]
    fn numbers_do_not_depend_on_where_a_stream_is_cut() {
        for size in 1..STREAM.len() {
            let mut numbering = Numbering::default();
            let (mut text, mut numbers) = (String::new(), Vec::new());
            for piece in STREAM.as_bytes().chunks(size) {
                let (more, events) = numbering.add(piece);
                text += &more;
                numbers.extend(events.iter().map(|event| event.number));
            }
            assert_eq!((text.as_str(), numbers.as_slice()), (NUMBERED, [0, 1, 2].as_slice()));
            assert_eq!(numbering.rest(), "");
        }
    }

    #[test]
    fn an_event_with_a_number_keeps_it() {
        let event = "event: a\nid: 7\ndata: b\n\n";
        let (text, events) = Numbering::default().add(event.as_bytes());
        assert_eq!((text.as_str(), events[0].number), (event, 7));
    }

    #[test]
    fn what_comes_after_an_event_is_told() {
        assert_eq!(events_after(NUMBERED, Some(1)), "id: 2\ndata: [DONE]\n\n");
        assert_eq!(events_after(NUMBERED, Some(2)), "");
        assert_eq!(events_after(NUMBERED, None), NUMBERED);
    }
}
