//! What must be known of a grammar's rules to write them.

use std::collections::{HashMap, HashSet};

use super::characters::Characters;
use super::shape::Shape;
use super::syntax::{Expression, Rules};
use crate::error::GrammarError;

/// Rules that may follow one from another, one deeper than the other; they are descended into by recursion.
const CHAIN_MAX: usize = 512;

pub(super) struct Analysis<'r> {
    pub(super) rules: &'r Rules,
    /// The rules that reach themselves, or one that does.
    recursive: HashSet<&'r str>,
    /// The shapes of the others.
    shapes: HashMap<&'r str, Shape>,
    /// Whether a rule derives the empty text, and what the others begin with.
    begins: HashMap<&'r str, (bool, Characters)>,
    /// What may stand behind the texts of a rule.
    follow: HashMap<&'r str, Characters>,
    /// Rules on the way from the root, while they are visited.
    open: Vec<&'r str>,
}

impl<'r> Analysis<'r> {
    /// Analyses the rules that the root reaches.
    pub(super) fn new(rules: &'r Rules) -> Result<Self, GrammarError> {
        let (recursive, open) = (HashSet::new(), Vec::new());
        let (shapes, begins, follow) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut analysis = Self { rules, recursive, shapes, begins, follow, open };
        analysis.visit("root")?;
        analysis.check_ends()?;
        analysis.find_begins();
        analysis.find_follow();
        Ok(analysis)
    }

    /// Whether it derives no text by recursion.
    pub(super) fn is_regular(&self, expression: &Expression) -> bool {
        expression.references().into_iter().all(|name| !self.recursive.contains(name))
    }

    /// Whether the root reaches a rule and it derives no text by recursion.
    pub(super) fn is_known_regular(&self, rule: &str) -> bool {
        self.shapes.contains_key(rule)
    }

    /// The shape of an expression without recursion.
    pub(super) fn shape(&self, expression: &Expression) -> Shape {
        Shape::of(expression, &|name| self.shapes[name].clone())
    }

    pub(super) fn follow(&self, rule: &str) -> Characters {
        self.follow.get(rule).copied().unwrap_or_default()
    }

    /// What may stand behind each of some expressions in a row.
    pub(super) fn follow_in_row(&self, row: &[Expression], behind: Characters) -> Vec<Characters> {
        let mut behind = behind;
        let mut follow: Vec<Characters> = row
            .iter()
            .rev()
            .map(|part| {
                let here = behind;
                let (nullable, first) = self.begin(part);
                behind = if nullable { behind.union(first) } else { first };
                here
            })
            .collect();
        follow.reverse();
        follow
    }

    /// What may stand behind an expression that is repeated.
    pub(super) fn follow_in_repeat(&self, what: &Expression, most: Option<u32>, behind: Characters) -> Characters {
        if most == Some(1) { behind } else { behind.union(self.begin(what).1) }
    }

    /// Whether a rule is recursive; a depth-first search. One that is being visited is: it was reached from itself.
    fn visit(&mut self, name: &'r str) -> Result<bool, GrammarError> {
        if self.open.contains(&name) {
            return Ok(true);
        }
        if self.begins.contains_key(name) {
            return Ok(self.recursive.contains(name));
        }
        if self.open.len() >= CHAIN_MAX {
            return Err(GrammarError::Wrong(format!("more than {CHAIN_MAX} rules follow one from another")));
        }
        self.open.push(name);
        let expression = self.rules.get(name).expect("the parser checked all names");
        let mut is_recursive = false;
        for reference in expression.references() {
            is_recursive |= self.visit(reference)?;
        }
        self.open.pop();
        self.begins.insert(name, (false, Characters::default()));
        if is_recursive {
            self.recursive.insert(name);
        } else {
            self.shapes.insert(name, self.shape(expression));
        }
        Ok(is_recursive)
    }

    fn begin(&self, expression: &Expression) -> (bool, Characters) {
        match expression {
            Expression::Rule(name) => self.begins[name.as_str()],
            Expression::Literal(_) | Expression::Class { .. } | Expression::Any => {
                let shape = Shape::of(expression, &|_| Shape::default());
                (shape.nullable, shape.first)
            }
            Expression::Sequence(parts) => {
                parts.iter().fold((true, Characters::default()), |(nullable, first), part| {
                    if !nullable {
                        return (nullable, first);
                    }
                    let (next_nullable, next_first) = self.begin(part);
                    (next_nullable, first.union(next_first))
                })
            }
            Expression::Choice(options) => {
                let begins = options.iter().map(|option| self.begin(option));
                begins.fold((false, Characters::default()), |a, b| (a.0 || b.0, a.1.union(b.1)))
            }
            Expression::Repeat { what, least, .. } => {
                let (nullable, first) = self.begin(what);
                (nullable || *least == 0, first)
            }
        }
    }

    /// Refuses rules that derive no text, as every text of theirs would have another one of theirs in it. A model
    /// would be led into a dead end by them.
    fn check_ends(&self) -> Result<(), GrammarError> {
        let mut ending: HashSet<&str> = HashSet::new();
        loop {
            let known = ending.len();
            let ends = |name: &&&str| self.rules.get(name).is_some_and(|rule| ends(rule, &ending));
            let found: Vec<&str> = self.begins.keys().filter(ends).copied().collect();
            ending.extend(found);
            if ending.len() == known {
                break;
            }
        }
        match self.rules.rules.iter().find(|(name, _)| self.begins.contains_key(&**name) && !ending.contains(&**name)) {
            Some((name, _)) => Err(GrammarError::Wrong(format!("no text satisfies the rule `{name}`: it never ends"))),
            None => Ok(()),
        }
    }

    /// Repeats until nothing changes: what a rule begins with follows from what others begin with.
    fn find_begins(&mut self) {
        let names: Vec<&'r str> = self.begins.keys().copied().collect();
        let mut changed = true;
        while changed {
            changed = false;
            for name in &names {
                let begin = self.begin(self.rules.get(name).expect("it was visited"));
                changed |= self.begins.insert(name, begin) != Some(begin);
            }
        }
    }

    /// The same for what may stand behind a rule.
    fn find_follow(&mut self) {
        let names: Vec<&'r str> = self.begins.keys().copied().collect();
        let mut changed = true;
        while changed {
            changed = false;
            for name in &names {
                let mut found = Vec::new();
                self.spread(self.rules.get(name).expect("it was visited"), self.follow(name), &mut found);
                for (rule, characters) in found {
                    let known = self.follow.entry(rule).or_default();
                    let all = known.union(characters);
                    changed |= all != *known;
                    *known = all;
                }
            }
        }
    }

    fn spread(&self, expression: &'r Expression, behind: Characters, found: &mut Vec<(&'r str, Characters)>) {
        match expression {
            Expression::Literal(_) | Expression::Class { .. } | Expression::Any => {}
            Expression::Rule(name) => found.push((name, behind)),
            Expression::Sequence(parts) => {
                let follow = self.follow_in_row(parts, behind);
                parts.iter().zip(follow).for_each(|(part, follow)| self.spread(part, follow, found));
            }
            Expression::Choice(options) => options.iter().for_each(|option| self.spread(option, behind, found)),
            Expression::Repeat { what, most, .. } => {
                self.spread(what, self.follow_in_repeat(what, *most, behind), found);
            }
        }
    }
}

/// Whether an expression derives a text, given the rules that do.
fn ends(expression: &Expression, rules: &HashSet<&str>) -> bool {
    match expression {
        Expression::Literal(_) | Expression::Class { .. } | Expression::Any => true,
        Expression::Rule(name) => rules.contains(name.as_str()),
        Expression::Sequence(parts) => parts.iter().all(|part| ends(part, rules)),
        Expression::Choice(options) => options.iter().any(|option| ends(option, rules)),
        Expression::Repeat { what, least, .. } => *least == 0 || ends(what, rules),
    }
}
