//! Reads GBNF as llama.cpp's own parser does (`src/llama-grammar.cpp`).

use std::iter::Peekable;
use std::str::CharIndices;

use super::syntax::{Expression, Rules};
use crate::error::GrammarError;

/// How deeply groups may be nested; no grammar written by people or programs for them comes close.
const DEPTH_MAX: usize = 64;
/// The largest number of a repetition, as llama.cpp has it.
const REPETITION_MAX: u32 = 2000;

pub(super) fn parse(text: &str) -> Result<Rules, GrammarError> {
    let mut parser = Parser { text, rest: text.char_indices().peekable(), depth: 0 };
    let mut rules = Rules::default();
    parser.space(true);
    while parser.peek().is_some() {
        let name = parser.name()?;
        parser.space(false);
        for character in "::=".chars() {
            parser.expect(character, "`::=` after the name of a rule")?;
        }
        parser.space(true);
        let expression = parser.choice(false)?;
        if !matches!(parser.peek(), None | Some('\n' | '\r')) {
            return Err(parser.error("a new line after a rule"));
        }
        let index = rules.rules.len();
        if rules.index.insert(name.clone(), index).is_some() {
            return Err(GrammarError::Wrong(format!("the rule `{name}` is defined twice")));
        }
        rules.rules.push((name, expression));
        parser.space(true);
    }
    check_names(&rules)?;
    Ok(rules)
}

fn check_names(rules: &Rules) -> Result<(), GrammarError> {
    if rules.get("root").is_none() {
        return Err(GrammarError::Wrong("there is no rule `root`".to_owned()));
    }
    for (name, expression) in &rules.rules {
        if let Some(missing) = expression.references().into_iter().find(|name| rules.get(name).is_none()) {
            return Err(GrammarError::Wrong(format!("the rule `{name}` uses `{missing}`, which is not defined")));
        }
    }
    Ok(())
}

struct Parser<'t> {
    text: &'t str,
    rest: Peekable<CharIndices<'t>>,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest.peek().map(|(_, character)| *character)
    }

    fn take(&mut self) -> Option<char> {
        self.rest.next().map(|(_, character)| character)
    }

    fn take_if(&mut self, wanted: char) -> bool {
        self.rest.next_if(|(_, character)| *character == wanted).is_some()
    }

    fn expect(&mut self, wanted: char, what: &str) -> Result<(), GrammarError> {
        if self.take_if(wanted) { Ok(()) } else { Err(self.error(what)) }
    }

    /// What was expected instead of what stands here.
    fn error(&mut self, expected: &str) -> GrammarError {
        let place = self.rest.peek().map_or(self.text.len(), |(index, _)| *index);
        let line = self.text[..place].matches('\n').count() + 1;
        let found = self.peek().map_or("the end".to_owned(), |character| format!("{character:?}"));
        GrammarError::Wrong(format!("line {line}: expected {expected}, found {found}"))
    }

    /// Skips white space and comments.
    fn space(&mut self, new_lines: bool) {
        while let Some(character) = self.peek() {
            match character {
                '#' => while self.rest.next_if(|(_, character)| !matches!(character, '\n' | '\r')).is_some() {},
                ' ' | '\t' => drop(self.take()),
                '\n' | '\r' if new_lines => drop(self.take()),
                _ => return,
            }
        }
    }

    fn name(&mut self) -> Result<String, GrammarError> {
        let mut name = String::new();
        while let Some((_, character)) = self.rest.next_if(|(_, character)| is_of_name(*character)) {
            name.push(character);
        }
        if name.is_empty() { Err(self.error("the name of a rule")) } else { Ok(name) }
    }

    fn choice(&mut self, nested: bool) -> Result<Expression, GrammarError> {
        let mut options = vec![self.sequence(nested)?];
        while self.take_if('|') {
            self.space(true);
            options.push(self.sequence(nested)?);
        }
        Ok(if options.len() == 1 { options.remove(0) } else { Expression::Choice(options) })
    }

    fn sequence(&mut self, nested: bool) -> Result<Expression, GrammarError> {
        let mut parts: Vec<Expression> = Vec::new();
        while let Some(character) = self.peek() {
            let part = match character {
                '"' => self.literal()?,
                '[' => self.class()?,
                '(' => self.group()?,
                '.' => {
                    self.take();
                    Expression::Any
                }
                '*' | '+' | '?' | '{' => {
                    let what = parts.pop().ok_or_else(|| self.error("something to repeat"))?;
                    self.repeat(what)?
                }
                '<' | '!' => return Err(self.error("text: tokens cannot be named in this notation here")),
                character if is_of_name(character) => Expression::Rule(self.name()?),
                _ => break,
            };
            parts.push(part);
            self.space(nested);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Sequence(parts) })
    }

    fn group(&mut self) -> Result<Expression, GrammarError> {
        self.take();
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(GrammarError::Wrong(format!("groups are nested more than {DEPTH_MAX} deep")));
        }
        self.space(true);
        let inner = self.choice(true)?;
        self.expect(')', "`)`")?;
        self.depth -= 1;
        Ok(inner)
    }

    fn literal(&mut self) -> Result<Expression, GrammarError> {
        self.take();
        let mut literal = String::new();
        while !self.take_if('"') {
            literal.push(self.character()?);
        }
        Ok(Expression::Literal(literal))
    }

    fn class(&mut self) -> Result<Expression, GrammarError> {
        self.take();
        let negated = self.take_if('^');
        let mut ranges = Vec::new();
        while !self.take_if(']') {
            let first = self.character()?;
            let is_range = self.peek() == Some('-') && self.rest.clone().nth(1).is_some_and(|(_, next)| next != ']');
            let last = if is_range {
                self.take();
                self.character()?
            } else {
                first
            };
            if last < first {
                return Err(GrammarError::Wrong(format!("the range {first:?} to {last:?} is empty")));
            }
            ranges.push((first, last));
        }
        if ranges.is_empty() {
            Err(self.error("a character in `[]`"))
        } else {
            Ok(Expression::Class { negated, ranges })
        }
    }

    fn character(&mut self) -> Result<char, GrammarError> {
        match self.take() {
            None => Err(self.error("the end of what was opened")),
            Some('\\') => self.escape(),
            Some(character) => Ok(character),
        }
    }

    fn escape(&mut self) -> Result<char, GrammarError> {
        match self.take() {
            Some('x') => self.code_point(2),
            Some('u') => self.code_point(4),
            Some('U') => self.code_point(8),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some('n') => Ok('\n'),
            Some(character @ ('\\' | '"' | '[' | ']')) => Ok(character),
            other => Err(GrammarError::Wrong(format!("{other:?} is no escape"))),
        }
    }

    fn code_point(&mut self, digits: usize) -> Result<char, GrammarError> {
        let mut number = 0u32;
        for _ in 0..digits {
            let digit = self.peek().and_then(|character| character.to_digit(16));
            let digit = digit.ok_or_else(|| self.error(&format!("{digits} hexadecimal digits")))?;
            self.take();
            number = number.wrapping_mul(16) | digit;
        }
        char::from_u32(number).ok_or_else(|| GrammarError::Wrong(format!("{number:#x} is no character")))
    }

    fn repeat(&mut self, what: Expression) -> Result<Expression, GrammarError> {
        let (least, most) = match self.take() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            _ => self.bounds()?,
        };
        Ok(Expression::Repeat { what: Box::new(what), least, most })
    }

    /// What stands in braces.
    fn bounds(&mut self) -> Result<(u32, Option<u32>), GrammarError> {
        self.space(false);
        let least = self.number()?;
        self.space(false);
        let most = if self.take_if(',') {
            self.space(false);
            if self.peek() == Some('}') { None } else { Some(self.number()?) }
        } else {
            Some(least)
        };
        self.space(false);
        self.expect('}', "`}`")?;
        if most.is_some_and(|most| most < least) {
            return Err(GrammarError::Wrong(format!("a repetition of {least} to {most:?} times is empty")));
        }
        Ok((least, most))
    }

    fn number(&mut self) -> Result<u32, GrammarError> {
        let mut number = None;
        while let Some(digit) = self.peek().and_then(|character| character.to_digit(10)) {
            self.take();
            number = Some(number.unwrap_or(0u32).saturating_mul(10).saturating_add(digit));
        }
        match number {
            None => Err(self.error("a number")),
            Some(number) if number > REPETITION_MAX => {
                Err(GrammarError::Wrong(format!("a repetition of more than {REPETITION_MAX} times is too long")))
            }
            Some(number) => Ok(number),
        }
    }
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}
