//! Reads the input of a batch: where its lines are, whether each is one, and each when its turn has come.

use std::collections::HashSet;

use allerac_objects::{Kind, PIECE_BYTES, Store};
use allerac_wire::{BatchEndpoint, BatchError, BatchLine};
use serde_json::Value;

use crate::error::ApiError;
use crate::handlers::files::File;

/// Lines of one batch, as OpenAI's API has it.
const LINES_MAX: usize = 50_000;
/// Bytes of one line: those of the longest request.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Lines of which it is told what is wrong with them.
const ERRORS_MAX: usize = 20;

/// The lines of a file.
#[derive(Debug)]
pub(crate) struct Input {
    owner: u64,
    file: String,
    /// Where each begins and ends, in bytes.
    lines: Vec<(u64, u64)>,
    /// The model that all of them name.
    pub(crate) model: Option<String>,
}

/// What looks at the lines as they come.
struct Checker {
    endpoint: BatchEndpoint,
    names: HashSet<String>,
    models: HashSet<String>,
    errors: Vec<BatchError>,
    lines: Vec<(u64, u64)>,
}

impl Input {
    /// Looks at all lines of a file.
    ///
    /// # Errors
    /// What is wrong with them, in OpenAI's words for a batch that failed.
    pub(crate) async fn open(
        store: &Store,
        owner: u64,
        id: &str,
        endpoint: BatchEndpoint,
    ) -> Result<Result<Self, Vec<BatchError>>, ApiError> {
        let Ok(file) = File::find(store, owner, id).await else {
            return Ok(Err(vec![error("file_not_found", "the input file was deleted", None, None)]));
        };
        let mut checker =
            Checker { endpoint, names: HashSet::new(), models: HashSet::new(), errors: Vec::new(), lines: Vec::new() };
        let (mut rest, mut from) = (Vec::new(), 0);
        for number in 0..file.bytes.div_ceil(PIECE_BYTES as u64) {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let Some(piece) = store.piece(Kind::File, owner, id, number).await? else {
                return Ok(Err(vec![error("file_damaged", "the input file is damaged; send it again", None, None)]));
            };
            rest.extend_from_slice(&piece);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                checker.line(from, &rest[..end]);
                from += end as u64 + 1;
                rest.drain(..=end);
            }
            if rest.len() > LINE_BYTES_MAX || checker.lines.len() > LINES_MAX {
                break;
            }
            tokio::task::yield_now().await;
        }
        checker.line(from, &rest);
        Ok(checker.finish(owner, file.id))
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.lines.len()).unwrap_or(u32::MAX)
    }

    /// The bytes of a line; `None` where its file is gone.
    pub(crate) async fn line(&self, store: &Store, number: u32) -> Result<Option<Vec<u8>>, ApiError> {
        let (from, to) = self.lines[number as usize];
        let piece_bytes = PIECE_BYTES as u64;
        let mut bytes = Vec::new();
        for piece in from / piece_bytes..to.div_ceil(piece_bytes) {
            let number = u32::try_from(piece).unwrap_or(u32::MAX);
            let Some(data) = store.piece(Kind::File, self.owner, &self.file, number).await? else { return Ok(None) };
            let begins = piece * piece_bytes;
            let place = |at: u64| usize::try_from(at.saturating_sub(begins)).unwrap_or(usize::MAX).min(data.len());
            bytes.extend_from_slice(&data[place(from)..place(to)]);
        }
        Ok(Some(bytes))
    }
}

impl Checker {
    fn line(&mut self, from: u64, bytes: &[u8]) {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        self.lines.push((from, from + bytes.len() as u64));
        if self.errors.len() >= ERRORS_MAX {
            return;
        }
        let line = self.lines.len();
        if bytes.len() > LINE_BYTES_MAX {
            self.errors.push(error("line_too_long", "the line is too long", Some(line), None));
            return;
        }
        match BatchLine::parse(bytes, self.endpoint) {
            Err(wrong) => {
                let code = wrong.code.unwrap_or("invalid_request");
                self.errors.push(error(code, &wrong.message, Some(line), wrong.param.as_deref()));
            }
            Ok(read) => {
                if let Some(model) = read.body.get("model").and_then(Value::as_str) {
                    // Only whether there is one is of interest.
                    if self.models.len() < 2 {
                        self.models.insert(model.to_owned());
                    }
                }
                if !self.names.insert(read.custom_id) {
                    let message = "another line has this `custom_id`";
                    self.errors.push(error("duplicate_custom_id", message, Some(line), Some("custom_id")));
                }
            }
        }
    }

    fn finish(mut self, owner: u64, file: String) -> Result<Input, Vec<BatchError>> {
        if self.lines.is_empty() {
            self.errors.push(error("empty_file", "the input file has no line", None, None));
        }
        if self.lines.len() > LINES_MAX {
            let message = format!("a batch may have at most {LINES_MAX} lines; send several");
            self.errors.push(error("too_many_lines", &message, None, None));
        }
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        let model = self.models.into_iter();
        let model = if model.len() == 1 { model.last() } else { None };
        Ok(Input { owner, file, lines: self.lines, model })
    }
}

/// An error of a batch, in OpenAI's shape. Lines are counted from 1.
pub(crate) fn error(code: &str, message: &str, line: Option<usize>, param: Option<&str>) -> BatchError {
    BatchError {
        code: code.to_owned(),
        message: message.to_owned(),
        line: line.map(|line| line as u64),
        param: param.map(str::to_owned),
    }
}
