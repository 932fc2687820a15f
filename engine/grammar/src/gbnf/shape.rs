//! Where a text that an expression derives can end, and what can come next in it.
//!
//! An expression is seen as the positions at which its characters stand (Glushkov, "The abstract theory of
//! automata", 1961), each with what may stand there and behind it. Whatever is not exact errs on one side: more
//! seems possible than is.

use std::collections::HashSet;

use super::characters::Characters;
use super::syntax::Expression;

/// Different positions of one expression; with more they become a single one where everything is possible.
const POSITIONS_MAX: usize = 256;

/// The texts that an expression derives.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shape {
    /// Whether the empty text is one of them.
    pub(super) nullable: bool,
    /// The characters that they begin with.
    pub(super) first: Characters,
    positions: Vec<Position>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Position {
    /// The characters that may stand here.
    here: Characters,
    /// The characters that may stand behind them.
    next: Characters,
    /// Whether a text may end here.
    is_last: bool,
}

impl Shape {
    /// The shape of an expression, given those of rules.
    pub(super) fn of(expression: &Expression, rule: &impl Fn(&str) -> Self) -> Self {
        match expression {
            Expression::Literal(text) => {
                text.chars().map(Characters::one).map(Self::single).fold(Self::empty(), Self::then)
            }
            Expression::Class { negated, ranges } => Self::single(Characters::class(*negated, ranges)),
            Expression::Any => Self::single(Characters::ALL),
            Expression::Rule(name) => rule(name),
            Expression::Sequence(parts) => {
                parts.iter().map(|part| Self::of(part, rule)).fold(Self::empty(), Self::then)
            }
            Expression::Choice(options) => {
                options.iter().map(|option| Self::of(option, rule)).fold(Self::default(), Self::or)
            }
            Expression::Repeat { what, least, most } => {
                let once = Self::of(what, rule);
                let repeated = if *most == Some(1) { once } else { once.repeated() };
                if *least == 0 { repeated.or(Self::empty()) } else { repeated }
            }
        }
    }

    fn empty() -> Self {
        Self { nullable: true, ..Self::default() }
    }

    fn single(here: Characters) -> Self {
        let position = Position { here, next: Characters::default(), is_last: true };
        Self { nullable: false, first: here, positions: vec![position] }
    }

    fn then(self, next: Self) -> Self {
        let own = self.positions.into_iter().map(|position| {
            let behind = if position.is_last { next.first } else { Characters::default() };
            let is_last = position.is_last && next.nullable;
            Position { next: position.next.union(behind), is_last, ..position }
        });
        let first = if self.nullable { self.first.union(next.first) } else { self.first };
        Self { nullable: self.nullable && next.nullable, first, positions: own.chain(next.positions).collect() }
            .bounded()
    }

    fn or(self, other: Self) -> Self {
        let positions = self.positions.into_iter().chain(other.positions).collect();
        Self { nullable: self.nullable || other.nullable, first: self.first.union(other.first), positions }.bounded()
    }

    /// Any number of times, one after the other.
    fn repeated(mut self) -> Self {
        for position in self.positions.iter_mut().filter(|position| position.is_last) {
            position.next = position.next.union(self.first);
        }
        self.bounded()
    }

    fn bounded(mut self) -> Self {
        let different: HashSet<Position> = self.positions.iter().copied().collect();
        if different.len() < self.positions.len() {
            self.positions.retain({
                let mut left = different.clone();
                move |position| left.remove(position)
            });
        }
        if self.positions.len() > POSITIONS_MAX {
            self.positions = vec![Position { here: Characters::ALL, next: Characters::ALL, is_last: true }];
        }
        self
    }

    /// The characters that texts end with.
    fn last(&self) -> Characters {
        let last = self.positions.iter().filter(|position| position.is_last);
        last.map(|position| position.here).fold(Characters::default(), Characters::union)
    }

    /// Whether one of these texts, with one of the characters of `follow` behind it, may be the beginning of a
    /// text of another shape, or of another text of this one.
    pub(super) fn may_go_on_in(&self, follow: Characters, other: &Self) -> bool {
        let last = self.last();
        self.first.overlaps(other.first)
            && other.positions.iter().any(|position| position.here.overlaps(last) && position.next.overlaps(follow))
    }
}
