//! What a grammar in GBNF says.

use std::collections::HashMap;

/// Rules by name.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rules {
    /// In the order in which they are defined.
    pub(super) rules: Vec<(String, Expression)>,
    pub(super) index: HashMap<String, usize>,
}

/// What a rule, or a part of one, derives.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    /// Exactly this text.
    Literal(String),
    /// One character of these ranges, both ends included; or, negated, one of no range.
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// Any one character.
    Any,
    /// What the rule of this name derives.
    Rule(String),
    /// One after the other.
    Sequence(Vec<Expression>),
    /// One of them.
    Choice(Vec<Expression>),
    /// So many times; without an end where there is no maximum.
    Repeat { what: Box<Expression>, least: u32, most: Option<u32> },
}

impl Rules {
    pub(super) fn get(&self, name: &str) -> Option<&Expression> {
        self.index.get(name).map(|index| &self.rules[*index].1)
    }
}

impl Expression {
    /// The names of the rules in it, each as often as it stands there.
    pub(super) fn references(&self) -> Vec<&str> {
        match self {
            Self::Literal(_) | Self::Class { .. } | Self::Any => Vec::new(),
            Self::Rule(name) => vec![name],
            Self::Sequence(parts) | Self::Choice(parts) => parts.iter().flat_map(Self::references).collect(),
            Self::Repeat { what, .. } => what.references(),
        }
    }
}
