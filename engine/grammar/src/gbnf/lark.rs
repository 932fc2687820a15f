//! Writes a grammar in llguidance's variant of Lark.
//!
//! There text is cut into lexemes by regular expressions before rules are matched, and the longest match wins. What
//! derives no text by recursion is regular and becomes one lexeme, as large as it gets: matching is fastest so. Where
//! that would cut wrongly, because what follows a lexeme may also continue it or another one, the lexeme falls into
//! its parts, down to single characters.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::analysis::Analysis;
use super::characters::Characters;
use super::shape::Shape;
use super::syntax::{Expression, Rules};
use crate::error::GrammarError;

/// Lexemes of one grammar. Each is compared with all others.
const LEXEMES_MAX: usize = 1000;

pub(super) fn write(rules: &Rules) -> Result<String, GrammarError> {
    let analysis = Analysis::new(rules)?;
    let mut split = HashSet::new();
    loop {
        let mut writer = Writer::new(&analysis, &split);
        writer.rules();
        if writer.lexemes.len() > LEXEMES_MAX {
            return Err(GrammarError::Wrong(format!("it has more than {LEXEMES_MAX} different parts")));
        }
        let wrong = writer.wrong();
        if wrong.is_empty() {
            return Ok(writer.text);
        }
        split.extend(wrong);
    }
}

/// A part of the grammar that is cut out of a text as a whole.
struct Lexeme {
    number: usize,
    shape: Shape,
    /// The characters that may stand behind it, anywhere in the grammar.
    follow: Characters,
}

struct Writer<'r> {
    analysis: &'r Analysis<'r>,
    /// Lexemes, as they are written, that must fall into their parts.
    split: &'r HashSet<String>,
    /// By how they are written.
    lexemes: HashMap<String, Lexeme>,
    /// Rules that are still to be written, by number.
    wanted: Vec<usize>,
    written: HashSet<usize>,
    text: String,
}

impl<'r> Writer<'r> {
    fn new(analysis: &'r Analysis<'r>, split: &'r HashSet<String>) -> Self {
        let (lexemes, wanted, written) = (HashMap::new(), Vec::new(), HashSet::new());
        Self { analysis, split, lexemes, wanted, written, text: String::new() }
    }

    fn rules(&mut self) {
        let rules = self.analysis.rules;
        let start = self.part(&Expression::Rule("root".to_owned()), Characters::default());
        let _ = writeln!(self.text, "start: {start}");
        // What lexemes refer to.
        for (index, (name, expression)) in rules.rules.iter().enumerate() {
            if self.analysis.is_known_regular(name) {
                let body = regular(expression, rules);
                let _ = writeln!(self.text, "R{index}: {body}");
            }
        }
        while let Some(index) = self.wanted.pop() {
            let (name, expression) = &rules.rules[index];
            if self.written.insert(index) {
                let body = self.part(expression, self.analysis.follow(name));
                let _ = writeln!(self.text, "r{index}: {body}");
            }
        }
    }

    /// A part of a rule with what may stand behind it: a lexeme where it can be, else what it consists of.
    fn part(&mut self, expression: &Expression, follow: Characters) -> String {
        let is_regular = self.analysis.is_regular(expression);
        if is_regular {
            let body = regular(expression, self.analysis.rules);
            if body == EMPTY {
                return body;
            }
            if !self.split.contains(&body) {
                return self.lexeme(expression, body, follow);
            }
        }
        match expression {
            Expression::Literal(text) => {
                let characters = text.chars().map(|character| Expression::Literal(character.to_string()));
                self.row(&characters.collect::<Vec<_>>(), follow, false)
            }
            Expression::Rule(name) => {
                let index = self.analysis.rules.index[name];
                self.wanted.push(index);
                format!("r{index}")
            }
            Expression::Repeat { what, least, most } => {
                let follow = self.analysis.follow_in_repeat(what, *most, follow);
                format!("({}){}", self.part(what, follow), bounds(*least, *most))
            }
            Expression::Choice(options) => {
                let (together, apart): (Vec<Expression>, Vec<Expression>) =
                    options.iter().cloned().partition(|option| !is_regular && self.analysis.is_regular(option));
                let mut written: Vec<String> = apart.iter().map(|option| self.part(option, follow)).collect();
                if !together.is_empty() {
                    written.push(self.part(&Expression::Choice(together), follow));
                }
                format!("({})", written.join(" | "))
            }
            Expression::Sequence(parts) => self.row(parts, follow, !is_regular),
            Expression::Class { .. } | Expression::Any => unreachable!("a single character is never split"),
        }
    }

    /// Expressions one after the other; `together`: those without recursion that stand together become one lexeme.
    fn row(&mut self, parts: &[Expression], follow: Characters, together: bool) -> String {
        let analysis = self.analysis;
        let runs = parts.chunk_by(|a, b| together && analysis.is_regular(a) && analysis.is_regular(b));
        let runs: Vec<Expression> = runs
            .map(|run| match run {
                [part] => part.clone(),
                run => Expression::Sequence(run.to_vec()),
            })
            .collect();
        let follow = analysis.follow_in_row(&runs, follow);
        let written: Vec<String> = runs.iter().zip(follow).map(|(run, follow)| self.part(run, follow)).collect();
        format!("({})", written.join(" "))
    }

    fn lexeme(&mut self, expression: &Expression, body: String, follow: Characters) -> String {
        let next = self.lexemes.len();
        let analysis = self.analysis;
        let text = &mut self.text;
        let lexeme = self.lexemes.entry(body).or_insert_with_key(|body| {
            let _ = writeln!(text, "L{next}: {body}");
            Lexeme { number: next, shape: analysis.shape(expression), follow }
        });
        lexeme.follow = lexeme.follow.union(follow);
        format!("L{}", lexeme.number)
    }

    /// The lexemes that could be cut where they must not be, or that hide the end of another.
    fn wrong(&self) -> Vec<String> {
        let hides = |other: &Shape| self.lexemes.values().any(|lexeme| lexeme.shape.may_go_on_in(lexeme.follow, other));
        let wrong = self.lexemes.iter().filter(|(_, lexeme)| hides(&lexeme.shape));
        wrong.map(|(body, _)| body.clone()).collect()
    }
}

/// What a lexeme is.
fn regular(expression: &Expression, rules: &Rules) -> String {
    let all = |parts: &[Expression]| parts.iter().map(|part| regular(part, rules)).collect::<Vec<_>>();
    match expression {
        Expression::Literal(text) => serde_json::Value::from(text.as_str()).to_string(),
        Expression::Class { negated, ranges } => class(*negated, ranges),
        Expression::Any => "/(?s:.)/".to_owned(),
        Expression::Rule(name) => format!("R{}", rules.index[name]),
        Expression::Sequence(parts) if parts.is_empty() => EMPTY.to_owned(),
        Expression::Sequence(parts) => format!("({})", all(parts).join(" ")),
        Expression::Choice(options) => format!("({})", all(options).join(" | ")),
        Expression::Repeat { what, least, most } => format!("({}){}", regular(what, rules), bounds(*least, *most)),
    }
}

/// No text.
const EMPTY: &str = "\"\"";

fn bounds(least: u32, most: Option<u32>) -> String {
    match (least, most) {
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (0, Some(1)) => "?".to_owned(),
        (least, None) => format!("{{{least},}}"),
        (least, Some(most)) => format!("{{{least},{most}}}"),
    }
}

fn class(negated: bool, ranges: &[(char, char)]) -> String {
    let mut text = String::from(if negated { "/[^" } else { "/[" });
    for (first, last) in ranges {
        // By number no character means anything else.
        let _ = write!(text, "\\x{{{:x}}}-\\x{{{:x}}}", u32::from(*first), u32::from(*last));
    }
    text.push_str("]/");
    text
}
